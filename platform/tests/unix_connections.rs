//! Streams and channels: bytes, timeouts, ends, peers, over every transport of Unix.
#![cfg(unix)]

mod unix_util;

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use sidewire_platform::{Address, BindOptions, Channel, Endpoint, EndpointKind, Listener, Stream, User};
use sidewire_platform::{current_user, stream_schemes};
use unix_util::*;

const ZERO: Option<Duration> = Some(Duration::ZERO);

fn tcp() -> Endpoint {
    "tcp:127.0.0.1:0".parse().unwrap()
}

/// Runs a test on each transport.
fn on_each(test: impl Fn(&mut Listener)) {
    watched(|| {
        let place = Place::new();
        let mut endpoints = vec![place.endpoint(), tcp()];
        if stream_schemes().contains(&"abstract") {
            endpoints.push(abstract_endpoint());
        }
        for endpoint in endpoints {
            test(&mut bind(&endpoint));
        }
    });
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn bytes_go_both_ways_and_ends_are_seen() {
    on_each(|listener| {
        let (mut stream, channel) = pair(listener);
        let mut buf = [0; 16];
        assert_eq!(kind(stream.read(&mut buf)), io::ErrorKind::WouldBlock);
        assert_eq!(channel.send(b"ping", SOON).unwrap(), 4);
        assert_eq!(read(&mut stream, &mut buf), 4);
        assert_eq!((stream.write(b"pong").unwrap(), stream.write(b"!").unwrap()), (4, 1));
        let mut got = b">".to_vec();
        while got.len() < 6 {
            channel.recv_append(&mut got, 3, SOON).unwrap();
        }
        assert_eq!(got, b">pong!");

        assert!(channel.has_half_close() && stream.has_half_close());
        channel.shutdown_write().unwrap();
        assert_eq!(read(&mut stream, &mut buf), 0);
        stream.write(b"bye").unwrap();
        stream.shutdown_write().unwrap();
        assert_eq!(channel.recv(&mut buf, SOON).unwrap(), 3);
        assert_eq!(channel.recv(&mut buf, SOON).unwrap(), 0);
        stream.close_flushed(Duration::ZERO);
    });
}

#[test]
fn a_peer_that_dies_is_seen_at_once() {
    on_each(|listener| {
        let (stream, channel) = pair(listener);
        let waiting = thread::scope(|scope| {
            let waiting = spawn_to_wait(scope, || channel.recv(&mut [0; 8], None));
            stream.abort();
            waiting.join().unwrap()
        });
        assert_eq!(waiting.unwrap(), 0);
        // TCP learns of it by the answer to the first byte. No SIGPIPE, or we would not get here.
        let error = until("an error", || channel.send(b"x", SOON).err());
        assert!(
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
            "{error}"
        );
    });
}

#[test]
fn a_client_that_leaves_at_once_costs_nothing() {
    on_each(|listener| {
        drop(connect(&listener.endpoint().clone()));
        let mut stream = accept(listener);
        assert_eq!(read(&mut stream, &mut [0; 8]), 0);
        pair(listener);
    });
}

#[test]
fn receiving_times_out_and_no_sooner() {
    on_each(|listener| {
        let (mut stream, channel) = pair(listener);
        let mut buf = [0; 8];
        for millis in [1, 40, 40, 5] {
            let (start, timeout) = (Instant::now(), Duration::from_millis(millis));
            assert_eq!(kind(channel.recv(&mut buf, Some(timeout))), io::ErrorKind::TimedOut);
            assert!(start.elapsed() >= timeout, "{:?} for {timeout:?}", start.elapsed());
        }
        assert_eq!(kind(channel.recv(&mut buf, ZERO)), io::ErrorKind::TimedOut);
        assert_eq!(kind(channel.recv(&mut buf, Some(Duration::from_nanos(1)))), io::ErrorKind::TimedOut);
        stream.write(b"late").unwrap();
        assert_eq!(channel.recv(&mut buf, Some(Duration::MAX)).unwrap(), 4);
        stream.write(b"ready").unwrap();
        until("bytes", || channel.recv(&mut buf, ZERO).ok());
    });
}

#[test]
fn sending_times_out_and_loses_nothing() {
    on_each(|listener| {
        let (mut stream, channel) = pair(listener);
        let chunk: Vec<u8> = (0..60_000u32).map(|i| (i % 251) as u8).collect();
        let mut sent = Vec::new();
        let full = loop {
            match channel.send(&chunk, ZERO) {
                Ok(count) => sent.extend_from_slice(&chunk[..count]),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        let (start, timeout) = (Instant::now(), Duration::from_millis(40));
        assert_eq!(kind(channel.send(b"x", Some(timeout))), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= timeout);

        let got = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                sent.extend_from_slice(&chunk[..channel.send(&chunk, None).unwrap()]);
                channel.shutdown_write().unwrap();
            });
            let mut got = Vec::new();
            while until("bytes", || would_block(stream.read_append(&mut got, 100_000))) > 0 {}
            sender.join().unwrap();
            got
        });
        assert!(got == sent, "{} bytes sent, {} arrived", sent.len(), got.len());
    });
}

