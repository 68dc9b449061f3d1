//! What the system may answer to reads and writes, and seldom does: in pieces, "not now" and "interrupted" again and again,
//! errors. Each in both layouts.

use sidewire_platform::Address;

use super::*;
use crate::limits::RETRY_AFTER;
use crate::reactor::system::memory::Side;

/// Bytes of a hello of ours without anything behind it.
const HELLO: usize = 72;

/// What a caller says, and what it gets; where it begins with a hello, behind ours.
struct Talk {
    said: Vec<u8>,
    answers: Vec<u8>,
    has_hello: bool,
}

impl Talk {
    fn in_both_layouts() -> [Talk; 2] {
        let long = [b'x'; 300];
        let classic = [(1, &b"one"[..]), (2, &b""[..]), (3, &long[..])];
        let said = classic.map(|(msg_type, payload)| request(msg_type, payload)).concat();
        let answers = classic.map(|(msg_type, payload)| reply(msg_type, ResultCode::OK, payload)).concat();
        let v1 = [v1_request(1, 3), v1_request(2, 0), v1_request(3, 300)];
        let v1_said = [v1_hello(), v1.concat()].concat();
        let as_replies = v1.map(|mut frame| {
            frame[4] = 2;
            frame
        });
        [
            Talk { said, answers, has_hello: false },
            Talk { said: v1_said, answers: as_replies.concat(), has_hello: true },
        ]
    }

    /// Whether that is all of it. What it may not be fails.
    fn is_over(&self, mut got: &[u8]) -> bool {
        if self.has_hello {
            let Some(length) = got.get(4..6) else { return false };
            let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
            assert!(length >= HELLO);
            let Some(behind) = got.get(length..) else { return false };
            got = behind;
        }
        assert!(self.answers.starts_with(got), "{got:?}");
        got.len() == self.answers.len()
    }

    /// Plays it, all said at once, in a world that is set so. How many polls it took until all was answered.
    fn play(&self, set: impl FnOnce(&Caller)) -> usize {
        let mut stage = Stage::new(|_| {});
        let (caller, other) = (stage.accepted(), stage.accepted());
        set(&caller);
        caller.send(&self.said);
        let (before, mut got) = (stage.world.polls(), Vec::new());
        while !self.is_over(&got) {
            assert!(stage.world.polls() - before < 5000, "{got:?}");
            stage.turn();
            got.extend(caller.receive());
        }
        let polls = stage.world.polls() - before;
        // It has not made the loop restless, and is as good as new.
        stage.run(ms(1000));
        assert!(stage.world.polls() - before - polls < 10, "the loop spins");
        other.send(&request(1, b"me"));
        stage.turn();
        assert_eq!((other.receive(), caller.server()), (reply(1, ResultCode::OK, b"me"), Side::Open));
        polls
    }
}

/// Each piece is read in a turn of its own, wherever it is cut.
#[test]
fn wherever_the_bytes_are_cut_the_answers_are_the_same() {
    for talk in Talk::in_both_layouts() {
        for cut in 1..talk.said.len() {
            let mut stage = Stage::new(|_| {});
            let caller = stage.accepted();
            let mut got = Vec::new();
            for piece in [&talk.said[..cut], &talk.said[cut..]] {
                caller.send(piece);
                stage.turn();
                assert_eq!(caller.unread(), 0);
                got.extend(caller.receive());
            }
            assert!(talk.is_over(&got), "cut at {cut}: {got:?}");
        }
    }
}

/// Any number of bytes at a time, in either direction and in both: each read and each event brings some, and none is
/// waited for in vain.
#[test]
fn reads_and_writes_may_be_as_short_as_they_like() {
    for talk in Talk::in_both_layouts() {
        let (bytes, answers) = (talk.said.len(), talk.answers.len() + 2 * HELLO);
        for at_a_time in [1, 2, 3, 11, 12, 13, 16, 17, 100] {
            let reads = talk.play(|caller| caller.comes_at_a_time(at_a_time));
            assert!(
                reads <= bytes.div_ceil(at_a_time) + 5,
                "{reads} polls for {bytes} bytes, {at_a_time} a time"
            );
            // What is left over is written at once where there is room.
            let writes = talk.play(|caller| caller.takes_at_a_time(at_a_time));
            assert!(writes <= answers.div_ceil(at_a_time) + 5, "{writes} polls for {answers} bytes");
            talk.play(|caller| {
                caller.comes_at_a_time(at_a_time);
                caller.takes_at_a_time(at_a_time);
            });
        }
    }
}

/// Room for one byte, and then for one more: an event tells of each.
#[test]
fn room_may_come_byte_by_byte() {
    for talk in Talk::in_both_layouts() {
        let mut stage = Stage::new(|_| {});
        let caller = stage.accepted();
        caller.takes(0);
        caller.send(&talk.said);
        let (before, mut got) = (stage.world.polls(), Vec::new());
        while !talk.is_over(&got) {
            stage.turn();
            assert!(stage.turn(), "and nothing happens without room");
            let more = caller.receive();
            assert!(more.len() <= 1, "{more:?}");
            got.extend(more);
            caller.takes(1);
        }
        let polls = stage.world.polls() - before;
        assert!(polls <= 2 * (got.len() + 2), "{polls} polls for {} bytes", got.len());
    }
}

