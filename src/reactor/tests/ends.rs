//! How streams end.

use super::*;
use crate::reactor::system::memory::Side;

/// Who is refused for the size of its request gets its answer, and all it sends is read; or closing
/// would reset the stream, and the answer with it.
/// PROTOCOL E1
#[test]
fn a_refused_request_is_read_to_its_end() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&frame(4, 0, &[b'x'; 8 << 10]));
    stage.turn();
    assert_eq!(caller.receive()[..8], reply(4, ResultCode::TOO_LARGE, b"")[..8]);
    assert_eq!((caller.server(), stage.counters.connections()), (Side::ShutDown, 1));
    caller.send(&[b'x'; 100]);
    stage.run(ms(1500));
    assert_eq!((caller.server(), caller.unread()), (Side::ShutDown, 0));
    caller.close();
    stage.turn();
    assert_eq!((caller.server(), stage.counters.connections()), (Side::Flushed, 0));
}

/// More of it than one read takes is there before it is refused: no event tells of the rest. Whoever
/// is still sending could not go on, and where only an empty socket tells of more, never would.
/// PROTOCOL E1
#[test]
fn what_was_unread_when_it_was_refused_is_read_too() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&frame(4, 0, &vec![b'x'; 1 << 20]));
    stage.run(ms(1));
    assert_eq!((caller.server(), caller.unread()), (Side::ShutDown, 0));
}

/// One that does not close is not waited for without end.
/// PROTOCOL L14
#[test]
fn who_was_told_everything_has_so_long_to_close() {
    let mut stage = Stage::new(|limits| limits.listener.connection.linger = ms(700));
    let caller = stage.accepted();
    caller.send(&frame(4, 0, &[b'x'; 8 << 10]));
    stage.turn();
    stage.run(ms(699));
    assert_eq!(caller.server(), Side::ShutDown);
    stage.run(ms(1));
    assert_eq!((caller.server(), stage.counters.connections()), (Side::Closed, 0));
}

/// One that goes on sending is always in the queue for the next turn and never among the timers: where there
/// was no other timer, nobody looked whose time was up.
/// PROTOCOL L14
#[test]
fn who_was_told_everything_and_never_stops_sending_is_let_go_as_well() {
    let mut stage = Stage::new(|limits| limits.listener.connection.linger = ms(700));
    let caller = stage.accepted();
    caller.send(&frame(4, 0, &[b'x'; 8 << 10]));
    stage.turn();
    assert_eq!(caller.server(), Side::ShutDown);
    for _ in 0..8 {
        caller.send(&vec![b'x'; 12 << 20]);
        stage.world.pass(ms(100));
        stage.turn();
    }
    assert_eq!((caller.server(), stage.counters.connections()), (Side::Reset, 0));
}

/// PROTOCOL E3
#[test]
fn who_has_ended_its_side_gets_the_rest() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.takes(5);
    caller.send(&request(1, b"hello"));
    caller.shut_down();
    stage.run(ms(100));
    assert_eq!((caller.receive().len(), caller.server()), (5, Side::Open));
    caller.takes(usize::MAX);
    stage.turn();
    assert_eq!((caller.receive().len(), caller.server()), (12, Side::Flushed));
}

/// Without a half-close a stream that is over is closed behind a flush.
/// PROTOCOL E9
#[test]
fn a_pipe_is_closed_behind_a_flush() {
    let mut stage = Stage::new(|_| {});
    stage.world.without_half_close();
    let caller = stage.accepted();
    caller.send(&frame(4, 0, &[b'x'; 8 << 10]));
    stage.turn();
    assert_eq!((caller.server(), stage.counters.connections()), (Side::Flushed, 0));
}

#[test]
fn a_reset_is_told_to_the_handler_of_a_stream() {
    let mut stage = Stage::with(|_| {}, Access::SameUser, Carries::Plain(Cut::Raw));
    let caller = stage.accepted();
    assert_eq!(stage.service.opened, 1);
    caller.reset();
    stage.turn();
    assert_eq!(stage.counters.connections(), 0);
    assert!(stage.service.closed[0].starts_with("broken: "), "{:?}", stage.service.closed);
}

/// PROTOCOL X14, L12
#[test]
fn who_takes_nothing_is_given_up() {
    let mut stage = Stage::new(|limits| limits.listener.connection.write_stall_timeout = ms(3000));
    let caller = stage.accepted();
    caller.takes(5);
    caller.send(&request(1, b"hello"));
    stage.run(ms(2999));
    assert_eq!(caller.server(), Side::Open);
    stage.run(ms(1));
    assert_eq!(caller.server(), Side::Reset);
}

