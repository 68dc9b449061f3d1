//! Mailslots: messages one way, and frames that want no answer.

use std::sync::mpsc;

use sidewire::{Access, Client, Connect, Endpoint, Server};

use crate::program::{Server as Example, Talk};
use crate::stage::{fresh, lines};
use crate::util::{Dialect, PATIENCE, start, store, unique, until, usual, watchdog};

fn connect(endpoint: &Endpoint) -> Connect {
    Connect::to(endpoint).expect("an endpoint").access(Access::Anyone)
}

fn client(dialect: Dialect, endpoint: &Endpoint) -> Client {
    crate::stage::speaks(dialect, connect(endpoint)).open().expect("connect")
}

#[test]
fn requests_that_want_no_answer() {
    let _watchdog = watchdog(60);
    for dialect in [Dialect::V1, Dialect::Classic] {
        let server = store();
        let counters = server.counters();
        let listen = [usual(&fresh("mailslot")), usual(&fresh("udp"))];
        let (running, bound) = start(server, listen);
        let client = client(dialect, &bound[0]);
        let text = unique("by mailslot");
        client.notify(2, &text).expect("notify");
        until("it is served", || counters.notifies() + counters.requests() == 1);
        assert_eq!(
            crate::stage::client(Dialect::V1, &bound[1]).call(1, b"").expect("get").payload(),
            text.as_bytes()
        );
        let error = client.call(1, b"").expect_err("nothing comes back");
        assert!(error.is_invalid_input(), "{error}");
        assert_eq!(counters.datagrams_dropped(), 0);
        running.stop().expect("the server ends well");
    }
}

#[test]
fn messages_in_order_and_with_their_boundaries() {
    let _watchdog = watchdog(60);
    let (seen, messages) = mpsc::channel();
    let mut server = Server::new(());
    let bound = server.listen_messages(usual(&fresh("mailslot")), move |(), message, reply| {
        assert!(message.sender().is_none() && message.local_address().is_none());
        reply.send(b"to nobody");
        seen.send(message.bytes().to_vec()).expect("send");
    });
    let bound = bound.expect("listen");
    let running = server.spawn().expect("spawn");
    let client = connect(&bound).call_timeout(Some(PATIENCE)).open_messages().expect("connect");
    // Not an empty one: Wine 8 loses it.
    for size in [1, 424, 425, 1_000, 60_000, 3] {
        client.send(vec![7; size]).expect("send");
        assert_eq!(messages.recv_timeout(PATIENCE).expect("a message"), vec![7; size]);
    }
    for number in 0..500_u32 {
        client.send(number.to_le_bytes()).expect("send");
        if number % 50 == 49 {
            for number in number - 49..=number {
                assert_eq!(messages.recv_timeout(PATIENCE).expect("a message"), number.to_le_bytes());
            }
        }
    }
    client.receive(&mut [0; 8]).expect_err("nothing comes back");
    running.stop().expect("the server ends well");
}

#[test]
fn nobody_there() {
    let _watchdog = watchdog(60);
    let error = connect(&fresh("mailslot")).open().expect_err("nobody is there");
    assert!(error.is_not_listening(), "{error}");
}

#[test]
fn the_example() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("mailslot").to_string();
    let server = Example::start("datagram", &[&endpoint, "--echo"]);
    let mut client = Talk::example("datagram", &["send", &endpoint]);
    client.wait_for("send: ");
    client.say("hello\nbell\x07\nexit\n");
    let printed = String::from_utf8(client.wait().expect(0).stdout).expect("text");
    assert!(!printed.contains("sent from"), "{printed}");
    // Nobody knows who writes.
    assert_eq!(lines(&server, 2), ["hello", r"bell\u{7}"]);
}
