//! What goes with frames and is no bytes: files, pipes, sockets; and peers that lie about it.

use std::fs::File;
use std::io::{IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use sidewire::{Attachment, Client, Connect, Endpoint, Executed, Listen, ResultCode, Server};

use crate::util::{
    PATIENCE, alone, announce, frame, fresh, hello, serve_alone, start, store, until, usual, watchdog,
};

/// Says how many came, and sends them back.
const BACK: u16 = 1;
/// Keeps them.
const KEEP: u16 = 2;
/// Attaches so many ends of pipes, as its payload says.
const PIPES: u16 = 3;
/// Answers with its payload.
const ECHO: u16 = 4;
/// Sends the payload back, and again as one of the handler's own, and attaches what came.
const BOTH: u16 = 5;

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
    server.on(BOTH, |_, request, reply| {
        reply.write(request.payload());
        reply.give(request.payload().to_vec());
        request.take_attachments().into_iter().try_for_each(|attachment| reply.attach(attachment))
    });
    server
}

pub(super) fn listen(endpoint: &Endpoint) -> Listen {
    usual(endpoint).attachments(true)
}

pub(super) fn connect(endpoint: &Endpoint) -> Client {
    Connect::to(endpoint.clone()).expect("an endpoint").attachments(true).open().expect("connect")
}

pub(super) fn temporary(text: &str) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("write");
    file
}

pub(super) fn text_of(attachment: Attachment) -> String {
    let (mut file, mut text) = (attachment.into_file(), String::new());
    file.rewind().expect("a file has a beginning");
    file.read_to_string(&mut text).expect("a text");
    text
}

pub(super) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// PROTOCOL F23, F25
#[test]
fn an_open_file_an_end_of_a_pipe_and_a_listening_socket_go_there_and_back() {
    let _watchdog = watchdog(30);
    for scheme in ["local", "unix", "abstract"] {
        let (running, bound) = start(server(), [listen(&fresh(scheme))]);
        let client = connect(&bound[0]);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("its address");
        let attachments = [temporary("what it says").into(), writer.into(), socket.into()];
        let reply = client.request(BACK).send_attached("these", attachments).expect("a reply");
        assert_eq!(reply.payload(), b"3");
        let mut back = reply.take_attachments().into_iter();
        assert!(reply.take_attachments().is_empty(), "they are given once");
        let mut next = || back.next().expect("three");
        assert_eq!(text_of(next()), "what it says");
        next().into_file().write_all(b"through the pipe").expect("its end is there");
        let socket = TcpListener::from(OwnedFd::from(next()));
        TcpStream::connect(address).expect("connect").write_all(b"hello").expect("write");
        let mut heard = String::new();
        socket.accept().expect("accept").0.read_to_string(&mut heard).expect("read");
        let mut piped = String::new();
        reader.read_to_string(&mut piped).expect("all other copies of its end are closed");
        assert_eq!((&piped[..], &heard[..]), ("through the pipe", "hello"));
        client.close();
        running.stop().expect("stop");
    }
}

/// PROTOCOL F23
#[test]
fn a_notify_takes_something_along() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("unix"))]);
    let client = connect(&bound[0]);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    client.request(KEEP).notify_attached("", [writer.into()]).expect("sent");
    client.call(ECHO, "it has come").expect("call");
    let kept = running.stop().expect("stop");
    let [end] = <[Attachment; 1]>::try_from(kept).expect("one");
    end.into_file().write_all(b"!").expect("write");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "!");
}

#[test]
fn what_can_not_go_is_said_before_anything_is_sent() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("unix")), usual(&fresh("unix"))]);
    let pipe = || Attachment::from(std::io::pipe().expect("a pipe").0);
    for (client, count, text) in [
        (connect(&bound[1]), 1, "both Connect::attachments and Listen::attachments"),
        (
            Client::connect(&bound[0]).expect("connect"),
            1,
            "both Connect::attachments and Listen::attachments",
        ),
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
    let tcp = usual(&fresh("tcp")).attachments(true);
    assert!(store().listen(tcp).expect_err("a reason").to_string().contains("not supported here"));
    let tcp = Connect::to("tcp:127.0.0.1:1")
        .expect("an endpoint")
        .attachments(true)
        .access(sidewire::Access::Anyone);
    assert!(tcp.open().expect_err("a reason").to_string().contains("not supported here"));
    running.stop().expect("stop");
}

