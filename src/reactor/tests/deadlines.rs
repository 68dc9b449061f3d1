//! Time limits, each set short: whom they end, and whom they don't.

use super::*;
use crate::reactor::system::memory::Side;

/// What a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Classic,
    V1,
}

const DIALECTS: [Dialect; 2] = [Dialect::Classic, Dialect::V1];
/// The limit that is short.
const SHORT: Duration = ms(500);
const GOODBYE: u8 = 12;

impl Dialect {
    /// One that is connected, and has said hello where that is the custom.
    fn caller(self, stage: &mut Stage) -> Caller {
        let caller = stage.accepted();
        if self == Dialect::V1 {
            caller.send(&v1_hello());
            stage.turn();
            assert_eq!(caller.receive()[..4], v1_hello()[..4]);
        }
        caller
    }

    fn first_bytes(self) -> Vec<u8> {
        match self {
            Dialect::Classic => self.request(1, &[b'x'; 50]),
            Dialect::V1 => v1_hello(),
        }
    }

    fn request(self, id: u32, payload: &[u8]) -> Vec<u8> {
        match self {
            Dialect::Classic => request(1, payload),
            Dialect::V1 => v1_frame(1, id, 0, payload),
        }
    }

    fn answer(self, id: u32, payload: &[u8]) -> Vec<u8> {
        match self {
            Dialect::Classic => reply(1, ResultCode::OK, payload),
            Dialect::V1 => v1_frame(2, id, 0, payload),
        }
    }

    /// v1 peers are told that the time was up.
    fn expect_told(self, caller: &Caller) {
        let said = caller.receive();
        match self {
            Dialect::Classic => assert!(said.is_empty(), "{said:?}"),
            Dialect::V1 => {
                let rc = ResultCode::TIMED_OUT.code().to_le_bytes();
                assert_eq!((said[4], &said[12..16]), (GOODBYE, &rc[..]), "{said:?}");
            }
        }
    }
}

fn v1_frame(kind: u8, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    let header = [&length.to_le_bytes()[..], &[kind, 0, 1, 0], &id.to_le_bytes(), &rc.to_le_bytes()].concat();
    [header, payload.to_vec()].concat()
}

/// Sends byte after byte until the loop has had enough of that, and says when: bytes that trickle in buy
/// no time.
fn end_of_trickle(stage: &mut Stage, caller: &Caller, bytes: &[u8]) -> Duration {
    assert!(bytes.len() > 20, "more than it may take");
    let begun = stage.world.now();
    for byte in &bytes[..20] {
        caller.send(&[*byte]);
        stage.run(SHORT / 10);
        if caller.server() != Side::Open {
            return stage.world.now() - begun;
        }
    }
    panic!("it may trickle for ever");
}

/// PROTOCOL C16, X9, L11
#[test]
fn a_frame_that_stays_unfinished() {
    for dialect in DIALECTS {
        let mut stage = Stage::new(|limits| limits.listener.connection.partial_frame_timeout = SHORT);
        let caller = dialect.caller(&mut stage);
        // The clock of a frame is not that of the hello, which a classic peer's first frame has.
        caller.send(&dialect.request(1, b"x"));
        stage.turn();
        assert_eq!(caller.receive(), dialect.answer(1, b"x"));
        let bytes = dialect.request(2, &[b'x'; 50]);
        assert_eq!(end_of_trickle(&mut stage, &caller, &bytes), SHORT, "{dialect:?}");
        dialect.expect_told(&caller);
        assert_eq!(stage.service.requests, 1);
    }
}

/// A frame's clock starts with its first byte: a slow stream of whole frames is fine.
#[test]
fn frames_that_come_slowly_but_whole() {
    for dialect in DIALECTS {
        let mut stage = Stage::new(|limits| limits.listener.connection.partial_frame_timeout = SHORT);
        let caller = dialect.caller(&mut stage);
        let request = |id| dialect.request(id, b"slow");
        caller.send(&request(1)[..5]);
        for id in 1..7 {
            stage.run(SHORT - ms(1));
            caller.send(&[&request(id)[5..], &request(id + 1)[..5]].concat());
            stage.turn();
            assert_eq!(caller.receive(), dialect.answer(id, b"slow"));
        }
    }
}

/// PROTOCOL C15, H16, H18, L10
#[test]
fn a_hello_that_stays_unfinished() {
    for dialect in DIALECTS {
        let mut stage = Stage::new(|limits| limits.listener.connection.hello_timeout = SHORT);
        let caller = stage.accepted();
        // Before the first byte there is no hurry.
        stage.run(Duration::from_secs(3600));
        assert_eq!(end_of_trickle(&mut stage, &caller, &dialect.first_bytes()), SHORT, "{dialect:?}");
    }
}

