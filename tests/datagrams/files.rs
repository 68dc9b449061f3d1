//! Sockets in the file system: names, rights, and senders that have no name.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidewire::{Access, Client, Endpoint, Listen, Server};

use crate::stage::{answer, client, connect, echo, messages, next, speaks, v1, v1_call};
use crate::util::{Dialect, PATIENCE, classic, start, store, until, watchdog};

const SOMEBODY: u32 = 12345;

fn path(endpoint: &Endpoint) -> &Path {
    match endpoint {
        Endpoint::UnixGram(path) => path,
        other => panic!("{other} is no path"),
    }
}

/// A folder of our own, and an endpoint in it.
fn place() -> (tempfile::TempDir, Endpoint) {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = Endpoint::UnixGram(folder.path().join("x.sock"));
    (folder, endpoint)
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).expect("stat").permissions().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

fn is_root() -> bool {
    let is_root = sidewire_platform::current_user().expect("who we are").is_superuser();
    if !is_root {
        println!("not root: what needs another user is not tested");
    }
    is_root
}

#[test]
fn a_server_that_stops_removes_its_file() {
    let _watchdog = watchdog(60);
    let (folder, endpoint) = place();
    for _ in 0..3 {
        let (running, bound) = start(store(), [Listen::from(&endpoint)]);
        assert_eq!(mode(path(&endpoint)), 0o600);
        Client::connect(&bound[0]).expect("connect").call(1, b"").expect("get");
        running.stop().expect("the server ends well");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }
    let (running, _) = start(store(), [Listen::from(&endpoint).access(Access::Anyone)]);
    assert_eq!(mode(path(&endpoint)), 0o666);
    drop(running);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

/// What a server that was killed has left behind is replaced; anything else is not.
#[test]
fn stale_files_are_replaced_and_others_are_not() {
    let _watchdog = watchdog(60);
    let (_folder, endpoint) = place();
    drop(UnixDatagram::bind(path(&endpoint)).expect("bind"));
    let (running, bound) = start(store(), [Listen::from(&endpoint)]);
    client(Dialect::V1, &bound[0]).call(1, b"").expect("get");
    running.stop().expect("the server ends well");
    fs::write(path(&endpoint), "precious").expect("write");
    Server::new(()).listen(&endpoint).expect_err("a file is in the way");
    assert_eq!(fs::read(path(&endpoint)).expect("read"), b"precious");
}

#[test]
fn a_folder_that_others_can_write_to_proves_nothing() {
    let _watchdog = watchdog(60);
    let (folder, endpoint) = place();
    let (running, _) = start(store(), [Listen::from(&endpoint)]);
    for (mode, is_fine) in [(0o777, false), (0o770, false), (0o702, false), (0o1777, true), (0o755, true)] {
        set_mode(folder.path(), mode);
        let connected = Client::connect(&endpoint);
        match connected {
            Ok(client) => {
                assert!(is_fine, "mode {mode:o}");
                client.call(1, b"").expect("get");
            }
            Err(error) => assert!(!is_fine && error.is_refused(), "mode {mode:o}: {error}"),
        }
        let anyone = connect(&endpoint).access(Access::Anyone).open().expect("connect");
        anyone.call(1, b"").expect("get");
    }
    let link = folder.path().join("link.sock");
    symlink(path(&endpoint), &link).expect("a link");
    let error = Client::connect(Endpoint::UnixGram(link)).expect_err("a symbolic link");
    assert!(error.is_refused(), "{error}");
    running.stop().expect("the server ends well");
}

#[test]
fn another_users_server_is_not_ours() {
    let _watchdog = watchdog(60);
    if !is_root() {
        return;
    }
    let (_folder, endpoint) = place();
    let (running, _) = start(store(), [Listen::from(&endpoint)]);
    chown(path(&endpoint), Some(SOMEBODY), None).expect("chown");
    for dialect in Dialect::ALL {
        let error = speaks(dialect, connect(&endpoint)).open().expect_err("another user's");
        assert!(error.is_refused() && error.to_string().contains("12345"), "{error}");
    }
    let error = connect(&endpoint).open_messages().expect_err("another user's");
    assert!(error.is_refused(), "{error}");
    running.stop().expect("the server ends well");
}

/// A classic client connects anew after a call that failed, and looks anew whom to.
#[test]
fn policy_holds_when_a_client_connects_anew() {
    let _watchdog = watchdog(60);
    if !is_root() {
        return;
    }
    let (_folder, endpoint) = place();
    let silent = UnixDatagram::bind(path(&endpoint)).expect("bind");
    let client = client(Dialect::Classic, &endpoint);
    let error = client.request(1).timeout(Duration::from_millis(50)).send(b"x").expect_err("silence");
    assert!(error.is_timeout(), "{error}");
    drop(silent);
    fs::remove_file(path(&endpoint)).expect("remove");
    let error = client.call(1, b"x").expect_err("nobody is there");
    assert!(error.is_not_listening(), "{error}");
    let stranger = UnixDatagram::bind(path(&endpoint)).expect("bind");
    chown(path(&endpoint), Some(SOMEBODY), None).expect("chown");
    let error = client.call(1, b"x").expect_err("a stranger's");
    assert!(error.is_refused(), "{error}");
    stranger.set_nonblocking(true).expect("non-blocking");
    stranger.recv(&mut [0]).expect_err("nothing was sent");
    drop(stranger);
    fs::remove_file(path(&endpoint)).expect("remove");
    let (running, _) = start(store(), [Listen::from(&endpoint)]);
    client.call(1, b"").expect("get");
    running.stop().expect("the server ends well");
}

/// They are served, but there is nowhere to answer to.
/// PROTOCOL D9
#[test]
fn senders_without_a_name() {
    let _watchdog = watchdog(60);
    let (_folder, endpoint) = place();
    let server = store();
    let counters = server.counters();
    let (running, _) = start(server, [Listen::from(&endpoint)]);
    let unnamed = UnixDatagram::unbound().expect("a socket");
    for (number, bytes) in
        [classic(2, 0, b"classic"), v1_call(2, 7, b"v1"), v1(3, 0, 2, 0, 0, b"notify")].iter().enumerate()
    {
        unnamed.send_to(bytes, path(&endpoint)).expect("send");
        until("it is served", || counters.requests() + counters.notifies() == number as u64 + 1);
    }
    for bytes in [v1(9, 0, 0, 7, 0, b""), classic(99, 0, b""), b"garbage".to_vec()] {
        unnamed.send_to(&bytes, path(&endpoint)).expect("send");
    }
    let client = client(Dialect::V1, &endpoint);
    assert_eq!(client.call(1, b"").expect("get").payload(), b"notify");
    assert_eq!(counters.datagrams_dropped(), 0);
    running.stop().expect("the server ends well");

    let mut server = Server::new(Vec::new());
    let bound = server.listen_messages(&endpoint, |seen: &mut Vec<_>, message, reply| {
        seen.push(message.sender().cloned());
        reply.send(message.bytes());
    });
    let bound = bound.expect("listen");
    let running = server.spawn().expect("spawn");
    unnamed.send_to(b"x", path(&bound)).expect("send");
    let named = messages(&bound);
    named.send(b"y").expect("send");
    assert_eq!(next(&named), b"y");
    let ours = named.local_address().expect("our address");
    assert_eq!(running.stop().expect("the server ends well"), [None, Some(ours)]);
}

/// As C programs do it: bound to a path of their own, and not connected.
#[test]
fn senders_with_a_path() {
    let _watchdog = watchdog(60);
    let (folder, endpoint) = place();
    let (running, _) = start(store(), [Listen::from(&endpoint)]);
    let own: PathBuf = folder.path().join("own\nname.sock");
    let socket = UnixDatagram::bind(&own).expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    for request in [classic(4, 0, b"hello"), v1_call(4, 7, b"hello")] {
        socket.send_to(&request, path(&endpoint)).expect("send");
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer).expect("a reply");
        assert_eq!(from.as_pathname(), Some(path(&endpoint)));
        assert_eq!(answer(&buffer[..length]).payload, b"hello");
    }
    running.stop().expect("the server ends well");
}

