//! A server with little address space: nobody's request ends it, and everybody else is served.

use std::process::Command;

use sidewire::{Client, Endpoint, ResultCode};

use crate::stage::{SIDEWIRE, Stage};
use crate::util::{Process, Raw, classic, frame, until, watchdog};

const SET: u16 = 2;
const SET_AND_GET: u16 = 3;
const ECHO: u16 = 4;
/// The largest payload that a server takes by default.
const LARGEST: usize = 16 << 20;

/// The tool with so many KiB of address space (the shell sets that for us; std can't): less than what
/// the peers of a test may ask for.
fn serve_with_little(kib: u32, endpoint: &str) -> Process {
    let script = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).args([SIDEWIRE, "serve", endpoint, "--classic-max", "16777216"]);
    Process::start(&mut command, 1)
}

/// What a server says to a request, whatever the layout: the result code.
fn code(raw: &Raw, is_v1: bool) -> i32 {
    match is_v1 {
        true => raw.receive_frame().rc,
        false => raw.receive_classic().1,
    }
}

fn request(is_v1: bool, msg_type: u16, id: u32, payload: &[u8]) -> Vec<u8> {
    match is_v1 {
        true => frame(1, msg_type, id, 0, payload),
        false => classic(msg_type.into(), 0, payload),
    }
}

fn peer(endpoint: &Endpoint, is_v1: bool) -> Raw {
    let raw = Raw::connect(endpoint);
    if is_v1 {
        raw.shake_hands();
    }
    raw
}

fn answers(client: &Client) {
    assert_eq!(client.call(ECHO, b"still there?").expect("a reply").payload(), b"still there?");
}

#[test]
fn many_large_requests_do_not_end_a_server_with_little_memory() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for (kib, msg_type) in [(90_000, ECHO), (110_000, SET), (140_000, SET_AND_GET)] {
        let mut server = serve_with_little(kib, &stage.unix(&kib.to_string()));
        let endpoint = server.endpoints[0].clone();
        let other = stage.client(&endpoint);
        let peers: Vec<(Raw, bool)> =
            (0..24).map(|number| number % 3 != 0).map(|is_v1| (peer(&endpoint, is_v1), is_v1)).collect();
        let payload = vec![b'x'; LARGEST];
        for (raw, is_v1) in &peers {
            let bytes = request(*is_v1, msg_type, 1, &payload);
            raw.send(&bytes[..bytes.len() - 1]);
            answers(&other);
        }
        let mut busy = 0;
        for (raw, is_v1) in &peers {
            raw.send(b"x");
            match code(raw, *is_v1) {
                0 => {}
                rc => {
                    assert_eq!(rc, ResultCode::BUSY.code());
                    busy += 1;
                }
            }
            raw.send(&request(*is_v1, ECHO, 2, b"and now?"));
            assert_eq!(code(raw, *is_v1), 0, "the connection goes on");
            answers(&other);
        }
        assert!(busy > 0, "all {} were kept, in {kib} KiB", peers.len());
        drop(peers);
        // What they held is there for others again.
        until("there is memory again", || other.call(SET, &payload[..LARGEST / 8]).is_ok());
        assert!(server.child.try_wait().expect("its status").is_none(), "the server has ended");
    }
}

/// Replies that nobody reads take memory as well.
#[test]
fn replies_that_nobody_reads_do_not_end_a_server_with_little_memory() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let mut server = serve_with_little(110_000, &stage.unix("s"));
    let endpoint = server.endpoints[0].clone();
    let other = stage.client(&endpoint);
    other.call(SET, vec![b'x'; 8 << 20]).expect("a value");
    let peers: Vec<Raw> = (0..8).map(|_| peer(&endpoint, true)).collect();
    for id in 1..=20 {
        for raw in &peers {
            // Those that were given up see it here.
            let _ = raw.try_send(&frame(1, 1, id, 0, b""));
        }
        answers(&other);
    }
    drop(peers);
    assert_eq!(other.call(1, b"").expect("a reply").payload().len(), 8 << 20);
    assert!(server.child.try_wait().expect("its status").is_none(), "the server has ended");
}
