//! What goes with frames and is no bytes, on Windows: handles, which frames name and whoever gets them fetches; and peers
//! that lie about it.

use std::fs::File;
use std::io::{PipeReader, Read, Seek, Write};
use std::net::TcpListener;
use std::os::windows::io::{AsRawHandle, FromRawHandle, IntoRawSocket, OwnedHandle, RawHandle};
use std::process::Command;

use sidewire::{Attachment, Client, Connect, Endpoint, Executed, Listen, Responder, ResultCode, Server};

use crate::util::{Frame, Raw, alone, frame, fresh, hello, start, store, until, usual, watchdog};

/// Says how many came, and sends them back.
const BACK: u16 = 1;
/// Keeps them.
const KEEP: u16 = 2;
/// Attaches so many ends of pipes, as its payload says.
const PIPES: u16 = 3;
/// Answers with its payload.
const ECHO: u16 = 4;
/// Answered by another thread, in parts if its payload says something, with a file.
const LATER: u16 = 5;
/// The frame's kind that says how many were taken.
const TAKEN: u8 = 128;

fn server() -> Server<Vec<Attachment>> {
    let mut server = Server::new(Vec::new());
    server.on(BACK, |_, request, reply| {
        let came = request.take_attachments();
        assert!(request.take_attachments().is_empty(), "they are given once");
        reply.write(came.len().to_string());
        came.into_iter().try_for_each(|attachment| reply.attach(attachment))
    });
    server.on(KEEP, |kept, request, _| {
        kept.extend(request.take_attachments());
        Ok(())
    });
    server.on(PIPES, |_, request, reply| {
        for _ in 0..request.payload()[0] {
            reply.attach(std::io::pipe()?.0)?;
        }
        reply.write(request.payload());
        Ok(())
    });
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(LATER, |_, request, reply| {
        if request.payload().is_empty() {
            let mut responder: Responder = reply.defer()?;
            std::thread::spawn(move || {
                responder.attach(temporary("later")).expect("it may go");
                responder.reply("");
            });
        } else {
            let mut stream = reply.stream()?;
            std::thread::spawn(move || {
                stream.send("one").expect("somebody waits");
                stream.attach(temporary("all of it")).expect("it may go");
                stream.reply("done");
            });
        }
        Ok(())
    });
    server
}

fn listen(endpoint: &Endpoint) -> Listen {
    usual(endpoint).attachments(true)
}

fn connect(endpoint: &Endpoint) -> Client {
    Connect::to(endpoint.clone()).expect("an endpoint").attachments(true).open().expect("connect")
}

fn temporary(text: &str) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("write");
    file
}

fn text_of(attachment: Attachment) -> String {
    let (mut file, mut text) = (attachment.into_file(), String::new());
    file.rewind().expect("a file has a beginning");
    file.read_to_string(&mut text).expect("a text");
    text
}

/// How many handles this process has. One by one, since Wine 8 says that they are none.
fn handles() -> usize {
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetHandleInformation(handle: RawHandle, flags: *mut u32) -> i32;
    }
    const LAST: usize = 0x2000;
    let is_open = |value: &usize| {
        let mut flags = 0;
        // SAFETY: the pointer is to a local that outlives the call; a value that is no handle is an error.
        unsafe { GetHandleInformation(std::ptr::without_provenance_mut(*value), &raw mut flags) != 0 }
    };
    (4..LAST).step_by(4).filter(is_open).count()
}

/// What may be open besides what is counted: threads that are about to end, and what a connection that ends still has.
const SOME: usize = 6;

