//! Who sent and who serves: credentials, addresses, strangers and what they attach.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use sidewire_platform::{Address, DatagramChannel, Endpoint, User, current_user, datagram_schemes};

use crate::unix_util::*;
use crate::*;

#[test]
#[cfg(target_os = "linux")]
fn the_kernel_says_who_sent_and_who_answered() {
    on_each(|server, client| {
        client.send(b"x", SOON).unwrap();
        let received = receive(server, &mut [0; 8]);
        server.send(b"y", &received.from.unwrap(), me().as_ref()).unwrap();
        let answer = client.receive(&mut [0; 8], SOON).unwrap();
        for credentials in [received.credentials, answer.credentials] {
            assert_eq!(credentials.is_some(), !is_udp(server));
            if let Some(credentials) = credentials {
                assert_eq!(*credentials.user(), current_user().unwrap());
                assert_eq!(credentials.pid(), Some(std::process::id()));
            }
        }
    });
}

#[test]
fn a_sender_without_a_name_is_heard_but_not_answered() {
    watched(|| {
        let place = Place::new();
        let mut server = serve(&gram(&place));
        UnixDatagram::unbound().unwrap().send_to(b"x", place.path()).unwrap();
        let received = receive(&mut server, &mut [0; 8]);
        assert_eq!((received.length, received.from), (1, None));
        for nobody in [Address::Unnamed, Address::Pipe("x".into()), Address::Path("relative".into())] {
            assert_eq!(kind(server.send(b"x", &nobody, me().as_ref())), io::ErrorKind::InvalidInput);
        }
        let elsewhere = Address::Inet("127.0.0.1:9".parse().unwrap());
        assert_eq!(kind(server.send(b"x", &elsewhere, me().as_ref())), io::ErrorKind::InvalidInput);
        let there = Address::Path(place.path());
        assert_eq!(kind(serve(&udp()).send(b"x", &there, me().as_ref())), io::ErrorKind::InvalidInput);
    });
}

