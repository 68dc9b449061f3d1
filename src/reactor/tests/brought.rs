//! Streams that the program has brought along, of which one may lead to its parent.

use super::calls::{CANCEL, GOODBYE, REPLY, REQUEST, v1_frame};
use super::events::DROPS;
use super::*;

const EVENT: u8 = 4;
const SUBSCRIBE: u8 = 5;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A responder's hello that says yes, of one that takes 64 calls at a time.
fn v1_answer() -> Vec<u8> {
    let mut answer = v1_hello();
    answer[4..6].copy_from_slice(&72u16.to_le_bytes());
    answer.extend(0i32.to_le_bytes());
    answer.extend([1, 0, 0, 0]);
    answer.extend([5; 16]);
    answer
}

impl Stage {
    fn parent_site(&self) -> Site {
        let site = self.site("local:parent", Access::Anyone, Carries::Frames);
        let settings = Settings::new(self.limits.listener.connection.clone(), Classic::Refused);
        let endpoint = Endpoint::Unnamed("parent".into());
        Site { endpoint, greets: Greets::We, settings: Arc::new(settings), ..site }
    }

    fn brings_parent(&mut self) -> Caller {
        let (stream, parent) = self.world.pair(WE);
        let site = self.parent_site();
        self.reactor.bring_parent(stream, site).expect("a place");
        parent
    }

    fn brings(&mut self, user: u32) -> Caller {
        let (stream, peer) = self.world.pair(user);
        let site = self.site("local:own", Access::SameUser, Carries::Frames);
        self.reactor.bring(stream, &Access::SameUser, || site).expect("a place");
        peer
    }
}

#[test]
fn the_parent_is_greeted_when_the_loop_first_turns() {
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    assert_eq!(parent.receive(), b"");
    stage.turn();
    let hello = parent.receive();
    assert_eq!(hello[..4], [0xD1, 0x53, 0x57, 0xD1]);
    assert_eq!(usize::from(u16::from_le_bytes([hello[4], hello[5]])), hello.len());
    assert_eq!(stage.service.visits, Vec::<String>::new());
    // However long the parent takes, and in whatever pieces it answers.
    stage.run(Duration::from_secs(86_400));
    for byte in v1_answer() {
        parent.send(&[byte]);
        stage.turn();
    }
    assert_eq!(stage.service.visits.len(), 1);
    parent.send(&v1_request(1, 3));
    stage.turn();
    assert_eq!(parent.receive(), v1_frame(REPLY, 1, 1, 0, b"xxx"));
    assert_eq!(stage.service.requests, 1);
}

/// Nothing is dispatched before both hellos are there; what came with the second is handled behind it.
#[test]
fn requests_come_behind_the_answer() {
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    parent.send(&[v1_answer(), v1_request(1, 1), v1_request(2, 1)].concat());
    stage.turn();
    stage.run(ms(1));
    let sent = parent.receive();
    let length = usize::from(u16::from_le_bytes([sent[4], sent[5]]));
    assert_eq!(sent[length..], [v1_frame(REPLY, 1, 1, 0, b"x"), v1_frame(REPLY, 1, 2, 0, b"x")].concat());

    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    parent.send(&v1_request(1, 1));
    assert!(!stage.run(Duration::from_secs(60)), "it is no Sidewire parent, so there is nothing to do");
    assert_eq!((stage.service.requests, stage.service.visits.len()), (0, 0));
}

/// Who has said hello first makes no difference behind the hellos.
#[test]
fn both_sides_do_all_that_there_is() {
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    parent.send(&v1_answer());
    stage.turn();
    parent.receive();
    // The parent subscribes, is told, and asks for a sign of life.
    parent.send(&[v1_frame(SUBSCRIBE, DROPS, 1, 0, b""), v1_frame(PING, 0, 9, 0, b"")].concat());
    stage.turn();
    let expected = [v1_frame(REPLY, DROPS, 1, 0, b""), v1_frame(PONG, 0, 9, 0, b"")].concat();
    assert_eq!(parent.receive(), expected);
    stage.reactor.mailbox().publish(DROPS, b"news").expect("room");
    stage.turn();
    assert_eq!(parent.receive(), v1_frame(EVENT, DROPS, 1, 0, b"news"));
    // It is asked, and answers.
    stage.order(PeerOrder::Call { msg_type: 5, payload: b"who?".into(), timeout: None });
    assert_eq!(
        (parent.receive(), stage.news()),
        (v1_frame(REQUEST, 5, 1, 0, b"who?"), vec!["1 sent".into()])
    );
    parent.send(&v1_frame(REPLY, 5, 1, 0, b""));
    stage.turn();
    assert_eq!(stage.news(), ["1 answered 0: []"]);
    // It takes back what is answered later.
    stage.service.defers = true;
    parent.send(&[v1_request(2, 0), v1_frame(CANCEL, 0, 2, 0, b"")].concat());
    stage.turn();
    assert_eq!(parent.receive()[12..16], ResultCode::CANCELLED.code().to_le_bytes());
    assert_eq!(stage.service.deferred[0].unwanted(), Some(Unwanted::Cancelled));
}