/// PROTOCOL F30, F32
#[test]
fn an_open_file_and_an_end_of_a_pipe_go_there_and_back() {
    let _watchdog = watchdog(30);
    for scheme in ["local", "pipe"] {
        let (running, bound) = start(server(), [listen(&fresh(scheme))]);
        let client = connect(&bound[0]);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let attachments = [temporary("what it says").into(), writer.into()];
        let reply = client.request(BACK).send_attached("these", attachments).expect("a reply");
        assert_eq!(reply.payload(), b"2");
        let mut back = reply.take_attachments().into_iter();
        let mut next = || back.next().expect("two");
        assert_eq!(text_of(next()), "what it says");
        next().into_file().write_all(b"through the pipe").expect("its end is there");
        let mut piped = String::new();
        reader.read_to_string(&mut piped).expect("all other copies of its end are closed");
        assert_eq!(piped, "through the pipe");
        client.close();
        running.stop().expect("stop");
    }
}

/// Also if the client is closed right behind it.
/// PROTOCOL F32
#[test]
fn a_notify_takes_something_along() {
    let _watchdog = watchdog(30);
    for _ in 0..10 {
        let (running, bound) = start(server(), [listen(&fresh("pipe"))]);
        let client = connect(&bound[0]);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        client.request(KEEP).notify_attached("", [writer.into()]).expect("sent");
        client.close();
        let kept = running.stop().expect("stop");
        let [end] = <[Attachment; 1]>::try_from(kept).expect("one");
        end.into_file().write_all(b"!").expect("write");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "!");
    }
}

#[test]
fn something_goes_with_answers_that_come_later() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("local"))]);
    let client = connect(&bound[0]);
    let reply = client.call(LATER, "").expect("a reply");
    assert_eq!(reply.take_attachments().into_iter().map(text_of).collect::<Vec<_>>(), ["later"]);
    let mut parts = client.stream(LATER, "in parts").expect("begun");
    let came: Vec<_> = parts.by_ref().map(|part| part.expect("a part")).collect();
    assert_eq!(came, [b"one"]);
    let last = parts.response().expect("the last word");
    assert_eq!(last.take_attachments().into_iter().map(text_of).collect::<Vec<_>>(), ["all of it"]);
    client.close();
    running.stop().expect("stop");
}

#[test]
fn what_can_not_go_is_said_before_anything_is_sent() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("pipe")), usual(&fresh("pipe"))]);
    let pipe = || Attachment::from(std::io::pipe().expect("a pipe").0);
    for (client, count, text) in [
        (connect(&bound[1]), 1, "both Connect::attachments and Listen::attachments"),
        (Client::connect(&bound[0]).expect("connect"), 1, "the same integrity level"),
        (connect(&bound[0]), 17, "1 to 16"),
        (connect(&bound[0]), 0, "1 to 16"),
    ] {
        let error = client.request(BACK).send_attached("", (0..count).map(|_| pipe())).expect_err(text);
        assert!(error.is_invalid_input() && error.to_string().contains(text), "{error}");
        assert_eq!(error.executed(), Executed::Never);
        assert_eq!(client.call(ECHO, "goes on").expect("call").payload(), b"goes on");
        let error = client.call(PIPES, [17]).expect_err("so many");
        let can = client.call(PIPES, [1]).is_ok();
        let code = if can { ResultCode::TOO_LARGE } else { ResultCode::FEATURE_MISSING };
        assert_eq!(error.result_code(), Some(code), "{error}");
    }
    let client = connect(&bound[0]);
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket").into_raw_socket();
    let guised: RawHandle = std::ptr::with_exposed_provenance_mut(socket as usize);
    // SAFETY: it is open, and nobody else owns it.
    let guised = Attachment::from(unsafe { OwnedHandle::from_raw_handle(guised) });
    let error = client.request(BACK).send_attached("", [guised]).expect_err("a socket");
    assert!(error.is_invalid_input() && error.to_string().contains("sockets can't be attached"), "{error}");
    assert_eq!(client.call(ECHO, "goes on").expect("call").payload(), b"goes on");
    let tcp = usual(&fresh("tcp")).attachments(true);
    assert!(store().listen(tcp).expect_err("a reason").to_string().contains("not supported here"));
    running.stop().expect("stop");
}

