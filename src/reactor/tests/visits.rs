//! Who is told of connections with frames, when, and how often.

use super::*;
use sidewire_wire::Layout;

/// The same with an app's name.
fn named_hello(name: &str) -> Vec<u8> {
    let mut hello = v1_hello();
    hello.extend([4, 0, name.len() as u8, 0]);
    hello.extend(name.as_bytes());
    hello[4] = hello.len() as u8;
    hello
}

impl Stage {
    fn visits(&mut self) -> Vec<String> {
        std::mem::take(&mut self.service.visits)
    }
}

#[test]
fn a_connection_is_told_of_with_its_hello_and_at_its_end() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    assert_eq!(stage.visits(), [""; 0], "it has said nothing yet");
    let hello = named_hello("editor");
    caller.send(&hello[..50]);
    stage.turn();
    assert_eq!(stage.visits(), [""; 0], "nor all of it");
    caller.send(&hello[50..]);
    caller.send(&v1_request(1, 3));
    stage.turn();
    assert_eq!((stage.visits(), stage.service.requests), (vec!["#0 V1, editor".to_owned()], 1));
    caller.send(&v1_request(2, 3));
    stage.turn();
    assert_eq!(stage.visits(), [""; 0]);
    caller.close();
    stage.run(ms(10));
    assert_eq!(stage.visits(), ["#0 closed in order"]);
}

#[test]
fn in_the_classic_layout_the_first_request_tells() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    stage.run(ms(10));
    assert_eq!(stage.visits(), [""; 0]);
    caller.send(&[request(1, b"x"), request(1, b"y")].concat());
    stage.turn();
    assert_eq!((stage.visits(), stage.service.requests), (vec!["#0 Classic".to_owned()], 2));
    caller.reset();
    stage.run(ms(10));
    let visits = stage.visits();
    assert!(visits.len() == 1 && visits[0].starts_with("#0 broken"), "{visits:?}");
}

/// Nobody is told of who was not let in, who said nothing, or nothing that makes sense.
#[test]
fn who_never_was_a_client_is_not_told_of() {
    let mut stage = Stage::new(|_| {});
    let stranger = stage.world.connect_as(0, OTHERS);
    stranger.send(&named_hello("spy"));
    let silent = stage.connect();
    let odd = stage.connect();
    let mut hello = v1_hello();
    hello[6..8].copy_from_slice(&[9, 9]);
    odd.send(&hello);
    let broken = stage.connect();
    broken.send(&frame(1, 0, b"")[..7]);
    stage.run(ms(10));
    for caller in [&stranger, &silent, &odd, &broken] {
        caller.close();
    }
    stage.run(Duration::from_secs(10));
    assert_eq!((stage.visits(), stage.counters.connections()), (Vec::new(), 0));
}

#[test]
fn each_end_is_told_of_once_with_its_reason() {
    let mut stage = Stage::new(|limits| limits.listener.connection.idle_timeout = Some(ms(500)));
    let idle = stage.accepted();
    idle.send(&v1_hello());
    let wrong = stage.accepted();
    wrong.send(&v1_hello());
    stage.turn();
    assert_eq!(stage.visits(), ["#0 V1", "#1 V1"]);
    wrong.send(&[0xFF; 16]);
    stage.run(ms(100));
    wrong.close();
    stage.run(ms(1000));
    idle.close();
    stage.run(ms(3000));
    let visits = stage.visits();
    assert!(visits.len() == 2 && visits[0].starts_with("#1 ") && visits[1].starts_with("#0 "), "{visits:?}");
    assert!(visits[1].contains("no sign of life"), "{visits:?}");
}

#[test]
fn a_server_that_stops_tells_of_all() {
    let mut stage = Stage::new(|_| {});
    let callers = [stage.accepted(), stage.accepted()];
    callers[0].send(&v1_hello());
    callers[1].send(&request(1, b""));
    stage.turn();
    assert_eq!(stage.visits().len(), 2);
    stage.reactor.mailbox.stop(ms(100)).expect("woken");
    while stage.turn_within(ms(10)) {}
    let mut visits = stage.visits();
    visits.sort();
    assert!(visits.len() == 2 && visits[0].starts_with("#0") && visits[1].starts_with("#1"), "{visits:?}");
}

#[test]
fn whoever_is_there_is_listed_with_what_has_passed() {
    let mut stage = Stage::new(|_| {});
    let (silent, first, second) = (stage.accepted(), stage.accepted(), stage.accepted());
    stage.world.pass(Duration::from_secs(5));
    first.send(&named_hello("editor"));
    second.send(&request(1, b"hello"));
    stage.turn();
    stage.service.defers = true;
    first.send(&v1_request(1, 3));
    stage.turn();
    let peers = stage.reactor.peers();
    let seen: Vec<_> = peers
        .iter()
        .map(|peer| {
            let app = peer.app.as_ref().map(ToString::to_string);
            (peer.connection.to_string(), peer.layout, app, peer.bytes_received, peer.calls_in_flight)
        })
        .collect();
    let editor = Some("editor".to_owned());
    let expected = [
        ("#1".to_owned(), Some(Layout::V1), editor, 58 + 19, 1),
        ("#2".to_owned(), Some(Layout::Classic), None, 17, 0),
    ];
    assert_eq!(seen, expected);
    assert_eq!(peers[1].bytes_sent, 17);
    assert!(peers[0].since.elapsed().is_ok_and(|age| age >= Duration::from_secs(5)));
    drop((silent, first, second));
}
