//! Newer servers that take over from older ones.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Stdio, exit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sidewire::{
    App, Client, Connect, Endpoint, Error, Executed, Listen, Presence, Reconnect, RefusedBy, ResultCode,
    Server, ServerBuilder,
};

use crate::program::{Place, everywhere};
use crate::util::{fresh, times, until, watchdog};

/// Executes the call with the number in the payload, and answers with the server's version.
const EXECUTE: u16 = 2;
/// Has the server end.
const END: u16 = 3;
/// How long a server may take to take over, or what it has accepted: more than any machine needs.
const AMPLE: Duration = Duration::from_secs(60);

/// A server of this version, that writes down what it executes, until a newer one comes.
pub(crate) fn serve(place: &Place, version: &str) {
    let executed = OpenOptions::new().append(true).create(true).open(place.folder().join("executed"));
    let state = (executed.expect("a file"), version.to_owned());
    let mut server = build(App::new("takeover", version), state, |builder| builder.gives_way(AMPLE));
    server.on(EXECUTE, |(executed, version), request, reply| {
        let number = u64::from_le_bytes(request.payload().try_into().expect("eight bytes"));
        // At once, since another process reads it.
        executed.write_all(request.payload()).expect("a note");
        // Some are answered later, and are under way when the next server comes.
        if number % 8 == 0 {
            let (responder, version) = (reply.defer()?, version.clone());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(number % 20));
                responder.reply(version);
            });
        } else {
            reply.write(version);
        }
        Ok(())
    });
    let remote = server.remote().expect("a loop");
    server.on(END, move |_, _request, _reply| remote.stop().map_err(|_| ResultCode::HANDLER_FAILED.into()));
    server.listen(Listen::from(&place.endpoint).take_over(AMPLE)).unwrap_or_else(|error| {
        eprintln!("{error}");
        exit(1)
    });
    server.run().expect("a server that ends well");
}

fn build<S>(app: App, state: S, set: impl FnOnce(ServerBuilder<S>) -> ServerBuilder<S>) -> Server<S> {
    set(Server::builder(state).app(app)).build().expect("a server")
}

/// What became of the calls.
#[derive(Default)]
struct Fates {
    answered: Vec<u64>,
    not_executed: Vec<u64>,
    longest: Duration,
}

/// Servers that follow one another so fast count as one that lets everybody in and ends: behind that, there are pauses.
fn steadfast() -> Reconnect {
    Reconnect::new().attempts(1000).pauses(Duration::from_millis(1), Duration::from_millis(20))
}

/// Calls until it is told to stop, at this pace, and says what became of each.
fn load(client: &Client, numbers: &AtomicU64, pace: Duration, goes_on: &AtomicBool) -> Result<Fates, Error> {
    let (mut fates, begun) = (Fates::default(), Instant::now());
    for turn in 1.. {
        if !goes_on.load(Ordering::Relaxed) {
            break;
        }
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let called = Instant::now();
        match client.call(EXECUTE, number.to_le_bytes()) {
            Ok(_) => fates.answered.push(number),
            Err(error) if error.executed() == Executed::Never => fates.not_executed.push(number),
            Err(error) => return Err(error),
        }
        fates.longest = fates.longest.max(called.elapsed());
        let ahead = (pace * turn).saturating_sub(begun.elapsed());
        std::thread::sleep(ahead);
    }
    Ok(fates)
}

