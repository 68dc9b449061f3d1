//! Who holds an endpoint, and what becomes of files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::stage::{GREETING, SIDEWIRE, Stage, Started, eventually, signal};
use crate::util::{Process, times, unique, watchdog};

fn value_at(stage: &Stage, endpoint: &str) -> String {
    stage.run(["call", endpoint, "1"]).expect(0).text()
}

fn kill(server: &mut Process) {
    signal("KILL", server.child.id());
    server.wait(Duration::from_secs(30));
}

#[test]
fn a_live_server_is_never_displaced() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.all_streams(), &["--access", "anyone"]);
    let files = stage.files();
    for endpoint in &server.endpoints {
        let endpoint = endpoint.to_string();
        stage.run(["call", &endpoint, "2", "the first"]).expect(0);
        let second = stage.run(["serve", &endpoint, "--access", "anyone"]).expect(1).prints("");
        second.mentions(&endpoint).mentions("another server is there already");
        assert_eq!(value_at(&stage, &endpoint), "the first");
    }
    assert_eq!(stage.files(), files);
}

/// A second one ends; a third must still see the first.
#[test]
fn those_who_fail_leave_the_first_as_it_was() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.unix("x.sock");
    let mut server = stage.serve(&[&endpoint], &[]);
    let inode = fs::metadata(stage.path("x.sock")).expect("the socket").ino();
    let others: Vec<_> =
        (0..5).map(|_| Started::new(&mut stage.sidewire(["serve", &endpoint]), b"")).collect();
    for other in others {
        other.finish().expect(1).prints("");
    }
    assert_eq!(fs::metadata(stage.path("x.sock")).expect("the socket").ino(), inode);
    assert_eq!(value_at(&stage, &endpoint).as_bytes(), GREETING);
    signal("TERM", server.child.id());
    server.wait(Duration::from_secs(30));
    assert_eq!(stage.files(), [""; 0]);
}

#[test]
fn what_a_killed_server_left_is_replaced() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoints = [stage.unix("x.sock"), format!("local:{}", unique("tool"))];
    let mut first = stage.serve(&endpoints, &[]);
    stage.run(["call", &endpoints[0], "2", "the first"]).expect(0);
    kill(&mut first);
    assert_eq!(stage.files().len(), 2, "both sockets are stale");
    for endpoint in &endpoints {
        stage.run(["call", endpoint, "1"]).expect(3).mentions("nobody listens there");
    }
    let mut second = stage.serve(&endpoints, &[]);
    for endpoint in &endpoints {
        assert_eq!(value_at(&stage, endpoint).as_bytes(), GREETING);
    }
    signal("TERM", second.child.id());
    assert_eq!(second.wait(Duration::from_secs(30)).code(), Some(0));
    assert_eq!(stage.files(), [""; 0]);
}

/// Whatever else is at the path stays there.
#[test]
fn what_is_no_socket_is_never_removed() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let path = |name: &str| stage.path(name);
    fs::write(path("file"), "precious").expect("a file");
    fs::write(path("empty"), "").expect("a file");
    fs::create_dir(path("folder")).expect("a folder");
    symlink("nowhere", path("dangling")).expect("a link");
    symlink("file", path("link")).expect("a link");
    assert!(Command::new("mkfifo").arg(path("fifo")).status().expect("mkfifo").success());
    let types = || -> Vec<_> {
        let names = ["file", "empty", "folder", "dangling", "link", "fifo"];
        let look = |name| fs::symlink_metadata(path(name)).expect(name);
        names.map(look).iter().map(|found| (found.ino(), found.file_type(), found.mode())).collect()
    };
    let before = types();
    for name in ["file", "empty", "folder", "dangling", "link", "fifo"] {
        let outcome = stage.run(["serve", &stage.unix(name)]).prints("");
        assert_eq!(outcome.code, Some(1), "{name}: {outcome}");
        outcome.mentions(name);
    }
    assert_eq!(types(), before);
    assert_eq!(fs::read_to_string(path("file")).expect("the file"), "precious");
    assert_eq!(stage.files().len(), 6, "{:?}", stage.files());
}

/// A socket that was replaced behind the server's back is not its own any more.
#[test]
fn only_its_own_socket_is_removed() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut first = stage.serve(&[stage.unix("x.sock")], &[]);
    fs::remove_file(stage.path("x.sock")).expect("remove");
    let second = stage.serve(&[stage.unix("x.sock")], &[]);
    signal("TERM", first.child.id());
    assert_eq!(first.wait(Duration::from_secs(30)).code(), Some(0));
    assert_eq!(value_at(&stage, &second.endpoints[0].to_string()).as_bytes(), GREETING);
}

fn mode(path: &Path) -> u32 {
    let found = fs::symlink_metadata(path).expect("the socket");
    assert!(found.file_type().is_socket());
    found.permissions().mode() & 0o7777
}

/// Whatever the umask is.
#[test]
fn sockets_have_their_mode_at_once() {
    let _watchdog = watchdog(60);
    for umask in ["000", "022", "077", "777"] {
        for (options, expected) in [(&[][..], 0o600), (&["--access", "anyone"], 0o666)] {
            let stage = Stage::new();
            let script = format!("umask {umask}; exec \"$0\" serve \"$@\"");
            let local = unique("tool");
            let endpoints = [stage.unix("x.sock"), format!("local:{local}")];
            let mut command = stage.command("sh", ["-c", &script, SIDEWIRE]);
            let _server = Process::start(command.args(endpoints).args(options), 2);
            for name in ["x.sock", &format!("{local}.sock")] {
                let found = mode(&stage.path(name));
                assert_eq!(found, expected, "{name} with umask {umask} and {options:?}");
            }
        }
    }
}

/// Many times, since it is a race: of those who start at once on a stale path, or where nothing is, one wins, and it
/// can be reached; the others say that it is there, and which process it is.
#[test]
fn of_many_starters_on_a_stale_path_one_wins() {
    const ROUNDS: usize = 12;
    const STARTERS: usize = 4;
    let rounds = ROUNDS * times();
    let _watchdog = watchdog(10 * rounds as u64);
    let stage = Stage::new();
    let endpoint = stage.unix("x.sock");
    kill(&mut stage.serve(&[&endpoint], &[]));
    for round in 0..rounds {
        if round % 3 == 2 {
            fs::remove_file(stage.path("x.sock")).expect("the stale socket");
        }
        let mut starters: Vec<_> =
            (0..STARTERS).map(|_| Started::new(&mut stage.sidewire(["serve", &endpoint]), b"")).collect();
        eventually(Duration::from_secs(60), "all but one have ended", || {
            starters.iter_mut().filter_map(|starter| starter.is_running().then_some(())).count() == 1
        });
        let winner = starters.iter_mut().position(Started::is_running).expect("one");
        let winner = starters.swap_remove(winner);
        for loser in starters {
            let lost = loser.finish().expect(1).prints("").mentions("another server is there already");
            lost.mentions(&format!("opened by pid {})", winner.id()));
        }
        eventually(Duration::from_secs(30), "the winner answers", || {
            stage.run(["call", &endpoint, "1"]).stdout == GREETING
        });
        assert_eq!(stage.files(), ["x.sock"], "round {round}");
        signal("KILL", winner.id());
        let outcome = winner.finish();
        assert_eq!(outcome.code, None);
        // It serves whether or not anybody reads what it prints; on a busy machine it is killed before it has.
        assert!(["", &format!("listening {endpoint}\n")].contains(&&*outcome.text()), "{outcome}");
    }
}
