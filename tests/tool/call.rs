//! `sidewire call`: what it prints, and with what status it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::stage::{GREETING, Outcome, Stage, Started, eventually};
use crate::util::{PATIENCE, Process, classic, frame, unique, watchdog};

/// A server, and a shorthand to call it.
struct Scene {
    stage: Stage,
    server: Process,
}

impl Scene {
    fn new() -> Scene {
        let stage = Stage::new();
        let server = stage.serve(&[format!("local:{}", unique("tool"))], &[]);
        Scene { stage, server }
    }

    fn call(&self, args: &[&str], input: &[u8]) -> Outcome {
        let endpoint = self.server.endpoints[0].to_string();
        Started::new(&mut self.stage.sidewire([&["call", &endpoint], args].concat()), input).finish()
    }
}

#[test]
fn it_prints_the_reply_and_nothing_else() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    for layout in [&[][..], &["--classic"]] {
        let call = |args: &[&str]| scene.call(&[args, layout].concat(), b"");
        assert_eq!(call(&["1"]).expect(0).prints(GREETING).stderr, "");
        assert_eq!(call(&["2", "good day"]).expect(0).prints("").stderr, "");
        call(&["1"]).expect(0).prints("good day");
        call(&["3", std::str::from_utf8(GREETING).expect("text")]).expect(0).prints("good day");
        call(&["4", ""]).expect(0).prints("");
        call(&["4"]).expect(0).prints("");
        call(&["4", "ends in a newline\n"]).expect(0).prints("ends in a newline\n");
        call(&["4", "grüß Gott"]).expect(0).prints("grüß Gott");
    }
}

#[test]
fn a_notify_waits_for_no_answer() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    assert_eq!(scene.call(&["2", "told", "--notify"], b"").expect(0).prints("").stderr, "");
    eventually(PATIENCE, "it was told", || scene.call(&["1"], b"").stdout == b"told");
    // Not even of a type that nobody serves.
    scene.call(&["9", "--notify"], b"").expect(0).prints("");
    scene.call(&["2", "--notify", "--classic"], b"").expect(2).mentions("without an answer");
}

#[test]
fn a_hyphen_sends_standard_input() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
    for layout in [&[][..], &["--classic"]] {
        scene.call(&[&["4", "-"], layout].concat(), &bytes).expect(0).prints(&bytes);
        scene.call(&[&["4", "-"], layout].concat(), b"").expect(0).prints("");
    }
    let large: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    scene.call(&["4", "-"], &large).expect(0).prints(&large);
}

/// Nobody waits for an input that does not end, nor for one that says nothing.
#[test]
fn the_time_limit_holds_for_standard_input_too() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    let endpoint = scene.server.endpoints[0].to_string();
    let mut command = scene.stage.sidewire(["call", &endpoint, "4", "-", "--timeout", "0.5"]);
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    command.stdin(reader);
    let outcome = command.output().expect("run");
    assert_eq!(outcome.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert!(stderr.contains("timed out reading standard input"), "{stderr}");
}

#[test]
fn more_than_the_server_takes_is_not_read() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    let endpoint = scene.server.endpoints[0].to_string();
    let mut command = scene.stage.sidewire(["call", &endpoint, "4", "-", "--timeout", "50"]);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    command.stdin(reader).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("start");
    drop(command); // It holds the pipe's other end open.
    // Without an end; so this returns when nobody reads any more.
    let mut taken = 0;
    while writer.write_all(&[7; 1 << 16]).is_ok() {
        taken += 1_usize << 16;
        assert!(taken < 40 << 20, "it goes on reading");
    }
    let mut stderr = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut stderr).expect("text");
    assert_eq!(child.wait().expect("wait").code(), Some(2), "{stderr}");
    assert!(stderr.contains("more than 16777216 bytes"), "{stderr}");
}

