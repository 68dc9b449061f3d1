//! Integrity levels, as far as the label on a pipe tells of them.

use sidewire::{Connect, Listen};

use crate::util::{fresh, start, store, watchdog};

const ECHO: u16 = 4;

/// What a process of low integrity may have set up is not taken for ours.
#[test]
fn a_pipe_with_a_low_label_needs_a_word() {
    let _watchdog = watchdog(60);
    for scheme in ["local", "pipe"] {
        let listen = Listen::from(fresh(scheme)).lower_integrity();
        let (running, bound) = start(store(), [listen]);
        let error = Connect::to(&bound[0]).expect("an endpoint").open().expect_err("a low label");
        assert!(error.is_refused() && error.to_string().contains("integrity"), "{error}");
        let client = Connect::to(&bound[0]).expect("an endpoint").lower_integrity().open().expect("connect");
        assert_eq!(client.call(ECHO, b"low").expect("call").payload(), b"low");
        drop(client);
        running.stop().expect("the server ends well");
    }
}
