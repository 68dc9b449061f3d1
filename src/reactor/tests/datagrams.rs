//! Datagram sockets.

use sidewire_platform::Address;

use super::*;
use crate::limits::{MAX_QUEUED_BYTES, MAX_QUEUED_DATAGRAMS, RETRY_AFTER};

fn address(number: usize) -> Address {
    Address::Path(format!("/caller-{number}").into())
}

fn stage(set: impl FnOnce(&mut Limits), access: Access) -> Stage {
    let mut stage = Stage::new(set);
    stage.bind(access, Carries::Messages);
    stage
}

#[test]
fn an_answer_that_finds_no_room_is_sent_when_there_is() {
    let mut stage = stage(|_| {}, Access::SameUser);
    let who = address(0);
    stage.world.stick(0, &who, true);
    stage.world.datagram(0, &who, WE, b"hello");
    stage.turn();
    stage.world.stick(0, &who, false);
    stage.run(RETRY_AFTER - Duration::from_micros(1));
    assert!(stage.world.sent(0).is_empty(), "nothing tells of room, so it is looked for now and then");
    stage.run(Duration::from_micros(1));
    assert_eq!(stage.world.sent(0), [(b"hello".to_vec(), who)]);
    let polls = stage.world.polls();
    stage.run(ms(2000));
    assert!(stage.world.polls() - polls < 5, "and not when nothing waits");
}

#[test]
fn so_many_answers_wait_for_one_receiver() {
    let mut stage = stage(|_| {}, Access::SameUser);
    let who = address(0);
    stage.world.stick(0, &who, true);
    for _ in 0..MAX_QUEUED_DATAGRAMS + 3 {
        stage.world.datagram(0, &who, WE, b"hello");
    }
    stage.run(ms(10));
    assert_eq!((stage.service.messages, stage.counters.datagrams_dropped()), (MAX_QUEUED_DATAGRAMS + 3, 3));
    stage.world.stick(0, &who, false);
    stage.run(ms(100));
    assert_eq!(stage.world.sent(0).len(), MAX_QUEUED_DATAGRAMS);
}

/// Others than our own user get a quarter of that.
#[test]
fn so_many_bytes_wait_for_all_receivers_of_a_kind() {
    const LENGTH: usize = 250_000;
    let mut stage = stage(|_| {}, Access::Anyone);
    let fit = MAX_QUEUED_BYTES / 4 / (LENGTH + 256);
    let bytes = vec![b'x'; LENGTH];
    for number in 0..fit + 2 {
        let who = address(number % 3);
        stage.world.stick(0, &who, true);
        stage.world.datagram(0, &who, OTHERS, &bytes);
        stage.turn();
    }
    assert_eq!((stage.service.messages, stage.counters.datagrams_dropped()), (fit + 2, 2));
    // Our own user's have room all the same.
    stage.world.stick(0, &address(9), true);
    stage.world.datagram(0, &address(9), WE, &bytes);
    stage.turn();
    assert_eq!(stage.counters.datagrams_dropped(), 2);
}

#[test]
fn a_receiver_that_reads_nothing_is_given_up() {
    let mut stage =
        stage(|limits| limits.listener.connection.write_stall_timeout = ms(3000), Access::SameUser);
    let who = address(0);
    stage.world.stick(0, &who, true);
    stage.world.datagram(0, &who, WE, b"hello");
    stage.run(ms(2990));
    assert_eq!(stage.counters.datagrams_dropped(), 0);
    stage.run(ms(20));
    assert_eq!(stage.counters.datagrams_dropped(), 1);
}

/// A slow one is waited for as long as it takes something.
#[test]
fn a_receiver_that_reads_slowly_gets_everything() {
    let mut stage =
        stage(|limits| limits.listener.connection.write_stall_timeout = ms(400), Access::SameUser);
    let who = address(0);
    stage.world.takes(0, &who, 0);
    for number in 0..60 {
        stage.world.datagram(0, &who, WE, &[number]);
    }
    stage.turn();
    for number in 0..60 {
        stage.run(ms(390));
        assert!(stage.world.sent(0).is_empty());
        stage.world.takes(0, &who, 1);
        stage.run(RETRY_AFTER);
        assert_eq!(stage.world.sent(0), [(vec![number], who.clone())]);
    }
    assert_eq!(stage.counters.datagrams_dropped(), 0);
}

/// Like a stream, a socket has a turn's share of time.
#[test]
fn slow_messages_do_not_hold_up_a_stream() {
    let mut stage = stage(|_| {}, Access::SameUser);
    let caller = stage.accepted();
    stage.service.takes = ms(1);
    for _ in 0..1000 {
        stage.world.datagram(0, &address(0), WE, b"hello");
    }
    stage.turn();
    caller.send(&request(1, b"me"));
    stage.turn();
    assert!(stage.service.messages < 20, "{}", stage.service.messages);
    assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"me"));
    stage.run(ms(1200));
    assert_eq!(stage.service.messages, 1000);
}

/// The documents of `MessageReply::send` name these.
#[test]
fn what_may_wait_is_what_is_written() {
    assert_eq!((MAX_QUEUED_DATAGRAMS, MAX_QUEUED_BYTES), (1024, 256 << 20));
}