/// What fits is measured by this server, not by the default.
#[test]
fn a_server_may_take_more_or_less_than_others() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (most, fits) in [(40 << 20, true), (1000, false)] {
        let mut limits = sidewire::Limits::default();
        limits.listener.connection.max_payload = most;
        let mut server = sidewire::Server::builder(()).types(16).limits(limits).build().expect("a server");
        server.on(4, |(), request, reply| {
            reply.write(request.payload().len().to_string());
            Ok(())
        });
        let endpoint = sidewire::Listen::on("tcp:127.0.0.1:0").expect("an endpoint");
        let bound = server.listen(endpoint.access(sidewire::Access::Anyone)).expect("listen");
        let running = server.spawn().expect("spawn");
        let args =
            ["call".to_owned(), bound.to_string(), "4".into(), "-".into(), "--timeout".into(), "50".into()];
        let call = |size: usize| Started::new(&mut stage.sidewire(&args), &vec![7; size]).finish();
        call(1000).expect(0).prints("1000");
        match fits {
            true => drop(call(20 << 20).expect(0).prints((20 << 20).to_string())),
            false => drop(call(1001).expect(2).prints("").mentions("1000")),
        }
        if !fits {
            call(20 << 20).expect(2).prints("").mentions("more than 1000 bytes");
        }
        drop(running);
    }
}

#[test]
fn options_stand_anywhere_and_data_may_begin_with_a_hyphen() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    scene.call(&["4", "-5"], b"").expect(0).prints("-5");
    scene.call(&["4", "--", "--hex"], b"").expect(0).prints("--hex");
    scene.call(&["4", "--hex", "AZ"], b"").expect(0).prints("415a");
    scene.call(&["4", "AZ", "--hex"], b"").expect(0).prints("415a");
    scene.call(&["--hex", "4", "AZ"], b"").expect(0).prints("415a");
    scene.call(&["1", "--timeout", "7.5", "--classic"], b"").expect(0).prints(GREETING);
    scene.call(&["4", "-", "--hex"], b"\x00\xff\n").expect(0).prints("00ff0a");
}

#[test]
fn status_1_is_a_result_code_of_the_server() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    for layout in [&[][..], &["--classic"]] {
        for (msg_type, text) in
            [("0", "no handler (-2)"), ("15", "no handler (-2)"), ("16", "unknown type (-1)")]
        {
            scene.call(&[&[msg_type], layout].concat(), b"").expect(1).prints("").mentions(text);
        }
    }
    scene.call(&["4", "-", "--classic"], &[0; 1025]).expect(1).prints("").mentions("too large (-3)");
}

#[test]
fn status_2_is_usage() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let foreign = if cfg!(windows) { "unix:/x" } else { "pipe:x" };
    for args in [
        &[][..],
        &["local:x"],
        &["local:x", "1st"],
        &["local:x", "-1"],
        &["local:x", "65536"],
        &["nonsense", "1"],
        &["local:a/b", "1"],
        &["tcp:127.0.0.1:x", "1"],
        &[foreign, "1"],
        &["local:x", "1", "", "--timeout", "0"],
        &["local:x", "1", "", "--timeout", "soon"],
        &["local:x", "1", "", "--timeout=-1"],
        &["local:x", "1", "", "--timeout", "nan"],
        &["local:x", "1", "a", "b"],
        &["tcp:127.0.0.1:1", "1", "--access", "same-user"],
    ] {
        let outcome = stage.run([&["call"], args].concat()).expect(2).prints("");
        assert!(!outcome.stderr.is_empty(), "{args:?}");
    }
    stage.run(["no-such-command"]).expect(2).prints("");
    stage.run([""; 0]).expect(2).prints("");
}

#[test]
fn status_3_is_nobody_there() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        // A port that nobody listens on, but that was free a moment ago.
        let free =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let endpoint = endpoint.replace("127.0.0.1:0", &free.to_string());
        for layout in [&[][..], &["--classic"]] {
            let outcome = stage.run([&["call", &endpoint, "1"], layout].concat()).expect(3).prints("");
            outcome.mentions(&endpoint).mentions("nobody listens there");
        }
    }
}

