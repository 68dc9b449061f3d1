//! Signs of life that the server asks its clients for.

use super::calls::{GOODBYE, v1_frame};
use super::*;
use crate::reactor::calls::PeerOrder;

const PING: u8 = 9;
const PONG: u8 = 10;

fn ping(id: u32) -> Vec<u8> {
    v1_frame(PING, 0, id, 0, b"")
}

fn pong(id: u32) -> Vec<u8> {
    v1_frame(PONG, 0, id, 0, b"")
}

impl Stage {
    fn ping(&mut self, timeout: Option<Duration>) {
        self.order(PeerOrder::Ping { timeout });
    }
}

/// PROTOCOL P4
#[test]
fn a_client_is_asked_for_a_sign_of_life() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    stage.ping(None);
    assert_eq!((caller.receive(), stage.news()), (ping(1), vec!["ping 1 sent".to_owned()]));
    stage.run(ms(30));
    caller.send(&pong(1));
    stage.turn();
    assert_eq!(stage.news(), ["ping 1 took 30ms"]);
    // One that answers nothing is skipped.
    caller.send(&[pong(1), pong(7)].concat());
    stage.turn();
    // One answers all before it.
    for _ in 0..3 {
        stage.ping(None);
        stage.run(ms(10));
    }
    caller.send(&pong(3));
    stage.turn();
    let sent = |id| format!("ping {id} sent");
    assert_eq!(
        stage.news(),
        [sent(2), sent(3), sent(4), "ping 2 took 30ms".into(), "ping 3 took 20ms".into()]
    );
    assert_eq!(caller.receive(), [ping(2), ping(3), ping(4)].concat());
}

#[test]
fn a_sign_of_life_is_waited_for_as_long_as_it_may_take() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    for timeout in [300, 100] {
        stage.ping(Some(ms(timeout)));
    }
    assert_eq!((caller.receive(), stage.news().len()), ([ping(1), ping(2)].concat(), 2));
    stage.run(ms(99));
    assert!(stage.news().is_empty());
    stage.run(ms(1));
    assert_eq!((caller.receive(), stage.news()), (vec![], vec!["ping 2 timed out".to_owned()]));
    // Late it is none for this one, but for the other.
    caller.send(&pong(2));
    stage.turn();
    assert_eq!(stage.news(), ["ping 1 took 100ms"]);
    stage.run(ms(1000));
    // What came in time has come in time, however late the loop looks.
    stage.ping(Some(ms(100)));
    stage.world.pass(ms(99));
    caller.send(&pong(3));
    stage.world.pass(ms(5_000));
    stage.run(ms(1));
    assert_eq!(stage.news(), ["ping 3 sent", "ping 3 took 5.099s"]);
    assert_eq!(stage.counters.connections(), 1, "it is nobody's end");
}

#[test]
fn no_more_than_sixty_four_wait_for_an_answer() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    (0..64).for_each(|_| stage.ping(None));
    stage.news();
    stage.ping(None);
    assert_eq!(stage.news(), ["not sent: Busy"]);
    caller.send(&pong(1));
    stage.turn();
    stage.ping(None);
    assert_eq!(stage.news()[1..], ["ping 65 sent"]);
}

/// Nor are there any for one that does not read what it was sent.
#[test]
fn who_reads_nothing_is_not_pinged() {
    let mut stage = Stage::new(|limits| limits.listener.connection.outbox_soft = 1000);
    let caller = stage.greeted();
    caller.takes(0);
    for _ in 0..3 {
        stage.order(PeerOrder::Notify { msg_type: 1, payload: vec![0; 500] });
    }
    stage.ping(None);
    assert_eq!(stage.news(), ["not sent: Busy"]);
}

#[test]
fn who_speaks_classic_or_leaves_is_not_pinged() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&request(1, b""));
    stage.turn();
    stage.ping(None);
    assert_eq!(stage.news(), ["not sent: CantBeAsked"]);
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    let key = stage.reactor.links.keys().into_iter().next().expect("a link");
    stage.ping(Some(ms(100)));
    caller.send(&v1_frame(GOODBYE, 0, 0, 0, b""));
    stage.turn();
    stage.run(ms(200));
    let told = stage.news();
    assert!(told[0] == "ping 1 sent" && told[1].starts_with("left") && told.len() == 2, "{told:?}");
    let what = PeerOrder::Ping { timeout: None };
    stage.service.orders.push_back(Order { to: ConnectionId(key), what });
    stage.reactor.mailbox.post(mailbox::Letter::Order).expect("room");
    stage.turn();
    assert_eq!(stage.news(), ["not sent: Gone"]);
}