/// The socket is full again and again, so that frames leave in pieces.
#[test]
fn among_large_frames_each_gets_its_own() {
    let _watchdog = watchdog(60);
    alone("attachments::among_large_frames_each_gets_its_own", || {
        let (running, bound) = start(server(), [listen(&fresh("unix"))]);
        let client = connect(&bound[0]);
        client.call(ECHO, "").expect("call");
        let before = descriptors();
        let large = vec![7; 300 << 10];
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (client, large) = (&client, &large);
                scope.spawn(move || {
                    for round in 0..20 {
                        let text = format!("{thread} {round}");
                        let file = temporary(&text).into();
                        let request = client.request(BACK);
                        let payload = if round % 2 == 0 { &large[..] } else { b"small" };
                        let reply = request.send_attached(payload, [file]).expect("a reply");
                        let [back] = <[Attachment; 1]>::try_from(reply.take_attachments()).expect("one");
                        assert_eq!(text_of(back), text);
                        assert_eq!(client.call(ECHO, large).expect("call").payload(), large);
                        let length = large.len() * round / 19;
                        let payload = &large[..length];
                        let request = client.request(BOTH);
                        let reply = request.send_attached(payload, [temporary(&text).into()]);
                        let reply = reply.expect("a reply");
                        assert!(reply.payload() == [payload, payload].concat(), "{length} bytes");
                        let [back] = <[Attachment; 1]>::try_from(reply.take_attachments()).expect("one");
                        assert_eq!(text_of(back), text);
                    }
                });
            }
        });
        until("none stays open, on either side", || descriptors() == before);
        client.close();
        running.stop().expect("stop");
    });
}

/// A peer of the server that writes what it likes.
pub(super) struct Peer(UnixStream);

impl Peer {
    pub(super) fn new(endpoint: &Endpoint, offers: bool) -> Peer {
        let Endpoint::Unix(path) = endpoint else { panic!("a path") };
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let peer = Peer(stream);
        peer.send(&hello_that(offers), &[]);
        let answer = peer.read_hello();
        assert_eq!(u32::from_le_bytes(answer[8..12].try_into().expect("four")), 4, "what the server offers");
        peer
    }

    fn read_hello(&self) -> Vec<u8> {
        let mut answer = vec![0; 8];
        (&self.0).read_exact(&mut answer).expect("a hello");
        answer.resize(u16::from_le_bytes([answer[4], answer[5]]).into(), 0);
        (&self.0).read_exact(&mut answer[8..]).expect("the rest of it");
        answer
    }

    /// So many copies of an end of a pipe go with the first byte.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let sent = rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.expect("sent"), bytes.len());
    }

    /// The rc and the payload of the next frame, and its kind.
    pub(super) fn next(&self) -> Option<(u8, i32, Vec<u8>)> {
        let mut header = [0; 16];
        (&self.0).read_exact(&mut header).ok()?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
        let mut payload = vec![0; number(0) as usize];
        (&self.0).read_exact(&mut payload).expect("the payload");
        Some((header[4], number(12).cast_signed(), payload))
    }

    /// It is told that it is malformed, and that is all.
    fn expect_malformed(&self, text: &str) {
        let Some((kind, rc, payload)) = self.next() else { panic!("{text}: no goodbye") };
        assert_eq!((kind, rc), (12, -4), "{text}: {}", payload.escape_ascii());
        assert!(payload.escape_ascii().to_string().contains(text), "{text}: {}", payload.escape_ascii());
        assert!(self.next().is_none());
    }
}

fn hello_that(offers: bool) -> Vec<u8> {
    let mut bytes = hello(1, 1);
    bytes[8] = if offers { 4 } else { 0 };
    bytes
}

/// A request that announces so many.
fn announcing(count: u8, msg_type: u16, id: u32) -> Vec<u8> {
    let payload = [&[5, 0, 1, 0x80, 1, 0, count][..], b"payload"].concat();
    let mut bytes = frame(1, msg_type, id, 0, &payload);
    bytes[5] = 2;
    bytes
}

