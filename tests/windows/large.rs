//! Much at once, and to the last byte.

use std::thread;
use std::time::Duration;

use sidewire::Server;

use crate::stage::Stage;
use crate::util::{Raw, all_streams, classic, fresh, start, store, usual, watchdog};

const ECHO: u16 = 4;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// As much as a frame may hold, to a server in another process and back.
#[test]
fn sixteen_mebibytes_there_and_back() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let server = stage.serve(&stage.all_streams(), &["--access", "anyone"]);
    let bytes = pattern(16 << 20);
    for endpoint in &server.endpoints {
        let client = stage.client(endpoint);
        for _ in 0..2 {
            let reply = client.call(ECHO, &bytes).expect("call").into_payload();
            assert!(reply == bytes, "{endpoint}: {} bytes, or others", reply.len());
        }
    }
}

/// The server closes after a frame that it can't take; what it said before arrives, however late
/// it is read.
/// PROTOCOL E9
#[test]
fn the_last_reply_before_the_end_is_whole() {
    let _watchdog = watchdog(120);
    let listen = |endpoint| usual(&endpoint).classic_max(60_000);
    let (running, bound) = start(store(), all_streams().into_iter().map(listen));
    let last = classic(ECHO.into(), 0, &pattern(60_000));
    for endpoint in &bound {
        for pause in [0, 500] {
            let raw = Raw::connect(endpoint);
            raw.send(&last);
            raw.send(&classic(ECHO.into(), 0, &[0; 60_001])[..12]);
            thread::sleep(Duration::from_millis(pause));
            let bytes = raw.receive_to_end();
            assert!(bytes.starts_with(&last), "{endpoint}: {} bytes, or others", bytes.len());
            let (_, error) = bytes.split_at(last.len());
            assert_eq!(error[..4], i32::from(ECHO).to_ne_bytes(), "the answer to what can't be");
            assert!(i32::from_ne_bytes(error[4..8].try_into().expect("four bytes")) < 0);
        }
    }
    running.stop().expect("the server ends well");
}

/// The same from a stream without frames, which its handler closes.
#[test]
fn the_last_bytes_of_a_stream_are_whole() {
    let _watchdog = watchdog(120);
    for endpoint in ["local", "pipe", "tcp"].map(fresh) {
        let mut server = Server::new(());
        let last = pattern(60_000);
        let sent = last.clone();
        let handler = sidewire::on_data(move |(), session, _bytes| {
            session.write(&sent);
            session.close();
        });
        let bound = server.listen_raw(usual(&endpoint), handler).expect("listen");
        let running = server.spawn().expect("spawn");
        for pause in [0, 500] {
            let raw = Raw::connect(&bound);
            raw.send(b"go");
            thread::sleep(Duration::from_millis(pause));
            let bytes = raw.receive_to_end();
            assert!(bytes == last, "{bound}: {} bytes, or others", bytes.len());
        }
        running.stop().expect("the server ends well");
    }
}
