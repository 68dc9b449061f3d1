//! Servers that a service manager starts: it opens their sockets, and is told how they are.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sidewire::{Client, Credentials, Endpoint};

use crate::stage::{GREETING, SIDEWIRE, Stage, Started, signal};
use crate::util::{PATIENCE, Process, unique, until, watchdog};

const ECHO: u16 = 4;

/// `sidewire serve --activated` as a service manager starts it: this is the socket that it gets, or this and
/// another in place of its standard error; and that is what the manager says of them.
fn activated(stage: &Stage, sockets: Vec<OwnedFd>, variables: &str, options: &[&str]) -> Command {
    let script = match sockets.len() {
        1 => "exec 3<&0 0</dev/null",
        _ => "exec 3<&0 4<&2 0</dev/null 2>/dev/null",
    };
    let script = format!("{script}; export {variables}; exec \"$@\"");
    let mut command = stage.command("sh", ["-c", &script, "sh", SIDEWIRE, "serve", "--activated"]);
    let mut sockets = sockets.into_iter();
    command.args(options).stdin(sockets.next().expect("one"));
    if let Some(socket) = sockets.next() {
        command.stderr(socket);
    }
    command
}

const ONE: &str = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=app";

fn listener(path: &Path) -> OwnedFd {
    UnixListener::bind(path).expect("bind").into()
}

/// The manager's end of NOTIFY_SOCKET.
fn notices(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    socket
}

fn next(notices: &UnixDatagram) -> String {
    let mut text = [0; 512];
    let count = notices.recv(&mut text).expect("a notice");
    String::from_utf8_lossy(&text[..count]).into_owned()
}

/// Who calls before the server is there waits for it; the socket stays when it has gone.
#[test]
fn a_socket_that_is_there_already_is_served_and_left() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let name = unique("app");
    let path = stage.path(&format!("{name}.sock"));
    let socket = listener(&path);
    let manager = notices(&stage.path("notify"));
    let endpoint = format!("local:{name}");
    for round in 0..2 {
        let early = Started::new(&mut stage.sidewire(["call", &endpoint, "1"]), b"");
        let mut command = activated(&stage, vec![socket.try_clone().expect("a copy")], ONE, &[]);
        let mut server = Process::start_with_input(command.env("NOTIFY_SOCKET", stage.path("notify")), 1);
        assert_eq!(server.endpoints, [Endpoint::Unix(path.clone())]);
        early.finish().expect(0).prints(GREETING);
        assert_eq!(next(&manager), "READY=1\nSTATUS=serving on 1 endpoint\n", "round {round}");
        #[cfg(target_os = "linux")]
        {
            let about = std::fs::read_to_string(format!("/proc/{}/fdinfo/3", server.child.id()));
            let flags = about
                .expect("it has it")
                .lines()
                .find_map(|line| Some(line.strip_prefix("flags:")?.trim().to_owned()));
            let flags = u32::from_str_radix(&flags.expect("its flags"), 8).expect("a number");
            assert!(flags & 0o2_000_000 != 0, "no child inherits it");
        }
        signal("TERM", server.child.id());
        assert_eq!(next(&manager), "STOPPING=1\nSTATUS=stopping\n");
        assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
        assert!(path.exists());
    }
}

/// The system names the process that has called listen(2): its user counts, and nobody calls it the server.
#[test]
fn clients_hold_the_managers_user_to_their_policy_and_do_not_believe_its_pid() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let path = stage.path("app.sock");
    let server = Process::start_with_input(&mut activated(&stage, vec![listener(&path)], ONE, &[]), 1);
    let client = Client::connect(&server.endpoints[0]).expect("the same user");
    let peer = client.peer();
    assert_ne!(peer.credentials().and_then(Credentials::pid), Some(server.child.id()));
    signal("STOP", server.child.id());
    let error = client.request(ECHO).timeout(Duration::from_millis(200)).send("x").expect_err("it is frozen");
    let text = error.to_string();
    assert!(error.is_timeout() && !text.contains("from pid"), "{text}");
    if cfg!(target_os = "linux") {
        assert!(text.contains(&format!("opened by pid {}", std::process::id())), "{text}");
    }
}