/// Whoever owns the way to a sender's path may let it lead elsewhere: to a private socket of ours.
/// PROTOCOL D7
#[test]
#[cfg(target_os = "linux")]
fn answers_go_only_to_sockets_of_the_sender() {
    watched(|| {
        let place = Place::new();
        let at = |name: &str| place.path().with_file_name(name);
        let mut server = serve(&gram(&place));
        let mut send = |path: &Path, owner: Option<&User>| {
            server.send(b"answer", &Address::Path(path.into()), owner).map_err(|error| error.kind())
        };
        let (me, refused) = (current_user().unwrap(), Err(io::ErrorKind::PermissionDenied));

        let sender = UnixDatagram::bind(at("sender")).unwrap();
        assert_eq!(send(&at("sender"), Some(&me)), Ok(()));
        assert_eq!(sender.recv(&mut [0; 8]).unwrap(), 6);

        let private = UnixDatagram::bind(at("private")).unwrap();
        private.set_nonblocking(true).unwrap();
        symlink("private", at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::hard_link(at("private"), at("folder").join("hard")).unwrap();
        symlink("folder", at("way")).unwrap();
        File::create(at("file")).unwrap();
        let mallory = User::Uid(4711);
        for path in ["private", "link", "folder/hard", "way/hard"] {
            assert_eq!(send(&at(path), Some(&mallory)), refused, "{path}");
            assert_eq!(send(&at(path), None), refused, "{path}");
        }
        assert_eq!(send(&at("link"), Some(&me)), refused, "a link is nobody's socket");
        assert_eq!(send(&at("file"), Some(&me)), refused);
        assert_eq!(send(&at("nothing"), Some(&me)), Err(io::ErrorKind::NotFound));
        assert_eq!(kind(private.recv(&mut [0; 8])), io::ErrorKind::WouldBlock);
        if me == User::Uid(0) {
            std::os::unix::fs::chown(at("private"), Some(4711), None).unwrap();
            assert_eq!(send(&at("private"), Some(&mallory)), Ok(()));
            assert_eq!(send(&at("private"), Some(&me)), refused);
            std::os::unix::fs::chown(at("private"), Some(65534), None).unwrap();
            assert_eq!(send(&at("private"), Some(&User::Uid(65534))), refused, "that is nobody certain");
        }
    });
}

/// PROTOCOL D18
#[test]
fn a_server_does_not_talk_to_itself() {
    watched(|| {
        let place = Place::new();
        for scheme in datagram_schemes() {
            let mut server = serve(&match *scheme {
                "unixgram" => gram(&place),
                "abstractgram" => abstractgram(),
                _ => udp(),
            });
            let own = match server.endpoint() {
                Endpoint::UnixGram(path) => Address::Path(path.clone()),
                Endpoint::AbstractGram(name) => Address::Abstract(name.clone()),
                Endpoint::Udp { host, port } => format!("{host}:{port}").parse().map(Address::Inet).unwrap(),
                other => panic!("{other}"),
            };
            // That it is not sent is as good as that it is not received.
            let _ = server.send(b"to myself", &own, me().as_ref());
            dial(&server).send(b"another's", SOON).unwrap();
            assert_eq!(receive(&mut server, &mut [0; 16]).length, 9, "{scheme}");
            assert_eq!(kind(server.receive(&mut [0; 16])), io::ErrorKind::WouldBlock, "{scheme}");
        }
        let mut server = serve(&gram(&place));
        let folder = place.path().parent().unwrap().join("link");
        symlink(".", &folder).unwrap();
        let alias = Address::Path(folder.join("s"));
        assert_eq!(kind(server.send(b"x", &alias, me().as_ref())), io::ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_stranger_cannot_send_to_a_client() {
    on_each(|server, client| {
        let (place, mine) = (Place::new(), client.local_address().unwrap());
        let mut stranger = serve(&if is_udp(server) { udp() } else { gram(&place) });
        match stranger.send(b"forged", &mine, me().as_ref()) {
            Ok(()) => assert!(is_udp(server)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(
            kind(client.receive(&mut [0; 8], Some(Duration::from_millis(20)))),
            io::ErrorKind::TimedOut
        );
    });
}

#[test]
fn the_file_speaks_for_its_server_if_nobody_else_can_change_it() {
    watched(|| {
        let place = Place::new();
        let folder = place.path().parent().unwrap().to_owned();
        let _server = serve(&gram(&place));
        let user = |path: &Path| {
            let channel = DatagramChannel::connect(&Endpoint::UnixGram(path.into())).unwrap();
            channel.peer().credentials().map(|credentials| credentials.user().clone())
        };
        let (me, allow) = (current_user().unwrap(), |mode| Permissions::from_mode(mode));
        for (mode, trusted) in
            [(0o700, true), (0o755, true), (0o777, false), (0o770, false), (0o702, false), (0o1777, true)]
        {
            fs::set_permissions(&folder, allow(mode)).unwrap();
            assert_eq!(user(&place.path()), trusted.then(|| me.clone()), "{mode:o}");
        }
        fs::set_permissions(&folder, allow(0o700)).unwrap();
        let link = folder.join("link");
        symlink("s", &link).unwrap();
        assert_eq!(user(&link), None);
        if me == User::Uid(0) {
            let set_owner = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
            set_owner(&folder, 4711);
            assert_eq!(user(&place.path()), None, "the folder is another's");
            set_owner(&place.path(), 4711);
            assert_eq!(user(&place.path()), Some(User::Uid(4711)));
            set_owner(&folder, 0);
            assert_eq!(user(&place.path()), Some(User::Uid(4711)), "root may");
        }
        for endpoint in [abstractgram(), udp()] {
            if datagram_schemes().contains(&endpoint.scheme()) {
                assert_eq!(dial(&serve(&endpoint)).peer().credentials(), None);
                assert!(!endpoint.can_verify_server());
            }
        }
    });
}

/// How many descriptors of this process lead to a file.
#[cfg(target_os = "linux")]
fn descriptors_of(path: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
}

#[test]
#[cfg(target_os = "linux")]
fn descriptors_of_strangers_are_never_kept() {
    watched(|| {
        let place = Place::new();
        let mut server = serve(&gram(&place));
        let secret = place.path().with_extension("file");
        let file = File::create(&secret).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let to = SocketAddrUnix::new(place.path()).unwrap();
        for count in (0..1000).map(|round| if round == 999 { 253 } else { 5 }) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = vec![file.as_fd(); count];
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let parts = [IoSlice::new(b"take these")];
            match sendmsg_addr(&sender, &to, &parts, &mut control, SendFlags::empty()) {
                // Linux 6.16 and later: see `strangers_cannot_attach_descriptors`.
                Err(Errno::PERM) => {
                    return assert_eq!(kind(server.receive(&mut [0; 16])), io::ErrorKind::WouldBlock);
                }
                sent => sent.unwrap(),
            };
            let received = receive(&mut server, &mut [0; 16]);
            assert_eq!((received.length, received.truncated), (10, false));
            let credentials = received.credentials.expect("the sender is known all the same");
            assert_eq!(credentials.pid(), Some(std::process::id()));
            assert_eq!(descriptors_of(&secret), 1, "ours");
        }
    });
}

/// As long as can be: without room for a NUL, which std, mio and rustix don't expect.
#[test]
#[cfg(target_os = "linux")]
fn a_sender_with_the_longest_path_is_answered() {
    watched(|| {
        let place = Place::new();
        let mut server = serve(&gram(&place));
        let mut path = place.path().with_extension("x".repeat(108)).into_os_string().into_string().unwrap();
        path.truncate(108);
        let sender = UnixDatagram::unbound().unwrap();
        rustix::net::bind(&sender, &SocketAddrUnix::new(path.as_str()).unwrap()).unwrap();
        sender.connect(place.path()).unwrap();
        sender.send(b"x").unwrap();
        let from = receive(&mut server, &mut [0; 8]).from.unwrap();
        assert_eq!(from, Address::Path(path.into()));
        server.send(b"answer", &from, me().as_ref()).unwrap();
        assert_eq!(sender.recv(&mut [0; 8]).unwrap(), 6);
    });
}

/// Senders that owe nothing to our code: other names, other users, forged credentials.
#[test]
#[cfg(target_os = "linux")]
fn foreign_senders() {
    const SENDER: &str = r"
import os, socket, struct, sys
server, folder = sys.argv[1:]
def sender(name=None):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name is not None: s.bind(name)
    s.connect(server)
    return s
sender().send(b'unnamed')
named = sender(folder + '/named')
named.send(b'named')
assert named.recv(16) == b'answer'
os.chdir(folder)
sender('relative').send(b'relative')
sender(b'\0').send(b'empty abstract')
try: socket.send_fds(sender(), [b'descriptors'], [0, 1, 2])
except PermissionError: sender().send(b'descriptors')
if os.getuid() == 0:
    creds = struct.pack('3i', os.getpid(), 1234, 0)
    sender().sendmsg([b'forged'], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, creds)])
    os.setresuid(1111, 0, 0)
    sender().send(b'real')
";
    watched(|| {
        if Command::new("python3").arg("--version").output().is_err() {
            eprintln!("python3 is not there: skipped");
            return;
        }
        let place = Place::new();
        let folder = place.path().parent().unwrap().to_owned();
        let mut server = serve(&gram(&place));
        let mut python =
            Command::new("python3").args(["-c", SENDER]).args([&place.path(), &folder]).spawn().unwrap();
        let (me, mut buf) = (current_user().unwrap(), [0; 64]);
        let mut next = |text: &str, from: Option<Address>, user: &User| {
            let received = receive(&mut server, &mut buf);
            assert_eq!(std::str::from_utf8(&buf[..received.length]), Ok(text));
            assert_eq!(received.from, from, "{text}");
            let credentials = received.credentials.unwrap();
            assert_eq!((credentials.user(), credentials.pid()), (user, Some(python.id())), "{text}");
            received.from.map(|from| server.send(b"answer", &from, Some(user)))
        };
        next("unnamed", None, &me);
        next("named", Some(Address::Path(folder.join("named"))), &me).unwrap().unwrap();
        let refused = next("relative", Some(Address::Path("relative".into())), &me);
        assert_eq!(kind(refused.unwrap()), io::ErrorKind::InvalidInput);
        next("empty abstract", Some(Address::Abstract(vec![])), &me);
        next("descriptors", None, &me);
        if me == User::Uid(0) {
            next("forged", None, &User::Uid(1234));
            next("real", None, &User::Uid(1111));
        }
        assert!(python.wait().unwrap().success());
    });
}