#[test]
fn shutdown_wakes_both_directions_for_good() {
    on_each(|listener| {
        let (mut stream, channel) = pair(listener);
        while channel.send(&[0; 60_000], ZERO).is_ok() {}
        thread::scope(|scope| {
            let receiver = spawn_to_wait(scope, || channel.recv(&mut [0; 8], None));
            let sender = spawn_to_wait(scope, || channel.send(b"x", None));
            channel.shutdown();
            assert_eq!(receiver.join().unwrap().unwrap(), 0);
            assert_eq!(kind(sender.join().unwrap()), io::ErrorKind::BrokenPipe);
        });
        let _ = stream.write(b"too late");
        assert_eq!(channel.recv(&mut [0; 8], SOON).unwrap(), 0);
        assert_eq!(kind(channel.send(b"x", SOON)), io::ErrorKind::BrokenPipe);
        channel.shutdown();
    });
}

#[test]
fn the_kernel_vouches_for_both_ends() {
    watched(|| {
        let place = Place::new();
        let mut listener = bind(&place.endpoint());
        let (stream, channel) = pair(&mut listener);
        for peer in [stream.peer().unwrap(), channel.peer().clone()] {
            let credentials = peer.credentials().unwrap();
            assert_eq!(*credentials.user(), current_user().unwrap());
            assert!(matches!(credentials.user(), User::Uid(_)));
            assert_eq!((peer.address(), credentials.integrity()), (None, None));
            if cfg!(target_os = "linux") {
                assert_eq!(credentials.pid(), Some(std::process::id()));
            }
        }
        assert_eq!(channel.peer_address().unwrap(), Address::Path(place.path()));
        assert_eq!(channel.local_address().unwrap(), Address::Unnamed);
        assert_eq!(stream.local_address().unwrap(), Address::Path(place.path()));
        assert_eq!(stream.peer_address().unwrap(), Address::Unnamed);
    });
}

/// The kernel reports 109 bytes of path for such a peer, more than `sun_path` has.
#[test]
#[cfg(target_os = "linux")]
fn a_peer_with_a_path_that_fills_its_address_is_accepted() {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketType, bind as bind_to, connect as connect_to, socket,
    };
    watched(|| {
        let place = Place::new();
        let mut listener = bind(&place.endpoint());
        let folder = tempfile::tempdir().unwrap();
        let start = format!("{}/", folder.path().display());
        let path = start.clone() + &"x".repeat(108 - start.len());
        let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind_to(&client, &SocketAddrUnix::new(path.as_str()).unwrap()).unwrap();
        connect_to(&client, &SocketAddrUnix::new(place.path()).unwrap()).unwrap();
        let stream = accept(&mut listener);
        assert_eq!(stream.peer_address().unwrap(), Address::Path(path.into()));
    });
}

#[test]
fn abstract_addresses_are_told() {
    watched(|| {
        if !stream_schemes().contains(&"abstract") {
            return;
        }
        let endpoint = abstract_endpoint();
        let mut listener = bind(&endpoint);
        let (stream, channel) = pair(&mut listener);
        let name = endpoint.to_string().as_bytes()["abstract:".len()..].to_vec();
        assert_eq!(channel.peer_address().unwrap(), Address::Abstract(name.clone()));
        assert_eq!(stream.local_address().unwrap(), Address::Abstract(name));
    });
}

#[test]
fn tcp_tells_its_port_and_its_peer() {
    watched(|| {
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let endpoint: Endpoint = format!("tcp:{host}:0").parse().unwrap();
            let Ok(mut listener) = Listener::bind(&endpoint, &BindOptions::default()) else {
                assert_eq!(host, "[::1]", "IPv6 may be missing, the rest not");
                continue;
            };
            let Endpoint::Tcp { host, port } = listener.endpoint().clone() else { panic!("not TCP") };
            assert!(port != 0 && host.parse::<std::net::IpAddr>().unwrap().is_loopback());
            let (stream, channel) = pair(&mut listener);
            let (near, far) = (channel.local_address().unwrap(), channel.peer_address().unwrap());
            assert_eq!((&stream.peer_address().unwrap(), &stream.local_address().unwrap()), (&near, &far));
            assert_eq!(channel.peer().address().unwrap().port(), port);
            let peer = stream.peer().unwrap();
            assert_eq!(Address::Inet(peer.address().unwrap()), near);
            assert_eq!(peer.credentials(), None);
        }
    });
}

