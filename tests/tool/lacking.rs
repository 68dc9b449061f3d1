//! Systems that lack, or refuse, what others have.

use std::ffi::c_int;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::stage::{GREETING, SIDEWIRE, Stage, Started, signal, source};
use crate::util::{Process, classic, watchdog};

/// The tool, in which this system call (`NUMBER`, or `NUMBER:SECOND_ARGUMENT`) always fails with that error.
pub(crate) fn denying(stage: &Stage, call: impl Display, errno: c_int, args: &[&str]) -> Command {
    let launcher = stage.path("deny");
    if !launcher.exists() {
        let built = Command::new("cc").arg("-o").arg(&launcher).arg(source("deny.c")).status();
        assert!(built.expect("cc").success());
    }
    let (call, errno) = (call.to_string(), errno.to_string());
    stage.command(launcher, [&[&call, &errno, SIDEWIRE], args].concat())
}

/// A dead server's socket is replaced, too: fcntl(2) locks what flock(2) does not.
#[test]
fn without_flock_a_server_starts() {
    let _watchdog = watchdog(60);
    for errno in [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL] {
        let stage = Stage::new();
        let endpoint = stage.unix("s");
        let mut dead = stage.serve(&[&endpoint], &[]);
        signal("KILL", dead.child.id());
        dead.wait(Duration::from_secs(30));
        let server = Process::start(&mut denying(&stage, libc::SYS_flock, errno, &["serve", &endpoint]), 1);
        stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
        let second = &mut denying(&stage, libc::SYS_flock, errno, &["serve", &endpoint]);
        Started::new(second, b"").finish().expect(1).mentions("another server is there already");
        drop(server);
    }
}

/// bind(2) still lets only one in; what a dead one left is not replaced, since two might do so at once.
#[test]
fn without_any_lock_a_server_starts_where_nothing_is() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let (endpoint, log) = (stage.unix("s"), stage.path("log"));
    // A file system of that kind: neither system call.
    let denied = |args: &[&str]| {
        let (inner, outer) = (
            denying(&stage, format!("{}:{}", libc::SYS_fcntl, libc::F_OFD_SETLK), libc::ENOLCK, args),
            denying(&stage, libc::SYS_flock, libc::ENOLCK, &[]),
        );
        // The outer one starts the inner one, which starts the tool.
        let mut outer = stage.command(outer.get_program(), outer.get_args().take(2));
        outer.arg(inner.get_program()).args(inner.get_args());
        outer
    };
    let mut server =
        Process::start(denied(&["serve", &endpoint]).stderr(File::create(&log).expect("a file")), 1);
    stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
    let told = fs::read_to_string(&log).expect("the log");
    assert!(told.contains("s.lock can't be locked"), "{told}");
    let second = Started::new(&mut denied(&["serve", &endpoint]), b"").finish();
    second.expect(1).mentions("another server is there already");
    signal("KILL", server.child.id());
    server.wait(Duration::from_secs(30));
    let third = Started::new(&mut denied(&["serve", &endpoint]), b"").finish();
    third.expect(1).mentions("dead server").mentions("rm '");
}

#[test]
fn a_system_that_sets_no_modes_is_told_apart() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    // The folder is ours alone: nobody could have reached the socket meanwhile.
    for endpoint in [stage.unix("s"), format!("unixgram:{}", stage.path("gram").display())] {
        let server =
            Process::start(&mut denying(&stage, libc::SYS_fchmod, libc::EPERM, &["serve", &endpoint]), 1);
        stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
        drop(server);
    }
}

/// Neither to widen a socket's mode, nor to know a datagram server, nor to answer at a path.
#[test]
fn nothing_in_proc_is_needed() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    if !has_namespaces() {
        return;
    }
    let gram = stage.path("gram");
    let endpoints = [stage.unix("s"), format!("unixgram:{}", gram.display())];
    let script = "mount -t tmpfs none /proc && exec \"$@\"";
    let without = |args: &[&str]| {
        stage.command("unshare", [&["-m", "sh", "-c", script, "sh", SIDEWIRE][..], args].concat())
    };
    for access in [&[][..], &["--access", "anyone"]] {
        let args = [&["serve", &endpoints[0], &endpoints[1]], access].concat();
        let server = Process::start(&mut without(&args), 2);
        for endpoint in &endpoints {
            let call = Started::new(&mut without(&["call", endpoint, "1"]), b"").finish();
            call.expect(0).prints(GREETING);
        }
        let own = UnixDatagram::bind(stage.path("own")).expect("bind");
        own.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        own.send_to(&classic(1, 0, b""), &gram).expect("send");
        let mut answer = [0; 100];
        let length = own.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..length], classic(1, 0, GREETING));
        drop(server);
        fs::remove_file(stage.path("own")).expect("our socket");
    }
}

fn has_namespaces() -> bool {
    let has = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !has {
        println!("no right to make namespaces: this test does nothing");
    }
    has
}

#[test]
fn nothing_in_dev_is_needed() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    if !has_namespaces() {
        return;
    }
    let endpoint = stage.unix("s");
    let script = "mount -t tmpfs none /dev && exec \"$@\"";
    let args = ["-m", "sh", "-c", script, "sh", SIDEWIRE, "serve", &endpoint];
    let _server = Process::start(&mut stage.command("unshare", args), 1);
    stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
}