/// Serves at a path on a thread of this process, which has nothing else open.
fn beside(test: impl FnOnce(&Endpoint)) {
    let server = server();
    let counters = server.counters();
    let (running, bound) = start(server, [listen(&fresh("unix"))]);
    drop(Peer::new(&bound[0], true)); // Makes what is only made once.
    until("it has left", || counters.connections() == 0);
    let before = descriptors();
    test(&bound[0]);
    until("all have left", || counters.connections() == 0);
    until("none is left behind", || descriptors() == before);
    let client = connect(&bound[0]);
    assert_eq!(client.call(ECHO, "on").expect("the server goes on").payload(), b"on");
    client.close();
    running.stop().expect("stop");
}

/// PROTOCOL F24, F25, F26, F27
#[test]
fn who_lies_about_them_is_told_so_and_nothing_stays_open() {
    let _watchdog = watchdog(60);
    alone("attachments::who_lies_about_them_is_told_so_and_nothing_stays_open", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            let copies = |count| vec![pipe.as_fd(); count];
            let plain = frame(1, ECHO, 1, 0, b"plain");
            for (bytes, count, text) in [
                (announcing(1, BACK, 1), 0, "others than came"),
                (announcing(2, BACK, 1), 1, "others than came"),
                (announcing(1, BACK, 1), 2, "others than came"),
                (announcing(16, BACK, 1), 17, "more came than can be taken"),
                (announcing(17, BACK, 1), 17, "more came than can be taken"),
                (announcing(17, BACK, 1), 16, "none, or more than 16"),
                (announcing(0, BACK, 1), 0, "none, or more than 16"),
                (plain.clone(), 32, "more came than can be taken"),
            ] {
                let peer = Peer::new(endpoint, true);
                peer.send(&bytes, &copies(count));
                peer.expect_malformed(text);
            }
            // With a frame that announces none. It is executed, since nothing is wrong with it by itself.
            let peer = Peer::new(endpoint, true);
            peer.send(&plain, &copies(3));
            assert_eq!(peer.next(), Some((2, 0, b"plain".to_vec())));
            peer.expect_malformed("no frame announces");
            // With the second half of a frame, which began without.
            let peer = Peer::new(endpoint, true);
            let (first, second) = plain.split_at(5);
            peer.send(first, &[]);
            peer.send(second, &copies(1));
            assert_eq!(peer.next(), Some((2, 0, b"plain".to_vec())));
            peer.expect_malformed("no frame announces");
            // More and more of them with a frame that has no end.
            let peer = Peer::new(endpoint, true);
            let endless = announcing(16, BACK, 1);
            peer.send(&endless[..4], &copies(16));
            peer.send(&endless[4..8], &copies(16));
            peer.expect_malformed("no frame announces");
        });
    });
}

/// PROTOCOL F24, F25
#[test]
fn a_frame_in_pieces_keeps_what_came_with_its_first_byte() {
    let _watchdog = watchdog(60);
    alone("attachments::a_frame_in_pieces_keeps_what_came_with_its_first_byte", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            let peer = Peer::new(endpoint, true);
            for (id, cut) in (1..).zip([1, 15, 16, 17, 22, 25]) {
                let bytes = announcing(2, KEEP + 10, id);
                peer.send(&bytes[..cut], &[pipe.as_fd(), pipe.as_fd()]);
                std::thread::sleep(std::time::Duration::from_millis(5));
                peer.send(&bytes[cut..], &[]);
                assert_eq!(
                    peer.next().map(|(kind, rc, _)| (kind, rc)),
                    Some((2, -2)),
                    "nobody handles that type"
                );
            }
            // Several at once, with frames in between that carry none.
            for id in (10..40).step_by(3) {
                peer.send(&frame(1, ECHO, id, 0, b"a"), &[]);
                peer.send(&announcing(1, KEEP + 10, id + 1), &[pipe.as_fd()]);
                peer.send(&announcing(16, KEEP + 10, id + 2), &[pipe.as_fd(); 16]);
            }
            let answers: Vec<_> = (0..30).filter_map(|_| peer.next()).map(|(_, rc, _)| rc).collect();
            assert_eq!(answers, [0, -2, -2].repeat(10));
            // Half a frame, and gone.
            peer.send(&announcing(16, BACK, 50)[..20], &[pipe.as_fd(); 16]);
        });
    });
}