/// A server that does with its one connection what a test says.
fn fake(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp:{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || serve(listener.accept().expect("a client").0));
    endpoint
}

/// The hello of a responder of version 1.
fn answer(status: i32, version: u8) -> Vec<u8> {
    let mut bytes = crate::util::hello(1, 1);
    bytes[4] = 72;
    bytes.extend(status.to_le_bytes());
    bytes.extend([version, 0, 0, 0]);
    bytes.extend([9; 16]);
    bytes
}

/// Reads at least so many bytes.
fn swallow(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("bytes of the client");
    bytes
}

/// Takes the client's hello.
fn greet(stream: &mut TcpStream, answer: &[u8]) {
    let length = swallow(stream, 8)[4];
    swallow(stream, usize::from(length) - 8);
    stream.write_all(answer).expect("send");
}

/// Keeps the connection open until the client has gone.
fn idle(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn status_4_is_time_run_out() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let deaf = || fake(idle);
    let greets_and_falls_silent = || {
        fake(|mut stream| {
            greet(&mut stream, &answer(0, 1));
            idle(stream);
        })
    };
    let stops_in_mid_reply = || {
        fake(|mut stream| {
            greet(&mut stream, &answer(0, 1));
            swallow(&mut stream, 16);
            stream.write_all(&frame(2, 1, 1, 0, b"half")[..18]).expect("send");
            idle(stream);
        })
    };
    for (endpoint, layout) in [
        (deaf(), &[][..]),
        (greets_and_falls_silent(), &[]),
        (stops_in_mid_reply(), &[]),
        (deaf(), &["--classic"]),
    ] {
        let outcome = stage.run([&["call", &endpoint, "1", "--timeout", "0.5"], layout].concat()).expect(4);
        let outcome = outcome.prints("").mentions("timed out");
        assert!(outcome.took >= Duration::from_millis(500), "{outcome}");
    }
}

/// What a broken v1 server may do once it has greeted.
fn after_hello(bytes: Vec<u8>) -> String {
    fake(move |mut stream| {
        greet(&mut stream, &answer(0, 1));
        swallow(&mut stream, 16);
        stream.write_all(&bytes).expect("send");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        idle(stream);
    })
}

#[test]
fn status_5_is_a_server_that_breaks_the_protocol() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let hello = |bytes: Vec<u8>| {
        fake(move |mut stream| {
            greet(&mut stream, &bytes);
            idle(stream);
        })
    };
    let mut huge = frame(2, 1, 1, 0, b"");
    huge[..4].fill(0xff);
    for (what, endpoint) in [
        ("another protocol", hello(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("an answer that is too short", hello([&crate::util::hello(1, 1)[..], &[0; 24]].concat())),
        ("a version that was not offered", hello(answer(0, 7))),
        ("no version in common", hello(answer(-11, 0))),
        ("an unknown id", after_hello(frame(2, 1, 99, 0, b""))),
        ("a reply of another type", after_hello(frame(2, 2, 1, 0, b""))),
        ("an unknown kind", after_hello(frame(0x70, 1, 1, 0, b""))),
        ("a huge reply", after_hello(huge)),
    ] {
        let outcome = stage.run(["call", &endpoint, "1"]).prints("");
        assert_eq!(outcome.code, Some(5), "{what}: {outcome}");
        assert!(outcome.stderr.contains(&endpoint), "{what}: {outcome}");
    }
}

#[test]
fn status_5_in_the_classic_layout() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let after_request = |bytes: Vec<u8>| {
        fake(move |mut stream| {
            swallow(&mut stream, 12);
            stream.write_all(&bytes).expect("send");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            idle(stream);
        })
    };
    let negative = [1, 0, -1].map(i32::to_ne_bytes).concat();
    for (what, endpoint) in [
        ("a reply of another type", after_request(classic(2, 0, b""))),
        ("a negative length", after_request(negative)),
    ] {
        let outcome = stage.run(["call", &endpoint, "1", "--classic"]).prints("");
        assert_eq!(outcome.code, Some(5), "{what}: {outcome}");
    }
}

