//! What goes away in the middle of a call.

use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sidewire::{Endpoint, Server, Unsent};

use crate::util::{Nats, PATIENCE, Process, client, refusal, start, started, until, watchdog};

const ECHO: u16 = 1;
const NEVER: u16 = 2;
const SLOW: u16 = 3;
const FLOOD: u16 = 4;

/// Where the process that is to be killed listens.
const ENDPOINT: &str = "SIDEWIRE_TEST_ENDPOINT";

fn server() -> Server<()> {
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let mut waiting = Vec::new();
    server.on(NEVER, move |(), _request, reply| {
        let responder = reply.defer()?;
        responder.cancellation().on_cancel(|why| println!("not needed: {why}"));
        waiting.push(responder);
        println!("asked");
        Ok(())
    });
    server.on(SLOW, |(), _request, reply| {
        let responder = reply.defer()?;
        println!("asked");
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            responder.reply("slowly");
        });
        Ok(())
    });
    server.on(FLOOD, |(), _request, reply| {
        let mut stream = reply.stream()?;
        std::thread::spawn(move || {
            let mut full = 0;
            loop {
                match stream.try_send([b'x'; 10_000]) {
                    Ok(()) => full = 0,
                    Err(Unsent::Full) => full += 1,
                    Err(_) => return,
                }
                if full > 0 {
                    std::thread::sleep(Duration::from_millis(10));
                }
                if full == 100 {
                    println!("it stands still");
                }
            }
        });
        Ok(())
    });
    server
}

/// No test: the server as a process of its own, for those below.
#[test]
fn as_a_process() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return };
    let mut server = server();
    let bound = server.listen(endpoint.as_str()).expect("listen");
    println!("listening {bound}");
    server.run().expect("it runs");
}

fn process(endpoint: &Endpoint) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["faults::as_a_process", "--exact", "--nocapture"]).env(ENDPOINT, endpoint.to_string());
    let process = Process::start(&mut command);
    process.line_with("listening ");
    process
}

#[test]
fn a_server_that_is_killed_in_a_call() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let mut server = process(&near);
    let serve = nats.serve(&near, &[]);
    let (_connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let call = started(&client, NEVER);
    server.line_with("asked");
    server.kill();
    let failed = call.wait().expect_err("the server is gone");
    let (rc, text) = refusal(&failed);
    assert!(
        rc == -10 && text.contains("the server of thing has gone; it may have been executed"),
        "{failed}"
    );
    // Nobody serves it now, which is said at once; and when it is back it is served again.
    serve.line_with("is not served until it is back");
    until("nobody serves it", || {
        let (rc, text) = refusal(&client.call(ECHO, "").expect_err("nobody is there"));
        assert!(rc == -6 && text.contains("not executed"), "{rc} {text}");
        text.starts_with("nobody serves this")
    });
    let _server = process(&near);
    serve.line_with("serving thing at ");
    assert_eq!(client.call(ECHO, "back").expect("an echo").payload(), b"back");
}

/// The parts that have come wait for a reader, and nobody is left who could say that more may come: the call ends all the same.
#[test]
fn a_server_that_is_killed_while_its_reader_is_slow() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let mut server = process(&near);
    let serve = nats.serve(&near, &[]);
    let (_connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let mut parts = client.request(FLOOD).timeout(None).stream("").expect("a call");
    assert!(parts.next().expect("a part").is_ok());
    server.line_with("it stands still");
    server.kill();
    serve.line_with("is not served until it is back");
    let failed = parts.find_map(Result::err).expect("an end that is none of its own");
    let (rc, text) = refusal(&failed);
    assert!(rc == -10 && text.ends_with("it may have been executed"), "{failed}");
}

