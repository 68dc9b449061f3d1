//! The example `files`.

use crate::getset::example;
use crate::stage::{Stage, Started};
use crate::util::watchdog;

#[test]
fn files_go_both_ways() {
    use crate::util::Process;

    let _watchdog = watchdog(60);
    let (stage, folder) = (Stage::new(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("poem");
    std::fs::write(&path, "one\ntwo\nthree\n").expect("write");
    let (path, folder) = (path.to_str().expect("UTF-8"), folder.path().to_str().expect("UTF-8"));
    for endpoint in stage.verified_streams() {
        let server = Process::start(&mut stage.command(example("files"), ["serve", folder, &endpoint]), 1);
        let bound = server.endpoints[0].to_string();
        let run = |args: [&str; 2]| {
            let mut command = stage.command(example("files"), [args[0], args[1], &bound]);
            Started::new(&mut command, b"").finish()
        };
        run(["cat", "poem"]).expect(0).prints("one\ntwo\nthree\n");
        run(["lines", path]).expect(0).prints("3\n");
        run(["cat", "../poem"]).expect(1).mentions("not the name of a file");
        #[cfg(unix)]
        {
            run(["lines", "/dev/null"]).expect(1).mentions("no regular file");
            run(["cat", "prose"]).expect(1).mentions("No such file");
            let mut server = server;
            crate::stage::signal("TERM", server.child.id());
            assert_eq!(server.wait(std::time::Duration::from_secs(30)).code(), Some(0));
        }
    }
}

#[test]
fn where_nothing_can_go_along_that_is_said_at_once() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut command = stage.command(example("files"), ["cat", "poem", "tcp:127.0.0.1:1"]);
    Started::new(&mut command, b"").finish().expect(1).mentions("attachments are not supported here");
}

#[test]
fn nonsense_is_told_how_it_is_used() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for args in [&["serve"][..], &["x", "y"]] {
        let mut command = stage.command(example("files"), args);
        Started::new(&mut command, b"").finish().expect(2).mentions("usage: files");
    }
}
