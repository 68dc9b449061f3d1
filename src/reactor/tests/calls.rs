//! What the server asks its clients.

use super::*;
use crate::reactor::calls::{Order, PeerOrder};

/// The kinds that matter here.
pub(super) const REQUEST: u8 = 1;
pub(super) const REPLY: u8 = 2;
const NOTIFY: u8 = 3;
pub(super) const CANCEL: u8 = 7;
pub(super) const GOODBYE: u8 = 12;

/// Bytes of the server's hello with its name behind it.
fn behind_hello(received: &[u8]) -> &[u8] {
    &received[usize::from(u16::from_le_bytes([received[4], received[5]]))..]
}

pub(super) fn v1_frame(kind: u8, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("short").to_le_bytes().to_vec();
    frame.extend([kind, 0]);
    frame.extend(msg_type.to_le_bytes());
    frame.extend(id.to_le_bytes());
    frame.extend(rc.to_le_bytes());
    frame.extend(payload);
    frame
}

impl Stage {
    /// A client that has said hello.
    pub(super) fn greeted(&mut self) -> Caller {
        let caller = self.accepted();
        caller.send(&v1_hello());
        self.turn();
        assert_eq!(behind_hello(&caller.receive()), b"");
        caller
    }

    pub(super) fn order(&mut self, what: PeerOrder) {
        let key = self.reactor.links.keys().into_iter().next().expect("a link");
        self.service.orders.push_back(Order { to: ConnectionId(key), what });
        self.reactor.mailbox.post(mailbox::Letter::Order).expect("room");
        self.turn();
        self.turn(); // In which it leaves.
    }

    fn call(&mut self, payload: &[u8], timeout: Option<Duration>) {
        self.order(PeerOrder::Call { msg_type: 5, payload: payload.to_vec(), timeout });
    }

    pub(super) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.service.news)
    }
}

#[test]
fn a_client_is_asked_and_its_answer_told() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    stage.call(b"who?", None);
    stage.order(PeerOrder::Notify { msg_type: 6, payload: b"look".into() });
    let sent = [v1_frame(REQUEST, 5, 1, 0, b"who?"), v1_frame(NOTIFY, 6, 0, 0, b"look")].concat();
    assert_eq!((caller.receive(), stage.news()), (sent, vec!["1 sent".to_owned()]));
    caller.send(&v1_frame(REPLY, 5, 1, 7, b"me"));
    stage.turn();
    assert_eq!(stage.news(), ["1 answered 7: [109, 101]"]);
}

#[test]
fn a_call_that_takes_too_long_is_cancelled() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    stage.call(b"", Some(ms(100)));
    stage.run(ms(99));
    assert_eq!((caller.receive(), stage.news()), (v1_frame(REQUEST, 5, 1, 100, b""), vec!["1 sent".into()]));
    stage.run(ms(1));
    assert_eq!(
        (caller.receive(), stage.news()),
        (v1_frame(CANCEL, 0, 1, 0, b""), vec!["1 timed out".into()])
    );
    // What came in time has come in time, however late the loop looks.
    stage.call(b"", Some(ms(100)));
    stage.world.pass(ms(99));
    caller.send(&v1_frame(REPLY, 5, 2, 0, b""));
    stage.world.pass(ms(5_000));
    stage.run(ms(1));
    assert_eq!(stage.news(), ["2 sent", "2 answered 0: []"]);
}

#[test]
fn a_client_is_asked_no_more_than_it_takes() {
    let mut stage = Stage::new(|limits| limits.listener.connection.outbox_hard = 2 << 20);
    let caller = stage.greeted();
    stage.call(&vec![0; 3 << 20], None);
    assert_eq!(stage.news(), [format!("not sent: TooLarge {{ limit: {} }}", (2 << 20) - 16)]);
    for _ in 0..64 {
        stage.call(b"", None);
    }
    stage.news();
    stage.call(b"", None);
    assert_eq!(stage.news(), ["not sent: Busy"]);
    caller.receive();
    caller.send(&v1_frame(REPLY, 5, 64, 0, b""));
    stage.turn();
    stage.call(b"", None);
    assert_eq!(stage.news(), ["64 answered 0: []", "65 sent"]);
}

/// Whatever its hello says: of one that answers nothing, nothing is forgotten.
#[test]
fn a_client_that_takes_endless_calls_is_asked_no_more_than_it_may_ask() {
    let mut stage = Stage::new(|limits| limits.listener.connection.max_in_flight = 8);
    let caller = stage.accepted();
    let mut hello = v1_hello();
    hello[20..24].fill(0xFF);
    caller.send(&hello);
    stage.turn();
    for _ in 0..8 {
        stage.call(b"", Some(ms(10)));
        stage.run(ms(20));
    }
    stage.news();
    stage.call(b"", Some(ms(10)));
    assert_eq!(stage.news(), ["not sent: Busy"]);
}

#[test]
fn who_can_t_be_asked() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    stage.call(b"", None);
    caller.send(&request(1, b""));
    stage.turn();
    stage.call(b"", None);
    assert_eq!(stage.news(), ["not sent: CantBeAsked"; 2]);
    let key = stage.reactor.links.keys().into_iter().next().expect("a link");
    caller.close();
    stage.run(ms(1));
    let what = PeerOrder::Call { msg_type: 5, payload: Vec::new(), timeout: None };
    stage.service.orders.push_back(Order { to: ConnectionId(key), what });
    stage.reactor.mailbox.post(mailbox::Letter::Order).expect("room");
    stage.turn();
    assert_eq!(stage.news(), ["not sent: Gone"]);
}

#[test]
fn a_connection_is_closed_behind_its_answers() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.greeted();
    stage.call(b"", None);
    caller.receive();
    caller.send(&v1_frame(REQUEST, 1, 1, 0, b"x"));
    stage.turn();
    stage.order(PeerOrder::Close);
    let answer = v1_frame(REPLY, 1, 1, 0, b"x");
    assert_eq!(caller.receive(), [answer, v1_frame(GOODBYE, 0, 1, 0, b"")].concat());
    stage.call(b"", None);
    assert_eq!(stage.news(), ["1 sent", "not sent: Gone"]);
}
