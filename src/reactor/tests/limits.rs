//! Each limit that a loop can be at: it is counted by its name, and the log says who was there.

use std::cell::RefCell;
use std::sync::Once;

use sidewire_platform::Address;

use super::calls::{REPLY, REQUEST, v1_frame};
use super::deferred::CANCEL;
use super::*;
use crate::counters::Limit;
use crate::limits::{
    ListenerLimits, MAX_DEFERRED_OF_ONE, MAX_QUEUED_DATAGRAMS, MAX_REFUSING, MAX_UNWANTED, READ_BUFFER,
};
use crate::reactor::calls::PeerOrder;
use crate::reactor::system::memory::Failure as Fails;
use sidewire_wire::{ConnectionLimits, MAX_ATTACHED, MAX_ATTACHED_LEAVING, Parcel};

const SHORT: Duration = ms(200);

/// Those that it takes a system to reach, or a lack of memory. What is done at them has its tests in `wire/src/tests`,
/// `attached.rs` and `memory.rs`.
const ELSEWHERE: [Limit; 2] = [Limit::MaxAttachments, Limit::Memory];

thread_local! {
    /// What this thread logs, where somebody listens.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Listening;

impl log::Log for Listening {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info && LINES.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.push(line.clone())));
        }
    }

    fn flush(&self) {}
}

/// What is logged meanwhile.
fn logged<T>(what: impl FnOnce() -> T) -> (T, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Listening).expect("no other unit test has one");
        log::set_max_level(log::LevelFilter::Info);
    });
    LINES.set(Some(Vec::new()));
    let result = what();
    (result, LINES.take().unwrap_or_default())
}

#[test]
fn each_limit_is_counted_and_told_with_who_was_there() {
    for limit in Limit::ALL.iter().copied().filter(|limit| !ELSEWHERE.contains(limit)) {
        let (stage, lines) = logged(|| at(limit));
        let counted = stage.counters.stats().limits;
        assert!(counted.get(limit.name()) >= Some(&1), "{limit}: {counted:?}");
        let line = lines.iter().find(|line| line.contains(&format!("({limit})")));
        let line = line.unwrap_or_else(|| panic!("{limit} is not told: {lines:?}"));
        // Who it was, but where it is nobody in particular.
        let who = ["uid 1000", "uid 2000", "127.0.0.1", "/caller-0"];
        assert!(limit == Limit::Descriptors || who.iter().any(|who| line.contains(who)), "{line}");
        assert!(line.ends_with(" so far"), "{line}");
    }
}

/// However often it happens.
#[test]
fn of_a_flood_few_lines_are_told_and_all_is_counted() {
    let mut stage = Stage::new(|limits| limits.listener.max_connections = 0);
    let ((), lines) = logged(|| {
        for _ in 0..200 {
            stage.connect().close();
            stage.turn();
        }
    });
    let told = lines.iter().filter(|line| line.contains("(max_connections)")).count();
    assert!((8..20).contains(&told), "{told}: {lines:?}");
    assert_eq!(stage.counters.stats().limits["max_connections"], 200);
}

/// That of a reply in parts; which of the two limits it is for.
#[test]
fn a_reply_that_waits_for_its_caller_is_told() {
    for (credit, limit) in [(0, "(stream_credit)"), (1 << 30, "(outbox_soft)")] {
        let mut stage = Stage::new(|limits| limits.listener.connection.outbox_soft = 1000);
        stage.service.defers = true;
        let caller = stage.accepted();
        let mut hello = v1_hello();
        hello[28..32].copy_from_slice(&u32::to_le_bytes(credit));
        caller.send(&hello);
        stage.turn();
        caller.takes(0);
        caller.send(&v1_request(1, 0));
        stage.turn();
        let call = Arc::clone(&stage.service.deferred[0]);
        call.begin_stream(usize::MAX);
        let ((), lines) = logged(|| {
            for _ in 0..3 {
                call.send_part(vec![0; 1000], IfFull::Fail).expect("room");
            }
            stage.run(ms(1));
        });
        assert!(stage.counters.streams_stalled() > 0);
        let is_told = |line: &String| line.contains(limit) && line.contains("uid 1000");
        assert!(lines.iter().any(is_told), "{limit}: {lines:?}");
    }
}

