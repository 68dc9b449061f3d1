//! Requests that are answered later.

use std::time::Duration;

use sidewire::{ResultCode, Server};

use crate::stage::{Socket, all, client, fresh, is_udp, v1, v1_call};
use crate::util::{Dialect, start, usual, watchdog};

const LATER: u16 = 1;

/// A server that answers after as many milliseconds as the payload has bytes.
fn server() -> Server<()> {
    let mut server = Server::new(());
    server.on(LATER, |(), request, reply| {
        let payload = request.to_vec()?;
        let responder = reply.defer()?;
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(payload.len() as u64));
            responder.reply(payload);
        });
        Ok(())
    });
    server
}

#[test]
fn a_datagram_is_answered_later() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(server(), all().iter().map(usual));
    for endpoint in &bound {
        for dialect in Dialect::ALL {
            let client = client(dialect, endpoint);
            for length in [0, 20] {
                let payload = vec![b'x'; length];
                let reply = client.call(LATER, &payload).expect("call");
                assert_eq!(reply.into_payload(), payload, "{dialect:?} on {endpoint}");
            }
        }
    }
    running.stop().expect("the server ends well");
}

/// PROTOCOL D10a, D10b
#[test]
fn senders_may_give_up_and_others_are_answered_meanwhile() {
    let _watchdog = watchdog(60);
    let endpoint = all().into_iter().find(is_udp).unwrap_or_else(|| fresh("udp"));
    let (running, bound) = start(server(), [usual(&endpoint)]);
    let (one, other) = (Socket::connect(&bound[0]), Socket::connect(&bound[0]));
    let long = [b'x'; 5000];
    one.send(&v1(1, 0, LATER, 7, 50, &long));
    one.send(&v1(1, 0, LATER, 8, 0, &long));
    // Another's word does not count.
    other.send(&v1(7, 0, 0, 8, 0, b""));
    assert_eq!(other.ask(&v1_call(LATER, 1, b"quick")), v1(2, 0, LATER, 1, 0, b"quick"));
    let refused = |id, rc: ResultCode, text: &str| v1(2, 4, LATER, id, rc.code(), text.as_bytes());
    assert_eq!(one.receive(), refused(7, ResultCode::TIMED_OUT, "its time is over"));
    one.send(&v1(7, 0, 0, 8, 0, b""));
    assert_eq!(one.receive(), refused(8, ResultCode::CANCELLED, "its caller has cancelled it"));
    one.send(&v1(1, 0, LATER, 9, 0, &long));
    assert_eq!(one.ask(&v1_call(LATER, 10, b"")), v1(2, 0, LATER, 10, 0, b""));
    running.stop().expect("the server ends well");
    assert_eq!(one.receive(), refused(9, ResultCode::SHUTTING_DOWN, "the server ends"));
}
