//! The client's side: whom it talks to, how long it waits, and whose answers it takes.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, Endpoint, Executed, Server, Session, on_data};
use sidewire_platform::{Address, BindOptions, Datagrams, current_user};

use crate::stage::{all, client, connect, fresh, v1, with_store};
use crate::util::{Dialect, PATIENCE, classic, start, store, unique, usual, watchdog};

const SHORT: Duration = Duration::from_millis(100);

/// A server that says what a test makes it say. It ends when the test does.
struct Fake {
    endpoint: Endpoint,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Fake {
    /// `answers`: what to send back to a datagram, and when. The text of its payload picks it.
    fn new(
        endpoint: &Endpoint,
        mut answers: impl FnMut(&[u8]) -> Vec<(Duration, Vec<u8>)> + Send + 'static,
    ) -> Fake {
        Fake::addressed(endpoint, move |from, request| {
            answers(request).into_iter().map(|(after, bytes)| (after, from.clone(), bytes)).collect()
        })
    }

    /// The same, and it says to whom.
    fn addressed(
        endpoint: &Endpoint,
        mut answers: impl FnMut(&Address, &[u8]) -> Vec<(Duration, Address, Vec<u8>)> + Send + 'static,
    ) -> Fake {
        let mut socket = Datagrams::bind(endpoint, &BindOptions::default()).expect("bind");
        let endpoint = socket.endpoint().clone();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut later: Vec<(Instant, Address, Vec<u8>)> = Vec::new();
            let mut buffer = vec![0; 4096];
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                while let Ok(received) = socket.receive(&mut buffer) {
                    let from = received.from.expect("an address");
                    for (after, to, bytes) in answers(&from, &buffer[..received.length]) {
                        later.push((Instant::now() + after, to, bytes));
                    }
                }
                later.sort_by_key(|(at, ..)| *at);
                let due = later.partition_point(|(at, ..)| *at <= Instant::now());
                for (_, to, bytes) in later.drain(..due) {
                    // Its asker may have gone.
                    let _ = socket.send(&bytes, &to, current_user().ok().as_ref());
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Fake { endpoint, stop, thread }
    }

    fn silent(endpoint: &Endpoint) -> Fake {
        Fake::new(endpoint, |_| Vec::new())
    }

    /// Its own errors count too.
    fn join(self) {
        drop(self.stop);
        self.thread.join().expect("the fake server");
    }
}

/// The reply to a request, in its layout and with its id and type.
fn reply_to(request: &[u8], payload: &[u8]) -> Vec<u8> {
    let word = |at: usize| request[at..at + 4].try_into().expect("four bytes");
    if request.starts_with(&[0xD1, 0x53, 0x57, 0xD1]) {
        let msg_type = u16::from_le_bytes([request[14], request[15]]);
        return v1(2, 0, msg_type, u32::from_le_bytes(word(16)), 0, payload);
    }
    classic(i32::from_ne_bytes(word(0)), 0, payload)
}

fn payload(request: &[u8]) -> &[u8] {
    if request.starts_with(&[0xD1, 0x53, 0x57, 0xD1]) { &request[24..] } else { &request[12..] }
}

const LAYOUTS: [Dialect; 2] = [Dialect::V1, Dialect::Classic];

#[test]
fn three_hundred_in_a_row() {
    let _watchdog = watchdog(60);
    with_store(|dialect, endpoint| {
        let client = client(dialect, endpoint);
        for number in 0..300 {
            let text = format!("call {number}");
            assert_eq!(client.call(4, &text).expect("echo").payload(), text.as_bytes());
        }
    });
}

#[test]
fn many_threads_on_one_client() {
    let _watchdog = watchdog(60);
    with_store(|dialect, endpoint| {
        let client = client(dialect, endpoint);
        thread::scope(|scope| {
            for number in 0..8 {
                let client = &client;
                scope.spawn(move || {
                    for call in 0..50 {
                        let text = format!("{number}: {call}");
                        assert_eq!(client.call(4, &text).expect("echo").payload(), text.as_bytes());
                    }
                });
            }
        });
    });
}

/// PROTOCOL D23
#[test]
fn a_silent_server_costs_as_long_as_the_call_may_take() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        for endpoint in all() {
            let fake = Fake::silent(&endpoint);
            let client = client(dialect, &fake.endpoint);
            for _ in 0..2 {
                let since = Instant::now();
                let error = client.request(1).timeout(SHORT).send(b"x").expect_err("silence");
                assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}");
                assert!(since.elapsed() >= SHORT, "{:?}", since.elapsed());
            }
            fake.join();
        }
    }
}