/// A handler took longer than a frame may: its rest came meanwhile, and counts.
#[test]
fn what_came_while_a_handler_ran_came_in_time() {
    let mut stage = Stage::new(|limits| limits.listener.connection.partial_frame_timeout = ms(500));
    let (slow, other) = (stage.accepted(), stage.accepted());
    let bytes = request(1, b"hello");
    other.send(&bytes[..7]);
    stage.turn();
    stage.service.takes = ms(5000);
    slow.send(&request(1, b""));
    stage.turn();
    other.send(&bytes[7..]);
    stage.service.takes = ms(0);
    stage.run(ms(10));
    assert_eq!(other.receive(), reply(1, ResultCode::OK, b"hello"));
    other.send(&bytes[..7]);
    stage.run(ms(499));
    assert_eq!(stage.counters.connections(), 2);
    stage.run(ms(2));
    assert_eq!(other.server(), Side::ShutDown);
}

/// What is there and was not read yet came in time, too, however long reading it takes.
#[test]
fn what_waits_to_be_read_came_in_time() {
    let mut stage = Stage::new(|limits| {
        limits.listener.connection.partial_frame_timeout = ms(500);
        limits.turn_bytes = 1000;
    });
    let (slow, other) = (stage.accepted(), stage.accepted());
    other.send(&v1_hello());
    stage.turn();
    other.receive();
    let frame = v1_request(1, 4 << 20);
    let (first, rest) = frame.split_at(300 << 10);
    other.send(first);
    stage.run(ms(10));
    stage.service.takes = ms(5000);
    slow.send(&request(1, b""));
    stage.turn();
    stage.service.takes = ms(0);
    other.send(rest);
    stage.run(ms(10));
    assert_eq!(other.receive().len(), frame.len());
}

#[test]
fn an_interrupted_poll_is_no_turn() {
    let mut stage = Stage::new(|limits| limits.listener.connection.partial_frame_timeout = ms(500));
    let caller = stage.accepted();
    let bytes = request(1, b"hello");
    caller.send(&bytes[..7]);
    stage.turn();
    caller.send(&bytes[7..]);
    stage.world.pass(ms(600));
    stage.world.interrupt_polls(3);
    for _ in 0..4 {
        stage.turn();
    }
    assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"hello"));
}

/// A frame whose sender could not go on while a handler ran gets its time once more when more of it is there:
/// the handler ran in the very turn that reads it, so no poll has shown that it is late.
#[test]
fn who_could_not_go_on_while_a_handler_ran_gets_its_time_once_more() {
    let mut stage = Stage::new(|limits| limits.listener.connection.partial_frame_timeout = ms(500));
    let (slow, other) = (stage.accepted(), stage.accepted());
    let bytes = request(1, b"hello");
    other.send(&[&bytes[..], &bytes[..7]].concat());
    stage.turn();
    other.receive();
    stage.service.takes = ms(5000);
    slow.send(&request(1, b""));
    other.send(&bytes[7..9]);
    stage.turn();
    stage.service.takes = ms(0);
    stage.run(ms(499));
    other.send(&bytes[9..]);
    stage.turn();
    assert_eq!((other.receive(), other.server()), (reply(1, ResultCode::OK, b"hello"), Side::Open));
}

/// The same where just as much of it is there as a turn reads, and the next turn finds nothing.
#[test]
fn who_could_not_go_on_gets_its_time_once_more_behind_a_full_turn() {
    let mut stage = Stage::new(|limits| {
        limits.turn_bytes = 2;
        limits.listener.connection.hello_timeout = ms(500); // so long for a first frame, too
    });
    let (slow, other) = (stage.accepted(), stage.accepted());
    let bytes = request(1, b"hello");
    other.send(&bytes[..2]);
    let empty = request(1, b"");
    slow.send(&empty[..10]);
    stage.run(ms(1));
    stage.service.takes = ms(5000);
    slow.send(&empty[10..]);
    other.send(&bytes[2..4]);
    assert!(stage.turn() && stage.turn());
    stage.service.takes = ms(0);
    other.send(&bytes[4..]);
    stage.run(ms(100));
    assert_eq!((other.receive(), other.server()), (reply(1, ResultCode::OK, b"hello"), Side::Open));
}

/// A handler hears of the end only of streams that it heard the beginning of.
#[test]
fn no_handler_hears_of_one_who_was_refused() {
    let mut stage = Stage::with(|_| {}, Access::SameUser, Carries::Plain(Cut::Raw));
    let stranger = stage.world.connect_as(0, OTHERS);
    stage.turn();
    stranger.close();
    stage.run(ms(10));
    assert_eq!((stage.counters.accepted(), stage.counters.connections()), (1, 0));
    assert_eq!((stage.service.opened, &stage.service.closed[..]), (0, &[][..]));
}