/// Nobody takes them, or their handler says no: at no time does the server hold more than those of one frame, and the 256 that may
/// wait to be closed.
#[test]
fn a_flood_of_descriptors_leaves_none_behind() {
    let _watchdog = watchdog(60);
    alone("attachments::a_flood_of_descriptors_leaves_none_behind", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            let before = descriptors();
            let peer = Peer::new(endpoint, true);
            for id in 1..=400 {
                let mut notify = announcing(16, BACK, 0);
                notify[4] = 3;
                peer.send(&notify, &[pipe.as_fd(); 16]);
                peer.send(&announcing(16, PIPES, id), &[pipe.as_fd(); 16]);
                assert_eq!(peer.next().map(|(kind, rc, _)| (kind, rc)), Some((2, -3)), "16 and no more");
                assert!(descriptors() <= before + 256 + 60, "at {id}");
            }
        });
    });
}

/// What goes with replies is open here until it leaves. Whoever does not read is told "busy" in time.
#[test]
fn one_that_does_not_read_has_few_wait_for_him() {
    let _watchdog = watchdog(60);
    alone("attachments::one_that_does_not_read_has_few_wait_for_him", || {
        beside(|endpoint| {
            let (peer, other) = (Peer::new(endpoint, true), connect(endpoint));
            let before = descriptors();
            (1..=900).for_each(|id| peer.send(&frame(1, PIPES, id, 0, &[1]), &[]));
            for _ in 0..300 {
                other.call(ECHO, b"").expect("a reply");
            }
            let open = descriptors() - before;
            assert!(open <= 256, "{open}");
            let rcs: Vec<_> = (0..900).map(|_| peer.next().expect("a reply").1).collect();
            let fine = rcs.iter().filter(|rc| **rc == 0).count();
            assert!(rcs.iter().all(|rc| [0, -6].contains(rc)) && (240..900).contains(&fine), "{fine}");
            peer.send(&frame(1, PIPES, 901, 0, &[1]), &[]);
            assert_eq!(peer.next().map(|(_, rc, _)| rc), Some(0), "all has left");
        });
    });
}

/// PROTOCOL F23, F28
#[test]
fn who_has_not_agreed_can_not_send_any() {
    let _watchdog = watchdog(60);
    alone("attachments::who_has_not_agreed_can_not_send_any", || {
        beside(|endpoint| {
            let (pipe, _writer) = std::io::pipe().expect("a pipe");
            let peer = Peer::new(endpoint, false);
            peer.send(&frame(1, ECHO, 1, 0, b"with"), &[pipe.as_fd(); 16]);
            assert_eq!(peer.next(), Some((2, 0, b"with".to_vec())), "they are dropped unseen");
            peer.send(&announcing(1, BACK, 2), &[pipe.as_fd()]);
            let (kind, rc, _) = peer.next().expect("an answer");
            assert_eq!((kind, rc), (2, -12), "a tag that must be understood, and is not");
            // With the hello: before it is read nobody has agreed.
            let Endpoint::Unix(path) = endpoint else { panic!("a path") };
            let peer = Peer(UnixStream::connect(path).expect("connect"));
            peer.send(&hello_that(true), &[pipe.as_fd(); 16]);
            peer.read_hello();
            peer.send(&announcing(16, BACK, 1), &[]);
            peer.expect_malformed("others than came");
        });
    });
}

/// With 40 descriptors: what there is no room for is closed, and the server goes on.
#[test]
fn a_server_without_descriptors_closes_what_comes() {
    let _watchdog = watchdog(60);
    let name = "attachments::a_server_without_descriptors_closes_what_comes";
    let process = serve_alone(name, 40, 1, || {
        let mut server = server();
        let bound = server.listen(listen(&fresh("unix"))).expect("listen");
        announce(&[bound]);
        server.run().expect("run");
    });
    let endpoint = &process.endpoints[0];
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    let open = || std::fs::read_dir(format!("/proc/{}/fd", process.child.id())).expect("/proc").count();
    let first = Peer::new(endpoint, true);
    first.send(&announcing(16, KEEP, 1), &[pipe.as_fd(); 16]);
    assert_eq!(first.next(), Some((2, 0, Vec::new())));
    let before = open();
    for _ in 0..20 {
        let peer = Peer::new(endpoint, true);
        peer.send(&announcing(16, KEEP, 1), &[pipe.as_fd(); 16]);
        peer.expect_malformed("more came than can be taken");
        drop(peer);
        until("what came is closed", || open() == before);
    }
    first.send(&frame(1, ECHO, 2, 0, b"on"), &[]);
    assert_eq!(first.next(), Some((2, 0, b"on".to_vec())));
}