#[test]
fn among_large_frames_each_gets_its_own() {
    let _watchdog = watchdog(60);
    alone("handles::among_large_frames_each_gets_its_own", || {
        let (running, bound) = start(server(), [listen(&fresh("pipe"))]);
        let client = connect(&bound[0]);
        let large = vec![7; 300 << 10];
        let turn = |thread: usize, round: usize| {
            let text = format!("{thread} {round}");
            let payload = if round.is_multiple_of(2) { &large[..] } else { b"small" };
            let request = client.request(BACK);
            let reply = request.send_attached(payload, [temporary(&text).into()]).expect("a reply");
            let [back] = <[Attachment; 1]>::try_from(reply.take_attachments()).expect("one");
            assert_eq!(text_of(back), text);
            assert!(client.call(ECHO, &large).expect("call").payload() == large);
        };
        turn(0, 0);
        let before = handles();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let turn = &turn;
                scope.spawn(move || (0..8).for_each(|round| turn(thread, round)));
            }
        });
        client.call(ECHO, "").expect("the server has heard what was taken");
        until("none stays open, on either side", || handles() <= before + SOME);
        client.close();
        running.stop().expect("stop");
    });
}

/// A peer of the server that writes what it likes.
struct Peer(Raw);

impl Peer {
    /// One that offers these features.
    fn new(endpoint: &Endpoint, offers: u8) -> Peer {
        let peer = Peer(Raw::connect(endpoint));
        let mut bytes = hello(1, 1);
        bytes[8] = offers;
        peer.0.send(&bytes);
        let answer = peer.read_hello();
        assert_eq!(u32::from_le_bytes(answer[8..12].try_into().expect("four")), 8, "what the server offers");
        peer
    }

    fn read_hello(&self) -> Vec<u8> {
        let mut answer = self.0.receive(8);
        let length = usize::from(u16::from_le_bytes([answer[4], answer[5]]));
        answer.extend(self.0.receive(length - 8));
        answer
    }

    /// The next frame that says something else than that something was taken.
    fn next(&self) -> Frame {
        loop {
            let frame = self.0.receive_frame();
            if frame.kind != TAKEN {
                return frame;
            }
        }
    }

    /// It is told that it is malformed, and that is all.
    fn expect_malformed(&self, text: &str) {
        let frame = self.next();
        let said = frame.payload.escape_ascii().to_string();
        assert_eq!((frame.kind, frame.rc), (12, -4), "{text}: {said}");
        assert!(said.contains(text), "{text}: {said}");
    }
}

/// A frame that names these.
fn naming(kind: u8, msg_type: u16, id: u32, names: &[u32]) -> Vec<u8> {
    let value: Vec<u8> = names.iter().flat_map(|name| name.to_le_bytes()).collect();
    let mut payload = (value.len() as u16 + 4).to_le_bytes().to_vec();
    payload.extend(0x8002u16.to_le_bytes());
    payload.extend((value.len() as u16).to_le_bytes());
    payload.extend(value);
    payload.extend(b"payload");
    let mut bytes = frame(kind, msg_type, id, 0, &payload);
    bytes[5] = 2;
    bytes
}

fn name_of(pipe: &PipeReader) -> u32 {
    pipe.as_raw_handle().addr().try_into().expect("a handle has 32 bits")
}

/// Serves on a thread of this process, which has nothing else open.
fn beside(test: impl FnOnce(&Endpoint)) {
    let server = server();
    let counters = server.counters();
    let (running, bound) = start(server, [listen(&fresh("pipe"))]);
    for _ in 0..2 {
        // Makes what is only made once.
        let peer = Peer::new(&bound[0], 8);
        peer.0.send(&frame(1, ECHO, 1, 0, b"once"));
        peer.next();
        drop(peer);
        until("it has left", || counters.connections() == 0);
    }
    let before = handles();
    test(&bound[0]);
    until("all have left", || counters.connections() == 0);
    until("none is left behind", || {
        // Whoever is accepted next lets go of what the last has had.
        Peer::new(&bound[0], 8);
        handles() <= before + SOME
    });
    let client = connect(&bound[0]);
    assert_eq!(client.call(ECHO, "on").expect("the server goes on").payload(), b"on");
    client.close();
    running.stop().expect("stop");
}