#[test]
fn what_the_system_does_not_let_us_do_is_counted() {
    let mut stage = Stage::new(|_| {});
    stage.world.fail_accepts(0, 3, Fails::Aborted);
    let (caller, lines) = logged(|| stage.accepted());
    assert_eq!(stage.counters.stats().system_errors, 3);
    assert_eq!(lines.iter().filter(|line| line.contains("accepting fails")).count(), 1, "{lines:?}");
    drop(caller);
}

/// A stage on which somebody has just been at this limit.
fn at(limit: Limit) -> Stage {
    match limit {
        Limit::MaxBuffered => buffered(WE),
        Limit::ShareOfBuffered => buffered(OTHERS),
        Limit::MaxConnections => coming(|limits| limits.max_connections = 1, Access::SameUser, WE, 2),
        Limit::MaxConnectionsPerPeer => {
            coming(|limits| limits.max_connections_per_peer = Some(1), Access::Anyone, OTHERS, 2)
        }
        Limit::Refusals => coming(|_| {}, Access::SameUser, OTHERS, MAX_REFUSING + 1),
        Limit::FirstByteTimeout => {
            coming(|limits| limits.first_byte_timeout = Some(SHORT), Access::Anyone, OTHERS, 1)
        }
        Limit::HelloTimeout => said(|limits| limits.hello_timeout = SHORT, &v1_hello()[..5]),
        Limit::PartialFrameTimeout => {
            said(|limits| limits.partial_frame_timeout = SHORT, &greeting(&v1_request(1, 9)[..20]))
        }
        Limit::IdleTimeout => said(|limits| limits.idle_timeout = Some(SHORT), &greeting(&[])),
        Limit::MaxPayload => said(|limits| limits.max_payload = 1024, &greeting(&v1_request(1, 1025))),
        Limit::MaxInFlight => said(|limits| limits.max_in_flight = 1, &greeting(&requests(2, 0))),
        Limit::MaxInFlightBytes => {
            said(|limits| limits.max_in_flight_bytes = 1024, &greeting(&requests(2, 600)))
        }
        Limit::WriteStallTimeout => unread(|limits| limits.write_stall_timeout = SHORT, 100),
        Limit::OutboxHard => {
            unread(|limits| (limits.outbox_soft, limits.outbox_hard) = (50_000, 50_000), 60_000)
        }
        Limit::OutboxSoft => slow_subscriber(),
        Limit::StreamCredit => part_without_credit(),
        Limit::Unproven => super::unproven::crowded(),
        Limit::Descriptors => {
            let mut stage = Stage::new(|_| {});
            stage.world.fail_accepts(0, 1, Fails::OutOfDescriptors);
            drop(stage.accepted());
            stage
        }
        Limit::QueuedDatagrams => datagrams(Carries::Messages, MAX_QUEUED_DATAGRAMS + 1, b"x"),
        Limit::DeferredDatagrams => datagrams(Carries::Frames, MAX_DEFERRED_OF_ONE + 1, &request(1, b"")),
        Limit::DatagramSize => datagrams(Carries::Messages, 1, &vec![0; READ_BUFFER + 1]),
        Limit::Unwanted => unwanted(),
        Limit::AttachmentsLeaving => attachments_behind_parts(),
        Limit::ShareOfAttachments => super::attachments::crowded(),
        Limit::MaxAttachments | Limit::Memory => unreachable!("it is reached elsewhere"),
    }
}

fn greeting(behind: &[u8]) -> Vec<u8> {
    [&v1_hello(), behind].concat()
}

fn requests(count: u32, length: u32) -> Vec<u8> {
    (1..=count).flat_map(|id| v1_request(id, length)).collect()
}

/// So many of one user connect, and are silent.
fn coming(set: impl FnOnce(&mut ListenerLimits), access: Access, user: u32, count: usize) -> Stage {
    let mut stage = Stage::with(|limits| set(&mut limits.listener), access, Carries::Frames);
    let callers: Vec<Caller> = (0..count).map(|_| stage.world.connect_as(0, user)).collect();
    stage.run(SHORT * 2);
    callers.iter().for_each(Caller::close);
    stage.run(ms(1));
    stage
}