/// One with as many unsent bytes as there is room for. Closing it waits until they are taken, for ten minutes; and where they go.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let mut socket = TcpStream::connect(listener.local_addr().expect("its address")).expect("connect");
    let taker = listener.accept().expect("accept").0;
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(600))).expect("SO_LINGER");
    socket.set_nonblocking(true).expect("set");
    while socket.write(&[0; 1 << 16]).is_ok() {}
    (socket, taker)
}

/// Closing what came takes as long as whoever has sent it likes.
#[test]
fn what_takes_long_to_close_holds_up_nobody() {
    let _watchdog = watchdog(120);
    let (running, bound) = start(server(), [listen(&fresh("unix"))]);
    let client = connect(&bound[0]);
    for (announced, brings) in [(2, 1), (16, 17)] {
        let (socket, taker) = lingering();
        let liar = Peer::new(&bound[0], true);
        liar.send(&announcing(announced, KEEP, 1), &vec![socket.as_fd(); brings]);
        drop(socket);
        assert_eq!(client.call(ECHO, b"on").expect("it is served").payload(), b"on");
        liar.expect_malformed(if brings > 16 { "more came than can be taken" } else { "others than came" });
        assert_eq!(client.call(ECHO, b"on").expect("it is served").payload(), b"on");
        drop(taker);
    }
    // What a handler does not take.
    let (socket, taker) = lingering();
    let reply = client.request(ECHO).send_attached("and this", [Attachment::from(socket)]).expect("a reply");
    assert_eq!(reply.payload(), b"and this");
    assert_eq!(client.call(ECHO, b"on").expect("it is served").payload(), b"on");
    drop(taker);
    client.close();
    running.stop().expect("stop");
}

/// PROTOCOL F29, L7a
#[test]
fn a_client_keeps_no_more_than_it_says() {
    let _watchdog = watchdog(30);
    alone("attachments::a_client_keeps_no_more_than_it_says", || {
        let (running, bound) = start(server(), [listen(&fresh("unix"))]);
        let mut limits = sidewire::ConnectionLimits::default();
        assert_eq!(limits.max_attachments, 256);
        limits.max_attachments = 20;
        let connect = Connect::to(bound[0].clone()).expect("an endpoint").attachments(true).limits(limits);
        let client = connect.open().expect("connect");
        let before = descriptors();
        let taken = client.call(PIPES, [16]).expect("a reply").take_attachments();
        let kept = client.call(PIPES, [16]).expect("those that were taken do not count");
        assert_eq!(taken.len(), 16);
        until("the server has closed its own", || descriptors() == before + 32);
        let error = client.call(PIPES, [5]).expect_err("too many");
        assert!(error.is_protocol() && error.to_string().contains("more than 20 attachments"), "{error}");
        drop((taken, kept, client));
        until("all are closed", || descriptors() < before);
        running.stop().expect("stop");
    });
}

/// A client in Python, by what the protocol's documents say.
///
/// PROTOCOL F23, F24, F25
#[test]
fn one_that_knows_the_documents_is_understood() {
    const SCRIPT: &str = r#"
import socket, struct, sys, tempfile
HEADER = struct.Struct("<IBBHIi")
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"\xd1SW\xd1" + struct.pack("<HBB6I16s", 48, 1, 1, 4, 0, 1 << 20, 16, 1 << 20, 1 << 16, b"any 16 bytes"))
def read(count, fds):
    data = b""
    while len(data) < count:
        more, came, flags, _ = socket.recv_fds(s, count - len(data), 16)
        assert more and not flags & socket.MSG_CTRUNC
        data += more
        fds += came
    return data
head = read(8, [])
hello = head + read(struct.unpack_from("<H", head, 4)[0] - 8, [])
assert struct.unpack_from("<I", hello, 8)[0] & 4
file = tempfile.TemporaryFile()
file.write(b"of Python")
file.flush()
def call(number, what):
    block = struct.pack("<HHHB", 5, 0x8001, 1, 2)
    frame = HEADER.pack(len(block) + len(what), 1, 2, 1, number, 0) + block + what
    sent = socket.send_fds(s, [frame[:9]], [file.fileno(), file.fileno()])
    s.sendall(frame[sent:])
    fds = []
    length, kind, flags, _, number, rc = HEADER.unpack(read(16, fds))
    payload = read(length, fds)
    assert (kind, flags, rc) == (2, 2, 0), (kind, flags, rc)
    size = struct.unpack_from("<H", payload)[0]
    assert payload[2:2 + size] == block[2:] and payload[2 + size:] == b"2" and len(fds) == 2
    for fd in fds:
        with open(fd, "rb") as back:
            back.seek(0)
            assert back.read() == b"of Python"