/// Those who wait for their turn do not wait longer than they may.
#[test]
fn waiting_for_ones_turn_counts() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        let (has_come, requests) = mpsc::channel();
        let (answer, may_answer) = mpsc::channel();
        let fake = Fake::new(&fresh("udp"), move |request| {
            has_come.send(payload(request).to_vec()).expect("the test listens");
            may_answer.recv().expect("the test answers");
            vec![(Duration::ZERO, reply_to(request, payload(request)))]
        });
        let client = client(dialect, &fake.endpoint);
        let call = |text: &str| assert_eq!(client.call(1, text).expect("echo").payload(), text.as_bytes());
        thread::scope(|scope| {
            scope.spawn(|| call("first"));
            assert_eq!(requests.recv_timeout(PATIENCE).expect("a request"), b"first");
            let since = Instant::now();
            let error = client.request(1).timeout(SHORT).send(b"second").expect_err("no turn");
            assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
            assert!(since.elapsed() >= SHORT, "{:?}", since.elapsed());
            // With more time it gets its turn.
            scope.spawn(|| call("third"));
            (0..2).for_each(|_| answer.send(()).expect("the server waits"));
            assert_eq!(requests.recv_timeout(PATIENCE).expect("a request"), b"third");
        });
        fake.join();
    }
}

/// An answer that comes late belongs to a call that nobody waits for: of the same type, above all.
/// PROTOCOL D24
#[test]
fn late_answers_are_never_taken_for_the_next_calls() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        for endpoint in all() {
            let mut slow = None;
            let fake = Fake::addressed(&endpoint, move |from, request| {
                let text = payload(request);
                let answer = (Duration::ZERO, from.clone(), reply_to(request, text));
                if text == b"slow" {
                    slow = Some(answer);
                    return Vec::new();
                }
                slow.take().into_iter().chain([answer]).collect()
            });
            let client = client(dialect, &fake.endpoint);
            let error = client.request(1).timeout(SHORT).send(b"slow").expect_err("too slow");
            assert!(error.is_timeout(), "{error}");
            // The first one's answer comes while this one waits.
            for text in ["two", "three"] {
                assert_eq!(client.call(1, text).expect("an answer").payload(), text.as_bytes());
            }
            fake.join();
        }
    }
}

#[test]
fn what_is_no_answer_is_skipped() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        for endpoint in all() {
            let fake = Fake::new(&endpoint, |request| {
                let mut answers: Vec<Vec<u8>> = vec![
                    b"".to_vec(),
                    b"garbage".to_vec(),
                    vec![0xD1, 0x53, 0x57, 0xD1],
                    classic(2, 0, b"another type"),
                    [1, 0, i32::MAX].map(i32::to_ne_bytes).concat(),
                    [1, 0, -1].map(i32::to_ne_bytes).concat(),
                    v1(2, 0, 1, u32::MAX, 0, b"another id"),
                ];
                let whole = reply_to(request, b"whole");
                answers.push(whole[..whole.len() - 1].to_vec());
                if request.starts_with(&[0xD1, 0x53, 0x57, 0xD1]) {
                    for (at, byte) in [(4, 2), (5, 1), (12, 4), (13, 1), (13, 0x80), (14, 9)] {
                        let mut bytes = whole.clone();
                        bytes[at] = byte;
                        answers.push(bytes);
                    }
                }
                answers.push(whole);
                answers.into_iter().map(|bytes| (Duration::ZERO, bytes)).collect()
            });
            let client = client(dialect, &fake.endpoint);
            assert_eq!(client.call(1, b"x").expect("an answer").payload(), b"whole");
            fake.join();
        }
    }
}

#[test]
fn a_flood_of_nonsense_does_not_make_a_call_last() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        let fake = Fake::new(&fresh("udp"), |_| {
            let flood = (0..2_000).map(|number| Duration::from_micros(number * 100));
            // And then without end, as far as this test is concerned.
            let stream = (0..6_000).map(|number| Duration::from_millis(number * 5));
            flood.chain(stream).map(|after| (after, b"nonsense".to_vec())).collect()
        });
        let client = client(dialect, &fake.endpoint);
        let since = Instant::now();
        let error = client.request(1).timeout(SHORT).send(b"x").expect_err("nonsense");
        assert!(error.is_timeout(), "{error}");
        assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
        fake.join();
    }
}