#[test]
fn several_sockets_each_as_what_it_is() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let gram = UnixDatagram::bind(stage.path("gram")).expect("bind");
    let sockets = vec![listener(&stage.path("stream")), gram.into()];
    let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=one:other";
    let own = stage.unix("own");
    let server = Process::start_with_input(&mut activated(&stage, sockets, variables, &[&own]), 3);
    let bound = server.endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>();
    assert_eq!(bound, [stage.unix("stream"), stage.unix("gram").replace("unix:", "unixgram:"), own]);
    for endpoint in &bound {
        stage.run(["call", endpoint, "1"]).expect(0).prints(GREETING);
    }
}

/// Nothing is served, and it is said why.
#[test]
fn what_makes_no_sense_is_said() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let fresh = || listener(&stage.path(&unique("s")));
    let null = || OwnedFd::from(File::open("/dev/null").expect("open"));
    let connected = || UnixStream::pair().expect("a pair").0.into();
    let tcp = || std::net::TcpListener::bind("127.0.0.1:0").expect("bind").into();
    for (socket, variables, code, text) in [
        (fresh(), "LISTEN_PID=1 LISTEN_FDS=1", 1, "no service manager has opened sockets"),
        (fresh(), "LISTEN_FDS=1", 1, "no service manager has opened sockets"),
        (fresh(), "LISTEN_PID=$$ LISTEN_FDS=0", 1, "no service manager has opened sockets"),
        (fresh(), "LISTEN_PID=$$ LISTEN_FDS=many", 1, "LISTEN_FDS"),
        (fresh(), "LISTEN_PID=$$ LISTEN_FDS=40", 1, "LISTEN_FDS"),
        (fresh(), "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b", 1, "LISTEN_FDNAMES"),
        (null(), ONE, 1, "app: fd 3 is a terminal or another device, not a socket"),
        (connected(), ONE, 1, "app: fd 3 is a connected Unix socket, not a listener"),
        (tcp(), ONE, 2, "Access::Anyone"),
    ] {
        let mut command = activated(&stage, vec![socket], variables, &[]);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("run it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(code), &b""[..]), "{variables}: {said}");
        assert!(said.contains(text), "{variables}: {said}");
    }
}

/// A manager that can't be told is no reason not to serve.
#[test]
fn notices_that_nobody_reads_are_logged() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut command = stage.sidewire(["serve", &stage.unix("s")]);
    let nobody = stage.path("nobody");
    let mut server = Process::start(
        command.env("NOTIFY_SOCKET", &nobody).stderr(File::create(stage.path("log")).expect("a log")),
        1,
    );
    stage.run(["call", &stage.unix("s"), "1"]).expect(0).prints(GREETING);
    until("it is logged", || {
        std::fs::read_to_string(stage.path("log")).expect("the log").contains("tell the service manager")
    });
    signal("TERM", server.child.id());
    assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
}

/// The one of systemd, where there is one.
#[test]
fn systemds_own_activator_starts_it_for_the_first_client() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let path = stage.path("app.sock");
    let args = ["-l".as_ref(), path.as_os_str(), SIDEWIRE.as_ref(), "serve".as_ref(), "--activated".as_ref()];
    let mut command = stage.command("systemd-socket-activate", args);
    let Ok(mut activator) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return println!("skipped: there is no systemd-socket-activate here");
    };
    until("it listens", || path.exists());
    let endpoint = stage.unix("app.sock");
    for _ in 0..2 {
        stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
    }
    signal("TERM", activator.id());
    activator.wait().expect("its end");
}

/// Of the service, the program is another here: it has to be there.
#[test]
fn systemd_takes_the_sample_units() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let service = include_str!("../../docs/systemd/app.service").replace("%h/.cargo/bin/sidewire", SIDEWIRE);
    std::fs::write(stage.path("app.service"), service).expect("write");
    std::fs::write(stage.path("app.socket"), include_str!("../../docs/systemd/app.socket")).expect("write");
    let units = [stage.path("app.service"), stage.path("app.socket")];
    let mut command = stage.command("systemd-analyze", ["--user", "verify"]);
    match command.args(units).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => println!("skipped: there is no systemd-analyze here: {error}"),
    }
}