#[test]
fn tcp_stays_on_loopback_unless_told_otherwise() {
    watched(|| {
        for text in ["tcp:0.0.0.0:0", "tcp:[::]:0"] {
            let endpoint: Endpoint = text.parse().unwrap();
            let error = Listener::bind(&endpoint, &BindOptions::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("beyond_loopback"), "{error}");
        }
        let mut options = BindOptions::default();
        options.beyond_loopback = true;
        Listener::bind(&"tcp:0.0.0.0:0".parse().unwrap(), &options).unwrap();
    });
}

#[test]
fn a_tcp_server_restarts_at_its_port() {
    watched(|| {
        let mut listener = bind(&tcp());
        let endpoint = listener.endpoint().clone();
        let (mut stream, channel) = pair(&mut listener);
        // The server closes first, so its end stays in TIME_WAIT.
        stream.shutdown_write().unwrap();
        assert_eq!(channel.recv(&mut [0; 1], SOON).unwrap(), 0);
        drop((stream, channel));
        assert_eq!(kind(Listener::bind(&endpoint, &BindOptions::default())), io::ErrorKind::AddrInUse);
        drop(listener);
        bind(&endpoint);
    });
}

#[test]
fn nobody_there_is_told_at_once() {
    watched(|| {
        let place = Place::new();
        assert_eq!(kind(Channel::connect(&place.endpoint(), SOON)), io::ErrorKind::NotFound);
        place.leave_stale_socket();
        assert_eq!(kind(Channel::connect(&place.endpoint(), SOON)), io::ErrorKind::ConnectionRefused);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint: Endpoint = format!("tcp:localhost:{}", free.port()).parse().unwrap();
        assert_eq!(kind(Channel::connect(&endpoint, SOON)), io::ErrorKind::ConnectionRefused);
        let endpoint: Endpoint = "local:sidewire-test-that-nobody-serves".parse().unwrap();
        let error = Channel::connect(&endpoint, SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/tmp/sidewire-"), "{error}");
    });
}

/// On the BSDs and macOS a full backlog refuses; there is nothing to wait for.
#[test]
#[cfg(target_os = "linux")]
fn a_full_backlog_is_waited_for_within_the_timeout() {
    watched(|| {
        let place = Place::new();
        let mut options = BindOptions::default();
        options.backlog = 0;
        let mut listener = Listener::bind(&place.endpoint(), &options).unwrap();
        let _first = connect(&place.endpoint());

        for timeout in [Duration::ZERO, Duration::from_millis(100)] {
            let start = Instant::now();
            let error = Channel::connect(&place.endpoint(), Some(timeout)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("backlog"), "{error}");
            assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        }

        thread::scope(|scope| {
            let (bounded, endless) = (place.endpoint(), place.endpoint());
            let waiting = [
                spawn_to_wait(scope, move || Channel::connect(&bounded, SOON)),
                spawn_to_wait(scope, move || Channel::connect(&endless, None)),
            ];
            let _streams = [accept(&mut listener), accept(&mut listener), accept(&mut listener)];
            for client in waiting {
                client.join().unwrap().unwrap();
            }
        });
    });
}

#[test]
fn a_server_that_dies_with_clients_waiting_refuses_them() {
    watched(|| {
        let place = Place::new();
        let mut options = BindOptions::default();
        options.backlog = 0;
        let listener = Listener::bind(&place.endpoint(), &options).unwrap();
        let first = connect(&place.endpoint());
        thread::scope(|scope| {
            let endpoint = place.endpoint();
            let waiting = spawn_to_wait(scope, move || Channel::connect(&endpoint, SOON));
            drop(listener);
            let error = waiting.join().unwrap().unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused),
                "{error}"
            );
        });
        let end = first.recv(&mut [0; 1], SOON);
        assert!(matches!(&end, Ok(0)) || kind(end) == io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn events_come_through_mio_and_a_short_read_drains() {
    on_each(|listener| {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        listener.register(poll.registry(), Token(1)).unwrap();
        let channel = connect(&listener.endpoint().clone());
        poll.poll(&mut events, SOON).unwrap();
        assert!(events.iter().any(|event| event.token() == Token(1) && event.is_readable()));
        let mut stream = listener.accept(poll.registry(), Token(1)).unwrap();
        assert_eq!(kind(listener.accept(poll.registry(), Token(1))), io::ErrorKind::WouldBlock);

        stream.register(poll.registry(), Token(2), Interest::READABLE).unwrap();
        for _ in 0..3 {
            channel.send(b"1234", SOON).unwrap();
            poll.poll(&mut events, SOON).unwrap();
            assert!(events.iter().any(|event| event.token() == Token(2) && event.is_readable()));
            // One read only, not until WouldBlock: the next arrival is an event again.
            assert_eq!(stream.read(&mut [0; 64]).unwrap(), 4);
            const { assert!(Stream::SHORT_READ_DRAINS) };
        }
        stream.reregister(poll.registry(), Token(3), Interest::WRITABLE).unwrap();
        poll.poll(&mut events, SOON).unwrap();
        assert!(events.iter().any(|event| event.token() == Token(3) && event.is_writable()));
        stream.deregister(poll.registry()).unwrap();
        listener.deregister(poll.registry()).unwrap();
    });
}

#[test]
fn local_meets_in_a_private_folder() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let endpoint: Endpoint = format!("local:sidewire-test-{name}").parse().unwrap();
        assert_eq!(endpoint.kind(), EndpointKind::Stream);
        let mut listener = bind(&endpoint);
        assert_eq!(listener.endpoint(), &endpoint);
        let (stream, _channel) = pair(&mut listener);
        let Address::Path(path) = stream.local_address().unwrap() else { panic!("not a path") };
        assert_eq!((mode(&path), mode(path.parent().unwrap()) & 0o077), (0o600, 0));
        drop(listener);
        assert!(!path.exists());
    });
}