// Wine tells a UDP client nothing of a server that has gone: calls just time out.
#[cfg(unix)]
#[test]
fn nobody_there() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        for endpoint in all() {
            let (running, bound) = start(store(), [usual(&endpoint)]);
            running.stop().expect("the server ends well");
            let connected = crate::stage::speaks(dialect, connect(&bound[0])).open();
            let error = match connected {
                // UDP finds out when it sends.
                Ok(client) => client.call(1, b"").expect_err("nobody is there"),
                Err(error) => error,
            };
            assert!(error.is_not_listening() && error.executed() == at_the_end(&endpoint), "{error}");
        }
    }
}

/// What is known of a call that finds nobody: UDP sends it all the same, and what it then says may be about
/// another.
#[cfg(unix)]
fn at_the_end(endpoint: &Endpoint) -> Executed {
    if crate::stage::is_udp(endpoint) { Executed::Perhaps } else { Executed::Never }
}

/// The client learns of it at the next call, at once.
// Wine tells a UDP client nothing of a server that has gone: calls just time out.
#[cfg(unix)]
#[test]
fn servers_that_die_and_come_back() {
    let _watchdog = watchdog(60);
    for dialect in LAYOUTS {
        for endpoint in all() {
            let (running, bound) = start(store(), [usual(&endpoint)]);
            let endpoint = &bound[0];
            let client = client(dialect, endpoint);
            client.call(1, b"").expect("get");
            running.stop().expect("the server ends well");
            for _ in 0..2 {
                let error = client.call(1, b"").expect_err("the server has gone");
                assert!(error.is_not_listening() && error.executed() == at_the_end(endpoint), "{error}");
            }
            let (running, _) = start(store(), [usual(endpoint)]);
            // A new one reaches it in any case; over UDP, and in the classic layout, the old one too.
            self::client(dialect, endpoint).call(1, b"").expect("get");
            if crate::stage::is_udp(endpoint) || dialect == Dialect::Classic {
                client.call(1, b"").expect("get");
            }
            running.stop().expect("the server ends well");
        }
    }
}

/// What UDP says about a notify that found nobody does not fail the call that follows.
// Wine tells a UDP client nothing of a server that has gone: calls just time out.
#[cfg(unix)]
#[test]
fn a_lost_notify_does_not_fail_the_next_call() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("udp"))]);
    let client = client(Dialect::V1, &bound[0]);
    running.stop().expect("the server ends well");
    client.notify(2, b"nobody hears").expect("notify");
    let (running, _) = start(store(), [usual(&bound[0])]);
    client.call(1, b"").expect("get");
    running.stop().expect("the server ends well");
}

/// Who can't be identified has to be accepted by name.
#[test]
fn access_has_to_be_given() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(());
        match endpoint {
            Endpoint::Udp { .. } => {
                for error in [
                    server.listen(&endpoint).expect_err("anyone could send"),
                    server.listen_messages(&endpoint, |(), _, _| {}).expect_err("anyone could send"),
                ] {
                    assert!(error.is_invalid_input() && error.to_string().contains("Anyone"), "{error}");
                }
            }
            _ => {
                server.listen(&endpoint).expect("listen");
            }
        }
        let (running, bound) = start(store(), [usual(&fresh(endpoint.scheme()))]);
        let (open, raw) =
            (Client::connect(&bound[0]), Connect::to(&bound[0]).expect("parse").open_messages());
        match endpoint {
            Endpoint::UnixGram(_) => {
                open.expect("connect").call(1, b"").expect("get");
                raw.expect("connect");
            }
            _ => {
                for error in [open.expect_err("who serves?"), raw.expect_err("who serves?")] {
                    assert!(error.is_invalid_input() && error.to_string().contains("Anyone"), "{error}");
                }
            }
        }
        let anyone = Connect::to(&bound[0]).expect("parse").access(Access::Anyone).open().expect("connect");
        anyone.call(1, b"").expect("get");
        running.stop().expect("the server ends well");
    }
}

