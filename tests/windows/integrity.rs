//! Integrity levels, as far as the label on a pipe tells of them.

use sidewire::{Access, Client, Connect, Error, Group, Listen, Sid, current_user};
use sidewire_platform::{Channel, current_integrity};

use crate::util::{PATIENCE, fresh, start, store, watchdog};

const ECHO: u16 = 4;
/// The levels of sandboxes, and of ordinary processes.
const LOW: u32 = 0x1000;
const MEDIUM: u32 = 0x2000;

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

/// For elevated and ordinary processes of one user, and for services: what README says of each option is what the pipe
/// asks for, and what a client of our own level makes of it. (What keeps others out, only Windows shows.)
#[test]
fn each_option_has_its_label_and_its_clients() {
    let _watchdog = watchdog(60);
    let (own, user) = (current_integrity().expect("a level"), current_user().expect("a user"));
    let logged_on = Group::Sid(Sid::new(5, &[4]).expect("a group"));
    let for_us = || Access::users([user.clone()]);
    let cases = [
        (Access::SameUser, false, own),
        (Access::SameUser, true, own.min(LOW)),
        // An elevated server for the ordinary processes of its user.
        (for_us(), false, own.min(MEDIUM)),
        (for_us(), true, own.min(LOW)),
        // A service, for whoever is logged on, and for us.
        (for_us().or_groups([logged_on]), false, own.min(MEDIUM)),
        (Access::Anyone, false, own.min(MEDIUM)),
    ];
    for (access, lower_integrity, label) in cases {
        let what = format!("{access}, lower: {lower_integrity}");
        let listen = Listen::from(fresh("pipe")).access(access);
        let listen = if lower_integrity { listen.lower_integrity() } else { listen };
        let (running, bound) = start(store(), [listen]);
        let channel = Channel::connect(&bound[0], Some(PATIENCE)).expect("connect");
        assert_eq!(channel.peer().credentials().expect("an owner").integrity(), Some(label), "{what}");
        drop(channel);
        let connect = || Connect::to(&bound[0]).expect("an endpoint");
        let ask = |opened: Result<Client, Error>| {
            let client = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(client.call(ECHO, b"hello").expect("call").payload(), b"hello", "{what}");
        };
        match connect().open() {
            Err(error) if label < own => assert!(error.is_refused(), "{what}: {error}"),
            Ok(_) if label < own => panic!("{what}: a lower label is taken without a word"),
            opened => ask(opened),
        }
        ask(connect().lower_integrity().open());
        ask(connect().access(for_us()).open());
        running.stop().expect("the server ends well");
    }
}