/// Whoever has a call says so every two seconds. Who does not is lost, and the call with it.
#[test]
fn a_bridge_that_is_killed_in_a_call_is_silence() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let mut serve = nats.serve(&near, &[]);
    let (_connect, far) = nats.connect("far", &["--silence", "6"]);
    let client = client(&far);
    let begun = Instant::now();
    let call = started(&client, NEVER);
    // Longer than the silence that it may keep: it is not silent.
    std::thread::sleep(Duration::from_secs(8));
    serve.kill();
    let lost = call.wait().expect_err("nobody answers");
    let (rc, text) = refusal(&lost);
    assert!(
        rc == -7 && text.contains("nothing was heard of it") && text.ends_with("it may have been executed"),
        "{lost}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn one_who_takes_calls_and_says_nothing_is_silence() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let stranger = nats.stranger();
    let mut deaf =
        stranger.runtime.block_on(stranger.client.subscribe("sw.thing.*")).expect("a subscription");
    stranger.settle();
    let (_connect, far) = nats.connect("far", &["--silence", "0.5"]);
    let client = client(&far);
    let begun = Instant::now();
    let lost = client.call(ECHO, "").expect_err("nobody answers");
    assert_eq!(refusal(&lost).0, -7, "{lost}");
    assert!(begun.elapsed() >= Duration::from_millis(500));
    let heard = stranger.runtime.block_on(deaf.next()).expect("it came");
    // An answer that comes too late is nobody's, and harms nobody; nor does nonsense.
    let reply = heard.reply.expect("a subject");
    for payload in ["too late", ""] {
        let sent = stranger.client.publish(reply.clone(), payload.into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    let sent = stranger.client.publish(format!("{reply}x"), "".into());
    stranger.runtime.block_on(sent).expect("it is sent");
    // Lost parts are noticed, with time enough that it is no silence.
    let (_patient, far) = nats.connect("patient", &[]);
    let patient = self::client(&far);
    let call = started(&patient, ECHO);
    let heard = stranger.runtime.block_on(deaf.next()).expect("it came");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Sw-Part", "1");
    let sent = stranger.client.publish_with_headers(heard.reply.expect("a subject"), headers, "".into());
    stranger.runtime.block_on(sent).expect("it is sent");
    let (rc, text) = refusal(&call.wait().expect_err("a part was lost"));
    assert!(rc == -7 && text.contains("a part of the reply was lost"), "{rc} {text}");
}

/// The broker says that nobody hears signs of life any more, and the server hears of it.
#[test]
fn the_bridge_of_a_caller_is_killed() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let server = process(&near);
    let _serve = nats.serve(&near, &[]);
    let (mut connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let call = started(&client, NEVER);
    server.line_with("asked");
    connect.kill();
    assert!(call.wait().expect_err("its server is gone").is_peer_gone());
    server.line_with("not needed: its caller has cancelled it");
}

/// The call that is being taken waits for a connection of its own, to a server that stands still. The word to end comes in the
/// middle of that, and the call is not lost over it, nor are those behind it; each is executed once.
#[test]
fn who_is_asked_to_end_in_the_middle_of_taking_a_call_takes_it() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let (go_on, waits) = mpsc::channel::<()>();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (mut standing, keeps) = (Server::new(()), Arc::clone(&asked));
    standing.on(ECHO, move |(), request, reply| {
        let _ = waits.recv();
        keeps.lock().expect("whole").push(request.payload().to_vec());
        reply.write(request.payload());
        Ok(())
    });
    let _running = start(standing, &near);
    let mut serve = nats.serve(&near, &[]);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", serve.id())).map_or(0, Iterator::count);
    let before = descriptors();
    let stranger = nats.stranger();
    let mut answers =
        stranger.runtime.block_on(stranger.client.subscribe("answers.*")).expect("a subscription");
    for n in 0..4 {
        let mut headers = async_nats::HeaderMap::new();
        if n == 1 {
            headers.insert("Sw-App", "editor");
        }
        let (subject, reply) = (format!("sw.thing.{ECHO}"), format!("answers.{n}"));
        let sent =
            stranger.client.publish_with_reply_and_headers(subject, reply, headers, n.to_string().into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    stranger.settle();
    // It connects for the second call. A second later it has given up: then a busy machine tries less here, and nothing is wrong.
    let end = Instant::now() + Duration::from_secs(5);
    while descriptors() <= before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    serve.terminate();
    drop(go_on);
    let answered = (0..4).map(|_| stranger.runtime.block_on(answers.next()).expect("an answer"));
    let mut answered: Vec<_> = answered.map(|answer| (answer.subject.to_string(), answer.payload)).collect();
    answered.sort();
    let expected: Vec<_> = (0..4).map(|n| (format!("answers.{n}"), n.to_string().into())).collect();
    assert_eq!(answered, expected);
    assert_eq!(serve.wait().code(), Some(0));
    let mut asked = asked.lock().expect("whole").clone();
    asked.sort();
    assert_eq!(asked, [b"0", b"1", b"2", b"3"]);
}

#[test]
fn who_is_asked_to_end_answers_what_it_has_taken() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let server = process(&near);
    let mut serve = nats.serve(&near, &[]);
    let (mut connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let (call, endless) = (started(&client, SLOW), started(&client, NEVER));
    server.line_with("asked");
    server.line_with("asked");
    serve.terminate();
    assert_eq!(call.wait().expect("it is answered").payload(), b"slowly");
    assert_eq!(serve.wait().code(), Some(0));
    let (rc, text) = refusal(&endless.wait().expect_err("nobody answers it"));
    assert!(
        rc == -10 && text.ends_with("is not served here any more; it may have been executed"),
        "{rc} {text}"
    );
    let (rc, _) = refusal(&client.call(ECHO, "").expect_err("nobody is there"));
    assert_eq!(rc, -6);
    connect.terminate();
    assert_eq!(connect.wait().code(), Some(0));
    assert!(!nats.path("far").exists(), "the socket is left behind");
    until("the client knows", || client.call(ECHO, "").is_err_and(|error| error.result_code().is_none()));
}

/// The connection is there, and takes nothing: what does not fit into its queue any more is refused, and not kept.
#[test]
fn a_broker_that_stands_still_is_busy_when_its_queue_is_full() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let _serve = nats.serve(&near, &[]);
    let (_connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    assert!(client.call(ECHO, "").is_ok());
    until("the queue is full", || {
        nats.signal("-STOP");
        // More than the queue has room for and the system takes; notifies, which are no open calls.
        for _ in 0..20_000 {
            client.notify(ECHO, [0; 4000]).expect("a notify");
        }
        let refused =
            client.request(ECHO).timeout(Duration::from_secs(5)).send("").expect_err("nobody hears it");
        nats.signal("-CONT");
        // Where this took too long the bridge thinks that the broker is away: then once more.
        let is_full = !refused.is_timeout() && refusal(&refused).1.contains("too much waits for nats://");
        assert!(
            !is_full || refusal(&refused).0 == -6 && refusal(&refused).1.ends_with("not executed"),
            "{refused}"
        );
        until("the broker is back", || client.call(ECHO, "").is_ok());
        is_full
    });
}

/// The broker never says that nobody has something, where somebody has everything.
#[test]
fn somebody_who_hears_everything_keeps_no_bridge_from_starting() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let stranger = nats.stranger();
    let _tap = stranger.runtime.block_on(stranger.client.subscribe(">")).expect("a subscription");
    stranger.runtime.block_on(stranger.client.flush()).expect("it is sent");
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let serve = nats.bridge("serve", &near, &["--types", "1"]);
    serve.line_with("somebody hears everything there");
    let (_connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    until("it is served", || client.call(ECHO, "hello").is_ok_and(|echo| echo.payload() == b"hello"));
}

#[test]
fn more_calls_than_are_taken_are_busy() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let serve = nats.bridge("serve", &near, &["--types", "1-3", "--max-calls", "2"]);
    serve.line_with("serving thing at ");
    let (_connect, far) = nats.connect("far", &["--max-calls", "3"]);
    let client = client(&far);
    let open: Vec<_> = (0..2).map(|_| started(&client, NEVER)).collect();
    let text = |error: &sidewire::Error| refusal(error).1;
    let refused = client.call(ECHO, "").expect_err("there is no room");
    assert!(
        refusal(&refused).0 == -6 && text(&refused).contains("has as many calls as it takes"),
        "{refused}"
    );
    drop(open);
    until("there is room again", || client.call(ECHO, "").is_ok());
    drop(serve);
    // The same at this end, where nobody answers.
    let stranger = nats.stranger();
    let _deaf = stranger.runtime.block_on(stranger.client.subscribe("sw.thing.*")).expect("a subscription");
    stranger.settle();
    let open: Vec<_> = (0..3).map(|_| started(&client, NEVER)).collect();
    let refused = client.request(ECHO).timeout(PATIENCE).send("").expect_err("there is no room");
    assert!(
        refusal(&refused).0 == -6 && text(&refused).contains("3 calls with 0 bytes are open"),
        "{refused}"
    );
    drop(open);
}

/// What calls that are open have brought is bounded, however few they are.
#[test]
fn more_bytes_than_are_taken_are_busy() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let stranger = nats.stranger();
    let mut deaf =
        stranger.runtime.block_on(stranger.client.subscribe("sw.thing.*")).expect("a subscription");
    stranger.settle();
    let (_connect, far) = nats.connect("far", &[]);
    let payload = vec![0; 1_000_000];
    // Of several clients, each of which has bounds of its own.
    let clients: Vec<_> = (0..8).map(|_| client(&far)).collect();
    let mut open: Vec<_> = Vec::new();
    for n in 0..67 {
        open.push(clients[n % clients.len()].start(NEVER, &payload).expect("a call"));
    }
    clients.iter().for_each(|client| client.flush().expect("it is on its way"));
    for _ in 0..67 {
        stranger.runtime.block_on(deaf.next()).expect("a call");
    }
    let refused = clients[0].call(NEVER, &payload).expect_err("there is no room");
    let (rc, text) = refusal(&refused);
    assert!(rc == -6 && text.contains("67 calls with 67000000 bytes are open"), "{refused}");
    drop((open, clients, deaf));
    // The same where they are served: 64 MiB are 67 calls, and a little more.
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let _serve = nats.serve(&near, &[]);
    let mut answers =
        stranger.runtime.block_on(stranger.client.subscribe("answers")).expect("a subscription");
    for _ in 0..70 {
        let sent = stranger.client.publish_with_reply("sw.thing.2", "answers", payload.clone().into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    for _ in 67..70 {
        let answer = stranger.runtime.block_on(answers.next()).expect("an answer");
        let rc = answer.headers.as_ref().and_then(|headers| headers.get("Sw-Rc")).map(|rc| rc.as_str());
        assert_eq!(rc, Some("-6"), "{answer:?}");
    }
}