/// PROTOCOL D7
#[test]
fn senders_whose_path_leads_nowhere() {
    let _watchdog = watchdog(60);
    let (folder, endpoint) = place();
    let mut server = Server::new(0);
    let counters = server.counters();
    crate::stage::listen_echo(&mut server, Listen::from(&endpoint));
    let running = server.spawn().expect("spawn");
    let own = folder.path().join("own.sock");
    let socket = UnixDatagram::bind(&own).expect("bind");
    fs::remove_file(&own).expect("remove");
    socket.send_to(b"x", path(&endpoint)).expect("send");
    until("it is dropped", || counters.datagrams_dropped() == 1);
    // A socket of another kind is there now.
    let _stream = std::os::unix::net::UnixListener::bind(&own).expect("bind");
    socket.send_to(b"y", path(&endpoint)).expect("send");
    until("it is dropped", || counters.datagrams_dropped() == 2);
    running.stop().expect("the server ends well");
}

#[test]
fn sockets_are_counted_and_given_back() {
    let _watchdog = watchdog(60);
    let descriptors = || fs::read_dir("/proc/self/fd").map(Iterator::count);
    if descriptors().is_err() {
        return println!("no /proc: nothing is tested");
    }
    let (_folder, endpoint) = place();
    crate::util::alone("files::sockets_are_counted_and_given_back", || {
        let before = descriptors().expect("/proc");
        for _ in 0..20 {
            let (running, bound) = echo([Listen::from(&endpoint)]);
            for _ in 0..5 {
                let client = messages(&bound[0]);
                client.send(b"x").expect("send");
                next(&client);
            }
            running.stop().expect("the server ends well");
        }
        assert_eq!(descriptors().expect("/proc"), before);
    });
}
