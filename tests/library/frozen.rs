//! Clients that are stopped, as by a debugger or Ctrl-Z, for longer than they wait: the answer came in
//! time, so they get it.

use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use sidewire::{Access, Connect, Listen, Responder, Server, StreamHandler};

use crate::util::{PATIENCE, fresh, unique, until, watchdog};

/// How long a client waits at first. Where that is not long enough to stop it in, it is tried again with more.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Says to a process of this test what it is to do, and where.
const TASK: &str = "SIDEWIRE_TEST_TASK";

/// Tells that a request has come, and answers when it is told to.
struct Gate {
    has_come: Sender<Request>,
    may_answer: Receiver<()>,
}

/// What the test does once it may be answered.
enum Request {
    /// Nothing more: the handler waits for the word.
    Held,
    /// This: the handler has gone on to the next one.
    Deferred(Responder),
}

impl Gate {
    fn pass(&self) {
        self.has_come.send(Request::Held).expect("the test listens");
        self.may_answer.recv().expect("the test answers");
    }
}

impl StreamHandler<Gate> for () {
    fn data(&mut self, gate: &mut Gate, session: &mut sidewire::Session<'_>, bytes: &[u8]) {
        gate.pass();
        session.write(bytes);
    }
}

fn server(gate: Gate, task: &str, scheme: &str) -> Server<Gate> {
    let endpoint = match scheme {
        "udp" => "udp:127.0.0.1:0".parse().expect("an endpoint"),
        "unixgram" => format!("unixgram:{}", std::env::temp_dir().join(unique("sw")).display())
            .parse()
            .expect("an endpoint"),
        scheme => fresh(scheme),
    };
    let listen = || Listen::from(&endpoint).access(Access::Anyone);
    let mut server = Server::new(gate);
    match task {
        // So that all of them are seen to have come, before one is answered.
        "threads" => server.on(1, |gate: &mut Gate, _, reply| {
            gate.has_come.send(Request::Deferred(reply.defer()?)).expect("the test listens");
            Ok(())
        }),
        _ => server.on(1, |gate: &mut Gate, request, reply| {
            gate.pass();
            reply.write(request.payload());
            Ok(())
        }),
    };
    match task {
        "raw" => server.listen_raw(listen(), ()),
        "messages" => server.listen_messages(listen(), |gate, message, reply| {
            gate.pass();
            reply.send(message.bytes());
        }),
        _ => server.listen(listen()),
    }
    .expect("listen");
    server
}

/// What a client does; it panics if that does not work.
fn work(task: &str, endpoint: &str, timeout: Duration) {
    let connect = Connect::to(endpoint).expect("an endpoint").access(Access::Anyone);
    let connect = connect.call_timeout(Some(timeout)).timeout(Some(PATIENCE));
    match task {
        "call" | "threads" => {
            let client = connect.open().expect("connect");
            let call = || assert_eq!(client.call(1, b"hello").expect("call").payload(), b"hello");
            let followers = if task == "threads" { 3 } else { 0 };
            thread::scope(|scope| {
                (0..followers).for_each(|_| drop(scope.spawn(call)));
                call();
            });
        }
        "classic" => {
            let client = connect.classic().open().expect("connect");
            assert_eq!(client.call(1, b"hello").expect("call").payload(), b"hello");
        }
        "raw" => {
            let stream = connect.open_raw().expect("connect");
            (&stream).write_all(b"hello").expect("write");
            let mut answer = [0; 5];
            (&stream).read_exact(&mut answer).expect("read");
        }
        "messages" => {
            let socket = connect.open_messages().expect("connect");
            socket.send(b"hello").expect("send");
            assert_eq!(socket.receive(&mut [0; 100]).expect("receive"), 5);
        }
        task => panic!("no task: {task}"),
    }
}

fn start(task: &str, endpoint: &str, timeout: Duration) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args(["--exact", NAME, "--nocapture", "--test-threads=1"]);
    let task = format!("{task} {endpoint} {}", timeout.as_secs());
    command.env(TASK, task).spawn().expect("start a client")
}

fn signal(name: &str, child: &Child) {
    let mut kill = Command::new("kill");
    assert!(kill.arg(name).arg(child.id().to_string()).status().expect("kill(1)").success());
}

fn run(task: &str, scheme: &str) {
    let mut timeouts = (0..5).map(|doubled| TIMEOUT * (1 << doubled));
    assert!(timeouts.any(|timeout| run_within(task, scheme, timeout)), "too slow for this test");
}

/// False: the client could not be stopped in time, which proves nothing.
fn run_within(task: &str, scheme: &str, timeout: Duration) -> bool {
    let (has_come, requests) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel();
    let server = server(Gate { has_come, may_answer }, task, scheme);
    let endpoint = server.endpoints()[0].to_string();
    let running = server.spawn().expect("spawn");
    let started = Instant::now();
    let mut client = start(task, &endpoint, timeout);
    let count = if task == "threads" { 4 } else { 1 };
    let requests: Vec<Request> =
        (0..count).map(|_| requests.recv_timeout(PATIENCE).expect("a request")).collect();
    signal("-STOP", &client);
    let stat = format!("/proc/{}/stat", client.id());
    until("it is stopped", || std::fs::read_to_string(&stat).expect("/proc").contains(") T "));
    let is_in_time = started.elapsed() < timeout;
    for request in requests {
        match request {
            Request::Held => answer.send(()).expect("the server waits"),
            Request::Deferred(responder) => responder.reply(&b"hello"[..]),
        }
    }
    if is_in_time {
        sleep(timeout + timeout / 4);
    }
    signal("-CONT", &client);
    let status = client.wait().expect("the client's end");
    assert!(status.success() || !is_in_time, "{task} on {endpoint}: {status}");
    running.stop().expect("the server ends well");
    is_in_time
}

const NAME: &str = "frozen::clients_that_were_stopped_get_what_came_in_time";

#[test]
fn clients_that_were_stopped_get_what_came_in_time() {
    let _watchdog = watchdog(60);
    if let Ok(task) = std::env::var(TASK) {
        let [task, endpoint, timeout] = task.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a task, an endpoint and a time: {task}")
        };
        return work(task, endpoint, Duration::from_secs(timeout.parse().expect("seconds")));
    }
    let streams = ["call", "threads", "classic", "raw"]
        .into_iter()
        .flat_map(|task| ["unix", "tcp"].map(|scheme| (task, scheme)));
    let datagrams = ["call", "threads", "classic", "messages"]
        .into_iter()
        .flat_map(|task| ["unixgram", "udp"].map(|scheme| (task, scheme)));
    // Over datagrams threads ask one after the other: then only one has asked in time.
    let cases = streams.chain(datagrams.filter(|(task, _)| *task != "threads"));
    thread::scope(|scope| cases.for_each(|(task, scheme)| drop(scope.spawn(move || run(task, scheme)))));
}