/// Every descriptor that is open when a child starts, except the first three, must be close-on-exec.
#[test]
#[cfg(target_os = "linux")]
fn no_descriptor_is_inherited() {
    watched(|| {
        let place = Place::new();
        let (mut paths, mut inet) = (bind(&place.endpoint()), bind(&tcp()));
        let _open = (pair(&mut paths), pair(&mut inet), sidewire_platform::Reserve::new().unwrap());
        let before = File::open("/dev/null").unwrap().as_raw_fd();
        for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
            let entry = entry.unwrap();
            let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            // Closed meanwhile by another test, then no descriptor of ours.
            let Ok(info) = std::fs::read_to_string(entry.path()) else { continue };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            let is_cloexec = u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 != 0;
            let target = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
            let is_socket = target.to_string_lossy().starts_with("socket:");
            assert!(
                is_cloexec || !is_socket || number < 3,
                "descriptor {number} ({target:?}), of at least {before}"
            );
        }
    });
}

/// Closing a TCP socket that somebody has attached can take as long as that somebody likes
/// (SO_LINGER), and it is the receiver's thread that waits.
#[test]
#[cfg(target_os = "linux")]
fn strangers_cannot_attach_descriptors() {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

    use rustix::io::Errno;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use sidewire_platform::{DatagramChannel, Datagrams};

    /// Sends a byte and a descriptor.
    fn attach(socket: impl AsFd) -> rustix::io::Result<usize> {
        let file = std::fs::File::open("/dev/null").unwrap();
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(socket, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())
    }

    watched(|| {
        if !kernel_refuses_descriptors() {
            return println!("this kernel has no SO_PASSRIGHTS (Linux 6.16): skipped");
        }
        let refused = Err(Errno::PERM);
        for endpoint in [Place::new().endpoint(), abstract_endpoint()] {
            let place = Place::new();
            let endpoint = if endpoint.scheme() == "unix" { place.endpoint() } else { endpoint };
            let mut listener = bind(&endpoint);
            let address = match &endpoint {
                Endpoint::Abstract(name) => {
                    use std::os::linux::net::SocketAddrExt;
                    SocketAddr::from_abstract_name(name).unwrap()
                }
                _ => SocketAddr::from_pathname(place.path()).unwrap(),
            };
            let client = UnixStream::connect_addr(&address).unwrap();
            assert_eq!(attach(&client), refused, "{endpoint}: not accepted yet");
            let _stream = accept(&mut listener);
            assert_eq!(attach(&client), refused, "{endpoint}");
        }

        let place = Place::new();
        let server = UnixListener::bind(place.path()).unwrap();
        let _channel = connect(&place.endpoint());
        assert_eq!(attach(server.accept().unwrap().0), refused, "to a client");

        let place = Place::new();
        let endpoint = Endpoint::UnixGram(place.path());
        let _server = Datagrams::bind(&endpoint, &BindOptions::default()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(place.path()).unwrap();
        assert_eq!(attach(&sender), refused, "to a datagram server");

        let place = Place::new();
        let server = UnixDatagram::bind(place.path()).unwrap();
        let channel = DatagramChannel::connect(&Endpoint::UnixGram(place.path())).unwrap();
        let Address::Abstract(name) = channel.local_address().unwrap() else { panic!("{channel:?}") };
        {
            use std::os::linux::net::SocketAddrExt;
            server.connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        }
        assert_eq!(attach(&server), refused, "to a datagram client");
    });
}

/// SO_PASSRIGHTS: 83 in the generic socket.h.
#[cfg(target_os = "linux")]
fn kernel_refuses_descriptors() -> bool {
    use std::os::fd::AsRawFd;

    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let (mut value, mut length): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET, 83);
    // SAFETY: `value` and `length` are locals, and the second is the size of the first.
    let status = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    status == 0
}