/// The same with many at a time, which are not sent again.
fn load_in_windows(client: &Client, numbers: &AtomicU64, goes_on: &AtomicBool) -> Result<Fates, Error> {
    const WINDOW: usize = 16;
    let mut fates = Fates::default();
    while goes_on.load(Ordering::Relaxed) {
        let mut window = Vec::new();
        for _ in 0..WINDOW {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            window.push((number, client.start(EXECUTE, number.to_le_bytes())));
        }
        for (number, started) in window {
            match started.and_then(sidewire::Pending::wait) {
                Ok(_) => fates.answered.push(number),
                Err(error) if error.executed() == Executed::Never => fates.not_executed.push(number),
                Err(error) => return Err(error),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(fates)
}

/// The version that answers now.
fn version(place: &Place, numbers: &AtomicU64) -> Result<String, Error> {
    let client = place.connect_only().reconnect(steadfast()).call_timeout(AMPLE).open()?;
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    let answer = client.call(EXECUTE, number.to_le_bytes())?;
    Ok(String::from_utf8_lossy(answer.payload()).into_owned())
}

fn spawn(place: &Place, role: &str) -> Child {
    let mut command = place.program(role);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("start a process")
}

/// So many servers one after the other, under about 1,000 calls a second of several clients. Says how the calls
/// ended.
fn succession(place: &Place, servers: usize) -> (usize, usize, Duration) {
    const CLIENTS: u32 = 8;
    let (numbers, goes_on) = (AtomicU64::new(0), AtomicBool::new(true));
    let mut current = spawn(place, "give-way 1.0");
    until("the first one serves", || place.connect_only().open().is_ok());
    // Before it is asked to go: whoever meets it just then is told to try again.
    let open = |_| place.connect_only().reconnect(steadfast()).call_timeout(AMPLE).open().expect("connect");
    let clients = (0..=CLIENTS).map(open).collect::<Vec<_>>();
    let begun = Instant::now();
    let fates = std::thread::scope(|scope| {
        let (numbers, goes_on) = (&numbers, &goes_on);
        let mut loads = Vec::new();
        let (last, others) = clients.split_last().expect("clients");
        for client in others {
            loads.push(scope.spawn(|| load(client, numbers, Duration::from_millis(1) * CLIENTS, goes_on)));
        }
        loads.push(scope.spawn(|| load_in_windows(last, numbers, goes_on)));
        for minor in 1..servers {
            let next = spawn(place, &format!("give-way 1.{minor}"));
            let status = std::mem::replace(&mut current, next).wait().expect("wait for a process");
            assert!(status.success(), "1.{}: {status}", minor - 1);
            let answered = numbers.load(Ordering::Relaxed) + 500;
            until("calls go on", || {
                numbers.load(Ordering::Relaxed) >= answered || loads.iter().any(|load| load.is_finished())
            });
            assert_eq!(version(place, numbers).expect("an answer"), format!("1.{minor}"));
        }
        goes_on.store(false, Ordering::Relaxed);
        let fates = loads.into_iter().map(|load| load.join().expect("a client"));
        fates.map(|fates| fates.unwrap_or_else(|error| panic!("{error}"))).collect::<Vec<_>>()
    });
    let took = begun.elapsed();
    let longest = fates.iter().map(|fates| fates.longest).max().unwrap_or_default();
    println!("{}: the longest call took {longest:?}", place.endpoint);
    let presence = place.connect_only().presence().expect("a look");
    match presence {
        // By the system's word: it has called listen(2) once more.
        Presence::Serving { pid } if cfg!(target_os = "linux") => assert_eq!(pid, Some(current.id())),
        other => assert!(matches!(other, Presence::Serving { .. }), "{other:?}"),
    }
    place.connect_only().open().expect("connect").call(END, b"").expect("it ends");
    assert!(current.wait().expect("wait for a process").success());
    let (answered, not_executed) = judge(place, &fates);
    (answered, not_executed, took)
}

/// Every call was executed once and answered, or not at all and reported so.
fn judge(place: &Place, fates: &[Fates]) -> (usize, usize) {
    let mut executed = Vec::new();
    let file = File::open(place.folder().join("executed"));
    file.and_then(|mut file| file.read_to_end(&mut executed)).expect("notes");
    let mut times = HashMap::<u64, u32>::new();
    for number in executed.chunks_exact(8) {
        *times.entry(u64::from_le_bytes(number.try_into().expect("eight bytes"))).or_default() += 1;
    }
    let (mut answered, mut not_executed) = (0, 0);
    for fates in fates {
        for number in &fates.answered {
            assert_eq!(times.get(number), Some(&1), "call {number} was answered");
        }
        for number in &fates.not_executed {
            assert_eq!(times.get(number), None, "call {number} was reported as not executed");
        }
        answered += fates.answered.len();
        not_executed += fates.not_executed.len();
    }
    assert!(times.values().all(|times| *times == 1), "some was executed twice");
    (answered, not_executed)
}

#[test]
fn every_call_is_answered_once_while_one_server_follows_another() {
    let _watchdog = watchdog(300);
    let servers = 1 + times() * if cfg!(windows) { 3 } else { 5 };
    for place in everywhere().filter(|place| place.endpoint.has_credentials()) {
        let (answered, not_executed, took) = succession(&place, servers);
        let endpoint = &place.endpoint;
        println!(
            "{endpoint}: {servers} servers, {answered} calls answered, {not_executed} not executed, {took:?}"
        );
        if let Endpoint::Unix(path) = endpoint {
            assert!(!path.exists(), "the last one removes what the first one has made");
        }
    }
}

/// How a server of this app fails to take over.
fn refused(endpoint: &Endpoint, app: App, within: Duration) -> Error {
    let mut newer = build(app, (), |builder| builder);
    newer.listen(Listen::from(endpoint).take_over(within)).expect_err("it may not")
}

#[test]
fn who_may_not_take_over_is_told_why_and_the_server_goes_on() {
    let _watchdog = watchdog(120);
    let endpoint = fresh("local");
    let older = |gives_way| {
        let app = App::new("app", "2.1");
        let server = build(app, (), |builder| if gives_way { builder.gives_way(AMPLE) } else { builder });
        let mut server = server;
        server.on(1, |(), _request, _reply| Ok(()));
        server.listen(&endpoint).expect("listen");
        server.spawn().expect("spawn")
    };
    for (gives_way, app, text) in [
        (true, App::new("app", "2.0"), "which is newer"),
        (true, App::new("other", "3.0"), "another app"),
        (false, App::new("app", "3.0"), "not to be asked"),
    ] {
        let running = older(gives_way);
        let client = Connect::to(&endpoint).expect("an endpoint").open().expect("connect");
        let error = refused(&endpoint, app, AMPLE);
        assert_eq!(error.refused_by(), Some(RefusedBy::Server(ResultCode::NOT_PERMITTED)), "{error}");
        assert!(error.to_string().contains(text) && error.operation() == "take over", "{error}");
        client.call(1, b"").expect("it goes on");
        drop(client);
        running.stop().expect("it ends well");
    }
}

#[test]
fn what_can_t_be_taken_over_is_said_at_once() {
    let _watchdog = watchdog(60);
    let app = || App::new("app", "1");
    let error = refused(&"tcp:127.0.0.1:0".parse().expect("an endpoint"), app(), AMPLE);
    assert!(error.is_invalid_input(), "{error}");
    let error = refused(&fresh("local"), App::default(), AMPLE);
    assert!(error.is_invalid_input() && error.to_string().contains("ServerBuilder::app"), "{error}");
    let error = Server::builder(()).gives_way(AMPLE).build().expect_err("without an app");
    assert!(error.is_invalid_input(), "{error}");
    // By itself.
    let endpoint = fresh("local");
    let mut server = build(app(), (), |builder| builder.gives_way(AMPLE));
    server.listen(&endpoint).expect("listen");
    let error = server.listen(Listen::from(&endpoint).take_over(AMPLE)).expect_err("it has it");
    assert!(error.is_in_use(), "{error}");
    // One that does not answer.
    let error = refused(&endpoint, app(), Duration::from_millis(50));
    assert!(error.is_timeout(), "{error}");
}

#[test]
fn where_nobody_serves_it_just_listens() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let mut server = build(App::new("app", "1"), (), |builder| builder);
    server.listen(Listen::from(&endpoint).take_over(AMPLE)).expect("nobody is there");
    let running = server.spawn().expect("spawn");
    Connect::to(&endpoint).expect("an endpoint").open().expect("connect");
    running.stop().expect("it ends well");
}

/// What leads clients there is the newer one's, also for what it does every few seconds and in the end.
#[test]
fn the_older_one_is_told_and_the_newer_one_owns_what_is_there() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let with = |version: &str| build(App::new("app", version), version.to_owned(), |it| it.gives_way(AMPLE));
    let mut older = with("1");
    older.listen(&endpoint).expect("listen");
    let (ended, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        older.run().expect("it ends well");
        ended.send(()).expect("the test waits");
    });
    let mut newer = with("2");
    newer.listen(Listen::from(&endpoint).take_over(AMPLE)).expect("it takes over");
    told.recv_timeout(AMPLE).expect("the older one ends");
    thread.join().expect("a thread");
    let running = newer.spawn().expect("spawn");
    let client = Connect::to(&endpoint).expect("an endpoint").open().expect("connect");
    assert_eq!(client.peer_app().expect("an app").version(), "2");
    drop(client);
    running.stop().expect("it ends well");
    let presence = Connect::to(&endpoint).expect("an endpoint").presence();
    assert_eq!(presence.expect("a look"), Presence::Absent);
    let mut last = with("1");
    last.listen(&endpoint).expect("nothing is left of the others");
}