/// PROTOCOL F31, F34, F35
#[test]
fn who_lies_about_them_is_told_so_and_nothing_stays_open() {
    let _watchdog = watchdog(60);
    alone("handles::who_lies_about_them_is_told_so_and_nothing_stays_open", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            let name = name_of(&pipe);
            let pseudo = [-1i32, -2, -3, -4, -5, -6].map(i32::cast_unsigned);
            for wrong in pseudo.into_iter().chain([0, 1 << 31]) {
                let peer = Peer::new(endpoint, 8);
                peer.0.send(&naming(1, BACK, 1, &[name, wrong]));
                peer.expect_malformed("what can be no handle");
            }
            for names in [&[][..], &[name; 17]] {
                let peer = Peer::new(endpoint, 8);
                peer.0.send(&naming(1, BACK, 1, names));
                peer.expect_malformed("names none, more than 16");
            }
            for wrong in [0x7fff_fffc, 0x00ff_fff0] {
                let peer = Peer::new(endpoint, 8);
                peer.0.send(&naming(1, BACK, 1, &[name, name, wrong]));
                peer.expect_malformed("what a frame names");
            }
            for kind in [1, 3] {
                let peer = Peer::new(endpoint, 8);
                peer.0.send(&naming(kind, KEEP + 10, u32::from(kind == 1), &[name; 16]));
                if kind == 1 {
                    assert_eq!(peer.next().rc, -2, "nobody handles that type");
                }
                peer.0.send(&frame(TAKEN, 0, 1, 0, b""));
                peer.expect_malformed("more were taken than were sent");
            }
            // Fine, in pieces of any size.
            let peer = Peer::new(endpoint, 8);
            for (id, cut) in (1..).zip([1, 15, 16, 17, 22, 25]) {
                let bytes = naming(1, KEEP + 10, id, &[name; 2]);
                peer.0.send(&bytes[..cut]);
                std::thread::sleep(std::time::Duration::from_millis(5));
                peer.0.send(&bytes[cut..]);
                let (taken, reply) = (peer.0.receive_frame(), peer.0.receive_frame());
                assert_eq!((taken.kind, taken.id), (TAKEN, id));
                assert_eq!((reply.kind, reply.rc), (2, -2), "nobody handles that type");
            }
            // Half a frame, and gone.
            peer.0.send(&naming(1, BACK, 50, &[name; 16])[..30]);
            assert_eq!(name_of(&pipe), name);
        });
    });
}

/// PROTOCOL F23, F30, F36
#[test]
fn who_has_not_agreed_can_not_send_any() {
    let _watchdog = watchdog(60);
    alone("handles::who_has_not_agreed_can_not_send_any", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            for offers in [0, 4] {
                let peer = Peer::new(endpoint, offers);
                peer.0.send(&naming(1, BACK, 1, &[name_of(&pipe)]));
                let reply = peer.0.receive_frame();
                assert_eq!((reply.kind, reply.rc), (2, -12), "a tag that must be understood, and is not");
                peer.0.send(&frame(TAKEN, 0, 7, 0, b"")); // It may be skipped.
                peer.0.send(&frame(1, ECHO, 2, 0, b"on"));
                assert_eq!(peer.0.receive_frame().payload, b"on");
            }
        });
    });
}

/// Nobody takes them, or their handler says no: at no time does the server hold more than those of one frame.
#[test]
fn a_flood_of_handles_leaves_none_behind() {
    let _watchdog = watchdog(60);
    alone("handles::a_flood_of_handles_leaves_none_behind", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            let (before, names) = (handles(), [name_of(&pipe); 16]);
            let peer = Peer::new(endpoint, 8);
            for id in 1..=100 {
                peer.0.send(&naming(3, BACK, 0, &names));
                peer.0.send(&naming(1, PIPES, id, &names));
                let reply = peer.next();
                assert_eq!((reply.kind, reply.rc), (2, -3), "16 and no more");
                assert!(handles() <= before + 60, "at {id}");
            }
        });
    });
}

