//! The numbers that nobody can set hold.

use std::time::{Duration, Instant};

use sidewire::{Failure, Limits, ResultCode, Server};

use crate::tables::table;
use crate::util;

/// A number of the table of those that can't be set.
fn number(name: &str) -> usize {
    let rows = table(&["number", "value"]);
    let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("there is no row '{name}'"));
    let digits: String = row[1].chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// PROTOCOL L15, L16
#[test]
fn numbers_of_classic_listeners_hold() {
    let _watchdog = util::watchdog(30);
    let server = Server::new(());
    let types = number("types in a dispatch table") as i32;
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let peer = util::Raw::connect(&bound[0]);
    for (msg_type, rc) in [(types - 1, ResultCode::NO_HANDLER), (types, ResultCode::UNKNOWN_TYPE)] {
        peer.send(&util::classic(msg_type, 0, b""));
        assert_eq!(peer.receive_classic(), (msg_type, rc.code(), Vec::new()));
    }
    let most = number("classic maximum");
    for (length, rc) in [(most, ResultCode::UNKNOWN_TYPE), (most + 1, ResultCode::TOO_LARGE)] {
        peer.send(&util::classic(types, 0, &vec![0; length]));
        assert_eq!(peer.receive_classic().1, rc.code());
    }
}

/// PROTOCOL L17, L18
#[test]
fn the_longest_hello_and_the_longest_text_hold() {
    let _watchdog = util::watchdog(30);
    let mut server = Server::new(());
    server.on(0, |_, _, _| Err(Failure::new(ResultCode::new(7), "x".repeat(100_000))));
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let most = number("longest hello");
    for (length, status) in [(most, ResultCode::OK), (most + 1, ResultCode::MALFORMED)] {
        let peer = util::Raw::connect(&bound[0]);
        let mut hello = util::hello(1, 1);
        // A TLV that nobody knows fills it up.
        hello.extend([9, 0]);
        hello.extend(((length - hello.len() - 2) as u16).to_le_bytes());
        hello.resize(length, 0);
        hello[4..6].copy_from_slice(&(length as u16).to_le_bytes());
        peer.send(&hello);
        let answer = peer.receive(52);
        assert_eq!(answer[48..52], status.code().to_le_bytes());
    }
    let peer = util::Raw::connect(&bound[0]);
    peer.shake_hands();
    peer.send(&util::frame(1, 0, 1, 0, b""));
    let reply = peer.receive_frame();
    assert_eq!((reply.kind, reply.flags, reply.rc), (2, 4, 7));
    assert_eq!(reply.payload.len(), number("longest text in a reply"));
}

/// PROTOCOL B6, L20, L21
#[test]
fn so_many_are_refused_at_a_time_and_for_so_long() {
    let _watchdog = util::watchdog(30);
    let mut limits = Limits::default();
    limits.listener.max_connections = 0;
    let server = Server::builder(()).types(0).limits(limits).build().expect("a server");
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let begin = Instant::now();
    let connect = |_| util::Raw::connect(&bound[0]);
    let waiting: Vec<_> = (0..number("refused connections at a time")).map(connect).collect();
    let dropped = connect(0);
    assert_eq!(dropped.receive_to_end(), b"");
    let wait = Duration::from_secs(number("wait for the four bytes of a refused connection") as u64);
    // A slow machine proves nothing.
    if begin.elapsed() < wait / 2 {
        waiting[0].send(&7i32.to_ne_bytes());
        assert_eq!(waiting[0].receive_classic(), (7, ResultCode::BUSY.code(), Vec::new()));
    }
    assert_eq!(waiting[1].receive_to_end(), b"");
    assert!(begin.elapsed() >= wait, "{:?}", begin.elapsed());
}

/// PROTOCOL E7, L22
#[test]
fn a_server_that_stops_gives_its_clients_so_long() {
    let _watchdog = util::watchdog(30);
    let (running, bound) = util::start(util::store(), [util::usual(&util::fresh("tcp"))]);
    let peer = util::Raw::connect(&bound[0]);
    peer.shake_hands();
    let begin = Instant::now();
    running.stop().expect("stop");
    let grace = Duration::from_millis(number("time for clients to leave a server that stops") as u64);
    assert!(begin.elapsed() >= grace, "{:?}", begin.elapsed());
    let goodbye = peer.receive_frame();
    assert_eq!((goodbye.kind, goodbye.rc), (12, ResultCode::SHUTTING_DOWN.code()));
}

/// Whatever the limit is, what is left of a text is whole UTF-8.
/// PROTOCOL R2, H4
#[test]
fn texts_are_cut_between_characters() {
    let _watchdog = util::watchdog(30);
    let mut server = Server::new(());
    server.on(0, |_, _, _| Err(Failure::new(ResultCode::new(7), "€".repeat(1000))));
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let most = number("longest text in a reply");
    for (takes, kept) in [(most as u32 * 2, most / 3 * 3), (100, 99), (2, 0)] {
        let peer = util::Raw::connect(&bound[0]);
        let mut hello = util::hello(1, 1);
        hello[16..20].copy_from_slice(&takes.to_le_bytes());
        peer.send(&hello);
        peer.receive(4);
        let length = u16::from_le_bytes(peer.receive(2).try_into().expect("two bytes"));
        peer.receive(usize::from(length) - 6);
        peer.send(&util::frame(1, 0, 1, 0, b""));
        let reply = peer.receive_frame();
        assert_eq!((reply.rc, reply.flags), (7, if kept == 0 { 0 } else { 4 }));
        assert_eq!(String::from_utf8(reply.payload).expect("whole characters"), "€".repeat(kept / 3));
    }
}