/// However a server leaves while a call waits: it broke no protocol.
#[test]
fn status_6_is_a_server_that_goes_away() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (what, endpoint) in [
        ("half a reply", after_hello(frame(2, 1, 1, 0, b"half")[..18].to_vec())),
        ("an end without a reply", after_hello(Vec::new())),
        ("a goodbye", after_hello(frame(12, 0, 0, -9, b""))),
        ("a goodbye after the request", after_hello(frame(12, 0, 1, -9, b""))),
    ] {
        let outcome = stage.run(["call", &endpoint, "1", "--timeout", "60"]).prints("");
        assert_eq!(outcome.code, Some(6), "{what}: {outcome}");
        assert!(outcome.stderr.contains(&endpoint), "{what}: {outcome}");
    }
    for (what, reply) in [
        ("half a reply", &classic(1, 0, b"half")[..14]),
        ("half a header", &classic(1, 0, b"half")[..5]),
        ("an end without a reply", &[]),
    ] {
        let reply = reply.to_vec();
        let endpoint = fake(move |mut stream| {
            swallow(&mut stream, 12);
            stream.write_all(&reply).expect("send");
        });
        let outcome = stage.run(["call", &endpoint, "1", "--classic", "--timeout", "60"]).prints("");
        assert_eq!(outcome.code, Some(6), "{what}: {outcome}");
    }
}

/// A server that is not there, and one that refuses, are the same over datagrams, where nobody shakes hands.
#[test]
fn status_3_over_datagrams() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (rc, name) in [(-5, "not permitted (-5)"), (-6, "busy (-6)")] {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("udp:{}", socket.local_addr().expect("its address"));
        let serving = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut bytes = [0; 1024];
                let (length, from) = socket.recv_from(&mut bytes).expect("a request");
                let is_classic = bytes[..4] == 1_i32.to_ne_bytes();
                let reply = match is_classic {
                    true => classic(1, rc, b""),
                    // The request's own header, turned into that of a reply.
                    false => {
                        let mut reply = bytes[..24].to_vec();
                        reply[12] = 2;
                        reply[8..12].fill(0);
                        reply[20..24].copy_from_slice(&rc.to_le_bytes());
                        reply
                    }
                };
                assert!(length >= 12);
                socket.send_to(&reply, from).expect("answer");
            }
        });
        stage.run(["call", &endpoint, "1"]).expect(3).prints("").mentions(name);
        stage.run(["call", &endpoint, "1", "--classic"]).expect(3).prints("").mentions(name);
        serving.join().expect("the server");
    }
    // Wine reports nothing of a UDP port that nobody has.
    for endpoint in stage.all_datagrams().iter().filter(|_| cfg!(unix)) {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let endpoint = endpoint.replace("127.0.0.1:0", &free.expect("a port").to_string());
        stage.run(["call", &endpoint, "1", "--timeout", "20"]).expect(3).prints("").mentions(&endpoint);
    }
}

/// A result code of the application comes with its number, and what came with it is printed.
#[test]
fn result_codes_of_applications_and_their_bytes() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = after_hello(frame(2, 1, 1, 42, b"why"));
    stage.run(["call", &endpoint, "1"]).expect(1).prints("why").mentions("application error (42)");
    let mut explained = frame(2, 1, 1, -10, b"the disk is full\n");
    explained[5] = 4;
    let outcome = stage.run(["call", &after_hello(explained), "1"]).expect(1).prints("");
    outcome.mentions("handler failed (-10)").mentions("the disk is full");
}

/// Refused by the server: full, or by its policy.
#[test]
fn status_3_is_refused() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (status, name) in [(-5, "not permitted (-5)"), (-6, "busy (-6)")] {
        let endpoint = fake(move |mut stream| {
            greet(&mut stream, &answer(status, 0));
            idle(stream);
        });
        stage.run(["call", &endpoint, "1"]).expect(3).prints("").mentions(name);
    }
}