#[test]
fn a_loop_that_serves_its_parent_only_ends_with_it() {
    for end in [Caller::close as fn(&Caller), Caller::reset, Caller::shut_down] {
        let mut stage = Stage::bare(|_| {});
        let parent = stage.brings_parent();
        parent.send(&v1_answer());
        assert!(stage.turn() && stage.turn());
        end(&parent);
        assert!(!stage.run(Duration::from_secs(60)));
        assert_eq!(stage.service.visits.len(), 2, "{:?}", stage.service.visits);
    }
}

#[test]
fn a_parent_that_says_goodbye_gets_its_answers_first() {
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    parent.send(&v1_answer());
    stage.turn();
    parent.receive();
    parent.send(&[v1_request(1, 1), v1_frame(GOODBYE, 0, 0, 0, b"")].concat());
    stage.turn();
    let sent = parent.receive();
    assert!(sent.starts_with(&v1_frame(REPLY, 1, 1, 0, b"x")), "{sent:?}");
    parent.close();
    assert!(!stage.run(Duration::from_secs(60)));
}

#[test]
fn a_loop_with_another_way_in_goes_on_without_its_parent() {
    let mut stage = Stage::new(|_| {});
    let parent = stage.brings_parent();
    parent.send(&v1_answer());
    stage.turn();
    parent.close();
    assert!(stage.run(Duration::from_secs(60)));
    let caller = stage.accepted();
    caller.send(&request(1, b"hello"));
    stage.turn();
    assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"hello"));
}

#[test]
fn who_is_still_there_is_served_when_the_parent_has_gone() {
    let mut stage = Stage::bare(|_| {});
    let (parent, peer) = (stage.brings_parent(), stage.brings(WE));
    parent.send(&v1_answer());
    stage.turn();
    parent.close();
    assert!(stage.run(Duration::from_secs(60)));
    peer.send(&request(1, b"hello"));
    stage.turn();
    assert_eq!(peer.receive(), reply(1, ResultCode::OK, b"hello"));
    peer.close();
    assert!(!stage.run(Duration::from_secs(60)));
}

/// What a parent does not admit, or does not understand, is an end like any other.
#[test]
fn a_parent_that_refuses_is_an_end() {
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    let mut refusal = v1_answer();
    refusal[48..52].copy_from_slice(&ResultCode::BUSY.code().to_le_bytes());
    parent.send(&refusal);
    parent.close();
    assert!(!stage.run(Duration::from_secs(60)));
    assert_eq!((stage.service.requests, stage.service.visits.len()), (0, 0));
}

#[test]
fn streams_of_the_program_s_own_are_served_as_those_of_a_listener() {
    let mut stage = Stage::bare(|limits| limits.listener.max_connections = 2);
    let peers = [stage.brings(WE), stage.brings(WE), stage.brings(WE)];
    peers[0].send(&request(1, b"classic"));
    peers[1].send(&v1_hello());
    peers[2].send(&request(1, b"one too many"));
    stage.run(ms(1));
    assert_eq!(peers[0].receive(), reply(1, ResultCode::OK, b"classic"));
    assert_eq!(peers[1].receive()[..4], [0xD1, 0x53, 0x57, 0xD1]);
    assert_eq!(peers[2].receive(), reply(1, ResultCode::BUSY, b""));
    let stranger = stage.brings(OTHERS);
    peers[0].close();
    stranger.send(&request(1, b""));
    stage.run(ms(1));
    assert_eq!(stranger.receive(), reply(1, ResultCode::NOT_PERMITTED, b""));
    peers[1].close();
    // Only a parent's end is an end of the loop.
    assert!(stage.run(Duration::from_secs(60)));
}

#[test]
fn a_loop_that_stops_says_goodbye_to_its_parent() {
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    parent.send(&v1_answer());
    stage.turn();
    parent.receive();
    stage.reactor.mailbox.stop(ms(100)).expect("awake");
    stage.turn();
    assert_eq!(parent.receive()[4], GOODBYE);
    // One that was never taken in hears nothing, and is closed.
    let mut stage = Stage::bare(|_| {});
    let parent = stage.brings_parent();
    stage.reactor.mailbox.stop(ms(100)).expect("awake");
    assert!(!stage.run(ms(200)));
    assert_ne!(parent.server(), system::memory::Side::Open);
}