#[test]
fn signals_cost_no_turn() {
    for talk in Talk::in_both_layouts() {
        let usual = talk.play(|_| ());
        let interrupted = talk.play(|caller| {
            caller.fail_reads(50, io::ErrorKind::Interrupted);
            caller.fail_writes(50, io::ErrorKind::Interrupted);
        });
        assert_eq!(interrupted, usual);
    }
}

/// Events that lie, one after the other: each costs one turn, and nothing is done in between.
#[test]
fn a_storm_of_not_now_costs_a_turn_each() {
    const STORM: usize = 200;
    for talk in Talk::in_both_layouts() {
        let usual = talk.play(|_| ());
        for (reads, writes) in [(STORM, 0), (0, STORM), (STORM, STORM)] {
            let polls = talk.play(|caller| {
                caller.fail_reads(reads, io::ErrorKind::WouldBlock);
                caller.fail_writes(writes, io::ErrorKind::WouldBlock);
            });
            let expected = usual + reads + writes;
            assert!(
                (expected..=expected + 3).contains(&polls),
                "{polls} polls, {reads} and {writes} were in vain"
            );
        }
    }
}

/// All at once: short, "not now" and interrupted, in an order that depends on the seed.
#[test]
fn any_mixture_of_these_changes_nothing() {
    use io::ErrorKind::{Interrupted, WouldBlock};

    for talk in Talk::in_both_layouts() {
        for seed in 1_u32..200 {
            let mut state = seed;
            let mut next = |below: u32| {
                // xorshift, as Marsaglia has it: the same on every run.
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state % below
            };
            talk.play(|caller| {
                caller.comes_at_a_time(1 + next(20) as usize);
                caller.takes_at_a_time(1 + next(20) as usize);
                for _ in 0..next(30) {
                    caller.fail_reads(1, if next(2) == 0 { Interrupted } else { WouldBlock });
                    caller.fail_writes(1, if next(2) == 0 { Interrupted } else { WouldBlock });
                }
            });
        }
    }
}

/// Whatever else a read or a write says ends the connection that it was for, at any point of the talk, and no other.
#[test]
fn an_error_costs_the_connection_that_it_was_for() {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, Other, OutOfMemory, PermissionDenied, TimedOut};

    for talk in Talk::in_both_layouts() {
        for kind in [BrokenPipe, ConnectionReset, Other, OutOfMemory, PermissionDenied, TimedOut] {
            for is_read in [true, false] {
                for said in [12, 40, 60, talk.said.len()] {
                    let mut stage = Stage::new(|_| {});
                    let (caller, other) = (stage.accepted(), stage.accepted());
                    caller.send(&talk.said[..said]);
                    stage.turn();
                    match is_read {
                        true => caller.fail_reads(1, kind),
                        false => caller.fail_writes(1, kind),
                    }
                    caller.send(&talk.said);
                    stage.run(ms(1));
                    let what = format!("{kind:?}, a read: {is_read}, behind {said} bytes");
                    assert!(!matches!(caller.server(), Side::Open | Side::ShutDown), "{what}");
                    assert_eq!(stage.counters.connections(), 1, "{what}");
                    other.send(&request(1, b"me"));
                    stage.turn();
                    assert_eq!(other.receive(), reply(1, ResultCode::OK, b"me"), "{what}");
                }
            }
        }
    }
}

/// No event tells when it is over: each is tried again a little later, and what waits is not lost.
#[test]
fn datagrams_that_can_not_be_received_are_waited_for_without_a_spin() {
    const FAILURES: usize = 100;
    let mut stage = Stage::new(|_| {});
    stage.bind(Access::SameUser, Carries::Messages);
    let (caller, who) = (stage.accepted(), Address::Path("/caller".into()));
    for kind in [io::ErrorKind::OutOfMemory, io::ErrorKind::Other, io::ErrorKind::Interrupted] {
        stage.world.fail_receives(0, FAILURES, kind);
        stage.world.datagram(0, &who, WE, b"hello");
        let (polls, begun) = (stage.world.polls(), stage.world.now());
        while stage.world.sent(0).is_empty() {
            stage.turn_within(ms(1000));
        }
        let (polls, took) = (stage.world.polls() - polls, stage.world.now() - begun);
        assert!((FAILURES..=2 * FAILURES + 5).contains(&polls), "{polls} polls for {FAILURES} failures");
        assert!(took >= RETRY_AFTER * FAILURES as u32, "{took:?}");
        caller.send(&request(1, b"me"));
        stage.turn();
        assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"me"));
    }
}