for number in range(1, 9):
    call(number, b"x" * number)
"#;
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("unix"))]);
    let Endpoint::Unix(path) = &bound[0] else { panic!("a path") };
    match std::process::Command::new("python3").args(["-I", "-S", "-c", SCRIPT]).arg(path).output() {
        Err(_) => eprintln!("there is no Python here: not tried"),
        Ok(output) => assert!(output.status.success(), "{output:?}"),
    }
    running.stop().expect("stop");
}

/// A server that does to our client what the peers above do to our server.
#[test]
fn a_client_is_told_of_servers_that_lie() {
    let _watchdog = watchdog(60);
    alone("attachments::a_client_is_told_of_servers_that_lie", || {
        let Endpoint::Unix(path) = fresh("unix") else { panic!("a path") };
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
        let (pipe, _writer) = std::io::pipe().expect("a pipe");
        let serve = |offers: bool, answer: &dyn Fn(&Peer)| {
            let peer = Peer(listener.accept().expect("accept").0);
            peer.read_hello();
            let mut answered = hello_that(offers);
            answered[4] = 72;
            answered.extend([0, 0, 0, 0, 1, 0, 0, 0].iter().chain(&[9; 16]));
            peer.send(&answered, &[]);
            if peer.next().is_some() {
                answer(&peer);
                while peer.next().is_some() {}
            }
        };
        let reply = |count| {
            let mut bytes = announcing(count, ECHO, 1);
            bytes[4] = 2;
            bytes
        };
        let cases: [(bool, u8, usize, &str); 5] = [
            (true, 2, 1, "others than came"),
            (true, 1, 2, "others than came"),
            (true, 16, 17, "more came"),
            (false, 1, 1, "extension block"),
            (true, 1, 0, "others than came"),
        ];
        let mut before = None;
        for (offers, count, really, text) in cases {
            std::thread::scope(|scope| {
                let (path, (done, is_done)) = (path.clone(), mpsc::channel());
                scope.spawn(move || {
                    let client = connect(&Endpoint::Unix(path));
                    let error = client.call(ECHO, "hello").expect_err(text);
                    assert!(error.is_protocol() && error.to_string().contains(text), "{text}: {error}");
                    drop(client);
                    done.send(()).expect("somebody waits");
                });
                serve(offers, &|peer| peer.send(&reply(count), &vec![pipe.as_fd(); really]));
                is_done.recv().expect("its end");
            });
            let most = *before.get_or_insert(descriptors());
            until(text, || descriptors() <= most);
        }
        std::fs::remove_file(path).expect("its file");
    });
}

/// A proof and a request with something attached that are there at the same time: one read would bring both.
#[cfg(feature = "token")]
#[test]
fn what_goes_with_the_first_request_behind_a_proof_is_not_lost() {
    use hmac::{Hmac, KeyInit, Mac};

    let _watchdog = watchdog(30);
    let endpoint = fresh("unix");
    let (running, bound) = start(server(), [listen(&endpoint).token(sidewire::Token::new([1; 32]))]);
    let Endpoint::Unix(path) = &bound[0] else { panic!("a path") };
    let peer = Peer(UnixStream::connect(path).expect("connect"));
    peer.0.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let ours = hello_that(true);
    peer.send(&ours, &[]);
    let answer = peer.read_hello();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[1; 32]).expect("a key");
    [&b"client"[..], &ours, &answer].iter().for_each(|piece| mac.update(piece));
    let auth = frame(11, 0, 0, 0, &mac.finalize().into_bytes());
    let (go_on, held) = mpsc::channel::<()>();
    let wait = move |_: &mut Vec<Attachment>| {
        let _ = held.recv();
    };
    running.remote().with(wait).expect("the loop waits");
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    peer.send(&auth, &[]);
    peer.send(&announcing(1, BACK, 1), &[pipe.as_fd()]);
    drop(go_on);
    let (kind, rc, payload) = peer.next().expect("a reply");
    assert_eq!((kind, rc, payload.last()), (2, 0, Some(&b'1')), "{}", payload.escape_ascii());
    running.stop().expect("stop");
}