#[test]
fn streams_are_no_datagrams() {
    let _watchdog = watchdog(60);
    for endpoint in crate::util::all_streams() {
        let error = Server::new(()).listen_messages(usual(&endpoint), |(), _, _| {}).expect_err("a stream");
        assert!(error.is_invalid_input(), "{error}");
        let error = crate::util::connect(&endpoint).open_messages().expect_err("a stream");
        assert!(error.is_invalid_input(), "{error}");
    }
    for endpoint in all() {
        let error = Server::new(()).listen_raw(usual(&endpoint), on_data(ignore)).expect_err("datagrams");
        assert!(error.is_invalid_input(), "{error}");
        let error =
            Server::new(()).listen_lines(usual(&endpoint), 80, on_data(ignore)).expect_err("datagrams");
        assert!(error.is_invalid_input(), "{error}");
        let error = connect(&endpoint).open_raw().expect_err("datagrams");
        assert!(error.is_invalid_input(), "{error}");
    }
}

fn ignore(_state: &mut (), _session: &mut Session<'_>, _bytes: &[u8]) {}

#[test]
fn one_endpoint_has_one_server() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), all().iter().map(usual));
    for endpoint in &bound {
        let error = Server::new(()).listen(usual(endpoint)).expect_err("it is taken");
        assert!(error.is_in_use(), "{error}");
        client(Dialect::V1, endpoint).call(1, b"").expect("get");
    }
    running.stop().expect("the server ends well");
}

#[test]
fn names_resolve() {
    let _watchdog = watchdog(60);
    let mut server = store();
    let bound = server.listen(usual(&"udp:localhost:0".parse().expect("an endpoint"))).expect("listen");
    let running = server.spawn().expect("spawn");
    let Endpoint::Udp { host, .. } = &bound else { panic!("{bound} is not UDP") };
    assert!(host.parse::<std::net::IpAddr>().expect("numeric").is_loopback());
    connect(&bound).open().expect("connect").call(1, b"").expect("get");
    running.stop().expect("the server ends well");
}

#[test]
fn ipv6_too() {
    let _watchdog = watchdog(60);
    let mut server = store();
    let Ok(bound) = server.listen(usual(&"udp:[::1]:0".parse().expect("an endpoint"))) else {
        return println!("this system has no IPv6: nothing is tested");
    };
    let running = server.spawn().expect("spawn");
    for dialect in LAYOUTS {
        assert_eq!(client(dialect, &bound).call(4, b"six").expect("echo").payload(), b"six");
    }
    running.stop().expect("the server ends well");
}

#[test]
fn beyond_loopback_only_if_told() {
    let _watchdog = watchdog(60);
    let everywhere: Endpoint = "udp:0.0.0.0:0".parse().expect("an endpoint");
    let error = Server::new(()).listen(usual(&everywhere)).expect_err("not only this machine");
    assert!(error.is_refused(), "{error}");
    let (running, bound) = start(store(), [usual(&everywhere).beyond_loopback()]);
    let Endpoint::Udp { port, .. } = bound[0] else { panic!("not UDP") };
    let here = Endpoint::Udp { host: "127.0.0.1".into(), port };
    client(Dialect::V1, &here).call(1, b"").expect("get");
    // Its byte order is this machine's.
    let error = client(Dialect::Classic, &here).call(1, b"").expect_err("no classic");
    assert!(error.is_refused(), "{error}");
    running.stop().expect("the server ends well");
    let (running, bound) = start(store(), [usual(&everywhere).beyond_loopback().classic_max(100)]);
    let Endpoint::Udp { port, .. } = bound[0] else { panic!("not UDP") };
    let here = Endpoint::Udp { host: "127.0.0.1".into(), port };
    client(Dialect::Classic, &here).call(1, b"").expect("get");
    running.stop().expect("the server ends well");
}

/// Sockets of both kinds, and of this server alone, in one loop.
#[test]
fn streams_and_datagrams_share_a_server() {
    let _watchdog = watchdog(60);
    let listen = all().into_iter().chain(crate::util::all_streams());
    let (running, bound) = start(store(), listen.map(|endpoint| usual(&endpoint)));
    let text = unique("shared");
    connect(&bound[0]).open().expect("connect").call(2, &text).expect("set");
    for endpoint in &bound {
        let value = connect(endpoint).open().expect("connect").call(1, b"").expect("get").into_payload();
        assert_eq!(value, text.as_bytes());
    }
    running.stop().expect("the server ends well");
}
