//! Replies in parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sidewire::{Connect, Failure, ResultCode, Server, Unsent};

use crate::util::{Line, Nats, PATIENCE, refusal, until, watchdog};

const COUNT: u16 = 1;
const FLOOD: u16 = 2;
const WHOLE: u16 = 3;
const PART: usize = 10_000;
/// More than a reader's side takes, and less than that and what the bridge keeps for it.
const PARTS: usize = 70;

/// Counts up to a number, each in a part, and floods: so many parts of 10,000 bytes have gone.
fn server(sent: Arc<AtomicUsize>) -> Server<()> {
    let mut server = Server::new(());
    server.on(COUNT, |(), request, reply| {
        let last: u32 =
            std::str::from_utf8(request.payload()).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut stream = reply.stream()?;
        std::thread::spawn(move || {
            for n in 0..last {
                if stream.send(n.to_string()).is_err() {
                    return;
                }
            }
            match last {
                13 => stream.fail(Failure::new(5, "thirteen")),
                _ => stream.reply("done"),
            }
        });
        Ok(())
    });
    server.on(FLOOD, move |(), _request, reply| {
        let mut stream = reply.stream()?;
        let sent = Arc::clone(&sent);
        std::thread::spawn(move || {
            let why = loop {
                match stream.send(vec![b'x'; PART]) {
                    Ok(()) => sent.fetch_add(1, Ordering::Relaxed),
                    Err(why) => break why,
                };
            };
            assert!(matches!(why, Unsent::Unwanted(_)), "{why:?}");
            sent.store(usize::MAX, Ordering::Relaxed);
        });
        Ok(())
    });
    server.on(WHOLE, |(), _request, reply| {
        let mut stream = reply.stream()?;
        std::thread::spawn(move || {
            if (0..PARTS).all(|_| stream.send(vec![b'x'; PART]).is_ok()) {
                stream.reply("done");
            }
        });
        Ok(())
    });
    server
}

#[test]
fn parts_come_in_their_order_and_then_the_end() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(Arc::default()));
    for last in [0, 1, 5000] {
        let mut parts = line.client.stream(COUNT, last.to_string()).expect("a call");
        for n in 0..last {
            assert_eq!(parts.next().expect("a part").expect("a part"), n.to_string().into_bytes());
        }
        assert!(parts.next().is_none());
        assert_eq!(parts.response().expect("the end").payload(), b"done");
    }
    let mut parts = line.client.stream(COUNT, "13").expect("a call");
    assert!((0..13).all(|_| parts.next().expect("a part").is_ok()));
    let failed = parts.next().expect("the end").expect_err("it fails");
    assert_eq!(refusal(&failed), (5, "thirteen".into()));
}

/// What is not read is not made: it waits with the server, and not in bridges and broker.
#[test]
fn a_slow_reader_holds_up_its_own_reply_only() {
    let _watchdog = watchdog();
    let sent = Arc::new(AtomicUsize::new(0));
    let (line, _running) = Line::to(server(Arc::clone(&sent)));
    let mut parts = line.client.stream(FLOOD, "").expect("a call");
    assert_eq!(parts.next().expect("a part").expect("a part").len(), PART);
    // Until it stands still, it has gone as far as the credit of all who pass it on.
    let mut before = 0;
    until("it stands still", || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, sent.load(Ordering::Relaxed)) == before && before > 0
    });
    let before = sent.load(Ordering::Relaxed);
    assert!(before * PART < 8 << 20, "{before} parts");
    // Others go on.
    assert_eq!(line.client.stream(COUNT, "100").expect("a call").count(), 100);
    for _ in 0..300 {
        assert_eq!(parts.next().expect("a part").expect("a part").len(), PART);
    }
    until("it goes on", || sent.load(Ordering::Relaxed) > before);
    drop(parts);
    until("the server hears that nobody needs it", || sent.load(Ordering::Relaxed) == usize::MAX);
}

/// What is sent ahead has room at the reader's bridge, however small its pieces are: more of them than wait there at a time.
#[test]
fn tiny_parts_are_not_more_than_a_bridge_has_room_for() {
    const MANY: u32 = 10_000;
    let _watchdog = watchdog();
    let (line, _running) = Line::over(Nats::start(), server(Arc::default()), &["--silence", "60"]);
    // However long a busy machine takes for them.
    let start = || line.client.request(COUNT).timeout(None).stream(MANY.to_string()).expect("a call");
    let both = [start(), start()];
    for mut parts in both {
        for n in 0..MANY {
            assert_eq!(parts.next().expect("a part").expect("a part"), n.to_string().into_bytes());
        }
        assert!(parts.next().is_none());
        assert_eq!(parts.response().expect("the end").payload(), b"done");
    }
}

/// The bridge has all of it, and waits for the reader only: that it hears no more of it is no silence.
#[test]
fn a_reply_that_has_come_whole_waits_for_its_reader() {
    let _watchdog = watchdog();
    let (line, _running) = Line::over(Nats::start(), server(Arc::default()), &["--silence", "4"]);
    let mut parts = line.client.stream(WHOLE, "").expect("a call");
    assert!(parts.next().expect("a part").is_ok());
    std::thread::sleep(Duration::from_secs(6));
    assert!((1..PARTS).all(|_| parts.next().expect("a part").is_ok()));
    assert!(parts.next().is_none());
    assert_eq!(parts.response().expect("the end").payload(), b"done");
}

#[test]
fn who_takes_no_parts_is_told_so() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(Arc::default()));
    let answer = line.nats.stranger().request("sw.thing.1", "3");
    assert_eq!(answer.headers.expect("a result code").get("Sw-Rc").map(|rc| rc.as_str()), Some("-12"));
    let classic = Connect::to(&line.far).expect("an endpoint").call_timeout(PATIENCE).classic();
    let refused = classic.open().expect("a client").call(COUNT, "3").expect_err("it takes none");
    assert_eq!(refused.result_code(), Some(ResultCode::FEATURE_MISSING), "{refused}");
}

#[test]
fn a_part_that_the_broker_does_not_take_is_too_large() {
    let _watchdog = watchdog();
    let sent = Arc::new(AtomicUsize::new(0));
    let (line, _running) = Line::over(Nats::with("max_payload: 8000"), server(Arc::clone(&sent)), &[]);
    let mut parts = line.client.stream(FLOOD, "").expect("a call");
    let refused = parts.next().expect("an end").expect_err("it is too large");
    let (rc, text) = refusal(&refused);
    assert!(rc == -3 && text.contains("a part of the reply has 10000 bytes"), "{refused}");
    until("the server hears that nobody needs it", || sent.load(Ordering::Relaxed) == usize::MAX);
}