/// What goes with replies is open here until it was taken. Who takes nothing is told "busy" in time, and costs nothing
/// when he has gone.
/// PROTOCOL F33, F37
#[test]
fn what_nobody_takes_is_closed() {
    let _watchdog = watchdog(60);
    alone("handles::what_nobody_takes_is_closed", || {
        beside(|endpoint| {
            let peer = Peer::new(endpoint, 8);
            let before = handles();
            for id in 1..=17 {
                peer.0.send(&frame(1, PIPES, id, 0, &[16]));
                let reply = peer.next();
                assert_eq!((reply.kind, reply.rc), (2, if id < 17 { 0 } else { -6 }));
            }
            let open = handles() - before;
            assert!((200..=300).contains(&open), "{open}");
            peer.0.send(&frame(TAKEN, 0, 10, 0, b""));
            peer.0.send(&frame(1, PIPES, 18, 0, &[16]));
            assert_eq!(peer.next().rc, 0, "there is room again");
            assert!(handles() - before <= open - 100);
        });
    });
}

/// The process that has named something ends before that was fetched, and in the middle of a frame.
#[test]
fn one_that_dies_between_leaves_nothing_behind() {
    const TO: &str = "SIDEWIRE_TEST_DIES_AT";
    const NAME: &str = "handles::one_that_dies_between_leaves_nothing_behind";
    if let Ok(endpoint) = std::env::var(TO) {
        let (endpoint, cut) = endpoint.split_once(' ').expect("two words");
        let peer = Peer::new(&endpoint.parse().expect("an endpoint"), 8);
        let (pipe, _writer) = std::io::pipe().expect("a pipe");
        let bytes = naming(1, KEEP, 1, &[name_of(&pipe); 16]);
        let length = if cut == "cut" { 50 } else { bytes.len() };
        peer.0.send(&bytes[..length]);
        std::process::exit(0);
    }
    let _watchdog = watchdog(60);
    let server = server();
    let counters = server.counters();
    let (running, bound) = start(server, [listen(&fresh("pipe"))]);
    for cut in ["cut", "whole", "whole"] {
        let mut command = Command::new(std::env::current_exe().expect("the test binary"));
        command.args(["--exact", NAME, "--nocapture", "--test-threads=1"]);
        command.env(TO, format!("{} {cut}", bound[0]));
        assert!(command.status().expect("it runs").success());
        until("it has left", || counters.connections() == 0);
    }
    let client = connect(&bound[0]);
    assert_eq!(client.call(ECHO, "on").expect("the server goes on").payload(), b"on");
    client.close();
    let kept = running.stop().expect("stop").len();
    assert!([0, 16, 32].contains(&kept), "{kept}: all of a frame's, or none");
}

/// PROTOCOL F29, L7a
#[test]
fn a_client_keeps_no_more_than_it_says() {
    let _watchdog = watchdog(30);
    alone("handles::a_client_keeps_no_more_than_it_says", || {
        let (running, bound) = start(server(), [listen(&fresh("pipe"))]);
        let mut limits = sidewire::ConnectionLimits::default();
        limits.max_attachments = 20;
        let connect = Connect::to(bound[0].clone()).expect("an endpoint").attachments(true).limits(limits);
        let client = connect.open().expect("connect");
        client.call(PIPES, [1]).expect("a reply");
        let before = handles();
        let taken = client.call(PIPES, [16]).expect("a reply").take_attachments();
        let kept = client.call(PIPES, [16]).expect("those that were taken do not count");
        assert_eq!(taken.len(), 16);
        until("the server has closed its own", || handles() <= before + 32 + SOME);
        assert!(handles() >= before + 32, "those are here");
        let error = client.call(PIPES, [5]).expect_err("too many");
        assert!(error.is_protocol() && error.to_string().contains("more than 20 attachments"), "{error}");
        drop((taken, kept, client));
        until("all are closed", || handles() <= before + SOME);
        running.stop().expect("stop");
    });
}