/// By default nobody has to speak, before the hello or behind it.
/// PROTOCOL H18
#[test]
fn silence_is_no_offence() {
    for dialect in DIALECTS {
        let mut stage = Stage::new(|_| {});
        let callers = [stage.accepted(), dialect.caller(&mut stage)];
        stage.run(Duration::from_secs(86_400));
        assert_eq!(
            (callers.map(|caller| caller.server()), stage.counters.connections()),
            ([Side::Open; 2], 2)
        );
    }
}

/// Unless anyone may connect, or the owner says so.
/// PROTOCOL H18
#[test]
fn strangers_have_so_long_to_say_something() {
    for (access, own, limit) in [
        (Access::Anyone, None, Some(10)),
        (Access::Anyone, Some(3), Some(3)),
        (Access::SameUser, Some(3), Some(3)),
        (Access::SameUser, None, None),
    ] {
        let set = |limits: &mut Limits| {
            limits.listener.first_byte_timeout = own.map(Duration::from_secs);
        };
        let mut stage = Stage::with(set, access.clone(), Carries::Frames);
        let caller = stage.accepted();
        let time = Duration::from_secs(limit.unwrap_or(3600));
        stage.run(time - ms(1));
        assert_eq!(caller.server(), Side::Open);
        stage.run(ms(1));
        assert_eq!(caller.server() == Side::Open, limit.is_none(), "{access:?}, {own:?}");
    }
}

/// PROTOCOL X10, L13
#[test]
fn who_is_idle_is_told_and_closed() {
    for dialect in DIALECTS {
        let mut stage = Stage::new(|limits| limits.listener.connection.idle_timeout = Some(SHORT));
        let silent = stage.accepted();
        let busy = dialect.caller(&mut stage);
        for id in 1..=6 {
            stage.run(SHORT - ms(1));
            busy.send(&dialect.request(id, b"busy"));
            stage.turn();
            assert_eq!(busy.receive(), dialect.answer(id, b"busy"));
        }
        assert_ne!(silent.server(), Side::Open);
        stage.run(SHORT - ms(1));
        assert_eq!(busy.server(), Side::Open);
        stage.run(ms(1));
        assert_ne!(busy.server(), Side::Open);
        dialect.expect_told(&busy);
    }
}

/// A frame of which something comes again and again is not idle, whatever buffer it goes to.
#[test]
fn a_large_frame_that_comes_slowly_is_not_idle() {
    let mut stage = Stage::new(|limits| {
        limits.listener.connection.idle_timeout = Some(SHORT);
        limits.listener.connection.partial_frame_timeout = Duration::from_secs(60);
    });
    let caller = Dialect::V1.caller(&mut stage);
    let payload = vec![b'l'; 1 << 20];
    for piece in Dialect::V1.request(1, &payload).chunks(1 << 17) {
        caller.send(piece);
        stage.run(SHORT - ms(1));
    }
    assert!(caller.receive() == Dialect::V1.answer(1, &payload));
}

/// Every piece that is read buys time: a slow reader is no dead one.
/// PROTOCOL X14, L12
#[test]
fn who_reads_slowly_gets_everything() {
    for dialect in DIALECTS {
        let mut stage = Stage::new(|limits| limits.listener.connection.write_stall_timeout = SHORT);
        let caller = dialect.caller(&mut stage);
        caller.takes(0);
        caller.send(&dialect.request(1, &[b's'; 1000]));
        let expected = dialect.answer(1, &[b's'; 1000]);
        for piece in expected.chunks(100) {
            stage.run(SHORT - ms(1));
            caller.takes(piece.len());
            stage.turn();
            assert_eq!(caller.receive(), piece);
        }
        assert_eq!(caller.server(), Side::Open);
    }
}

/// Idle, stalled, and with something fatal behind: the loop must not spin on a limit that has
/// passed and can't be acted on.
#[test]
fn several_limits_at_once_do_not_stop_the_loop() {
    let mut stage = Stage::new(|limits| {
        limits.listener.connection.idle_timeout = Some(SHORT * 2);
        limits.listener.connection.write_stall_timeout = SHORT * 3;
    });
    let callers = [(); 3].map(|()| Dialect::V1.caller(&mut stage));
    for caller in &callers {
        caller.takes(0);
        caller.send(&Dialect::V1.request(1, b"never read"));
    }
    callers[1].send(&v1_frame(99, 0, 0, b""));
    callers[2].send(&v1_frame(GOODBYE, 0, 0, b""));
    let polls = stage.world.polls();
    stage.run(SHORT * 8);
    assert_eq!(stage.counters.connections(), 0);
    assert!(stage.world.polls() - polls < 40, "{} polls", stage.world.polls() - polls);
}