/// One says this, and then nothing; what he asks is answered by nobody.
fn said(set: impl FnOnce(&mut ConnectionLimits), bytes: &[u8]) -> Stage {
    let mut stage = Stage::new(|limits| set(&mut limits.listener.connection));
    stage.service.defers = true;
    let caller = stage.accepted();
    caller.send(bytes);
    stage.run(SHORT * 2);
    caller.close();
    stage.run(ms(1));
    stage
}

/// One reads nothing of a reply.
fn unread(set: impl FnOnce(&mut ConnectionLimits), length: usize) -> Stage {
    let mut stage = Stage::new(|limits| set(&mut limits.listener.connection));
    stage.service.replies = Some(length);
    let caller = stage.accepted();
    caller.takes(0);
    caller.send(&greeting(&v1_request(1, 0)));
    stage.run(SHORT * 2);
    stage
}

/// Ten connections of a user hold more than all may, or he.
fn buffered(user: u32) -> Stage {
    let set = |limits: &mut Limits| limits.max_buffered = 500 << 10;
    let mut stage = Stage::with(set, Access::Anyone, Carries::Frames);
    stage.service.replies = Some(60_000);
    let callers: Vec<Caller> = (0..10).map(|_| stage.world.connect_as(0, user)).collect();
    for caller in &callers {
        caller.takes(0);
        caller.send(&greeting(&v1_request(1, 0)));
        stage.turn();
        stage.turn();
    }
    stage
}

/// One that may miss no event reads none.
fn slow_subscriber() -> Stage {
    let mut stage = Stage::new(|limits| limits.listener.connection.outbox_soft = 1000);
    let caller = stage.subscriber(events::ENDS);
    caller.takes(0);
    stage.publish(events::ENDS, &[&[0; 900], &[0; 900], &[0; 900]]);
    stage.run(ms(1));
    stage
}

/// A client answers a call of the server's with a part that it has no credit for.
fn part_without_credit() -> Stage {
    let mut stage = Stage::new(|limits| limits.listener.connection.stream_credit = 0);
    let caller = stage.greeted();
    stage.order(PeerOrder::Call { msg_type: 5, payload: Vec::new(), timeout: None });
    assert_eq!(caller.receive()[4], REQUEST);
    let mut part = v1_frame(REPLY, 5, 1, 0, b"part");
    part[5] = 1;
    caller.send(&part);
    stage.run(ms(1));
    caller.close();
    stage.run(ms(1));
    stage
}

/// One sends so many datagrams, and reads no answer.
fn datagrams(carries: Carries, count: usize, bytes: &[u8]) -> Stage {
    let mut stage = Stage::bare(|_| {});
    stage.service.defers = true;
    stage.bind(Access::SameUser, carries);
    let who = Address::Path("/caller-0".into());
    stage.world.stick(0, &who, true);
    for _ in 0..count {
        stage.world.datagram(0, &who, WE, bytes);
    }
    stage.run(ms(10));
    stage
}

/// One asks and cancels, again and again.
fn unwanted() -> Stage {
    const LENGTH: u32 = 15 << 20;
    let mut stage = Stage::new(|_| {});
    stage.service.defers = true;
    let caller = stage.greeted();
    for id in 0..=(MAX_UNWANTED as u32).div_ceil(LENGTH) {
        let cancel = v1_frame(CANCEL, 0, id + 1, 0, b"");
        caller.send(&[v1_request(id + 1, LENGTH), cancel].concat());
        stage.run(ms(1));
        caller.receive();
    }
    stage
}

/// One takes no parts, behind each of whose replies some more than bytes wait.
fn attachments_behind_parts() -> Stage {
    let mut stage = Stage::new(|_| {});
    stage.service.defers = true;
    let caller = stage.greeted();
    let count = MAX_ATTACHED_LEAVING / MAX_ATTACHED + 1;
    caller.send(&requests(count as u32, 0));
    stage.run(ms(1));
    for call in stage.service.deferred.clone() {
        call.begin_stream(usize::MAX);
        call.send_part(vec![0; 10], IfFull::Fail).expect("room");
        let parcel = Parcel::new(MAX_ATTACHED as u8, ());
        call.answer(Answer::Attached(ResultCode::OK, Vec::new(), parcel));
    }
    stage.run(ms(1));
    stage
}