/// One that asks, and ends before it has said that it has the endpoint, costs nothing: no descriptor, no client.
#[cfg(target_os = "linux")]
#[test]
fn one_that_dies_in_the_middle_changes_nothing() {
    use std::os::unix::net::UnixStream;

    let _watchdog = watchdog(60);
    let endpoint = fresh("unix");
    let Endpoint::Unix(path) = &endpoint else { panic!("{endpoint}") };
    let app = || App::new("app", "1");
    let mut older = build(app(), (), |builder| builder.gives_way(AMPLE));
    older.on(1, |(), _request, _reply| Ok(()));
    older.listen(&endpoint).expect("listen");
    let running = older.spawn().expect("spawn");
    let client = Connect::to(&endpoint).expect("an endpoint").open().expect("connect");
    client.call(1, b"").expect("an answer");
    let mut hello = vec![0xD1, 0x53, 0x57, 0xD1, 0, 0, 1, 1];
    hello.extend([0; 4].into_iter().chain([2, 0, 0, 0]).chain([0, 1, 0, 0].repeat(3)).chain([0; 20]));
    hello.extend([4, 0, 3, 0, b'a', b'p', b'p', 5, 0, 1, 0, b'1']);
    hello[4] = u8::try_from(hello.len()).expect("short");
    let open = || std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let before = open();
    for dies_after in [0, 1, 4, 48, hello.len()].repeat(10) {
        let mut newer = UnixStream::connect(path).expect("connect");
        newer.write_all(&hello[..dies_after]).expect("it takes that");
        if dies_after == hello.len() {
            // The descriptor that comes along is dropped by the system, as that of a process which is killed.
            newer.read_exact(&mut [0; 72]).expect("a hello");
        }
        drop(newer);
        client.call(1, b"").expect("it goes on");
    }
    until("all have gone", || open() <= before);
    let mut newer = build(app(), (), |builder| builder);
    newer.listen(Listen::from(&endpoint).take_over(AMPLE)).expect("the last one gets it");
    running.stop().expect("it has ended well");
}
