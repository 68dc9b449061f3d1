//! Servers that leave when nobody needs them: `serve --exit-when-idle`, and the example `on_demand`; or when another
//! takes over: `serve --take-over`.

use std::process::Command;
use std::time::Duration;

use sidewire::Presence;

use crate::getset::example;
use crate::stage::Stage;
use crate::util::{PATIENCE, until, watchdog};

#[test]
fn serve_leaves_when_its_last_client_has_gone() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let access = if endpoint.starts_with("tcp:") { &["--access", "anyone"][..] } else { &[] };
        let options = [access, &["--exit-when-idle", "0"]].concat();
        let mut server = stage.serve(&[&endpoint], &options);
        let bound = server.endpoints[0].to_string();
        stage.run([&["call", &bound, "1"], access].concat()).expect(0);
        let status = server.wait(PATIENCE);
        assert!(status.success(), "{endpoint}: {status}");
        #[cfg(unix)]
        if let sidewire::Endpoint::Unix(path) = stage.seen_from_here(&server.endpoints[0]) {
            assert!(!path.exists(), "{}", path.display());
        }
    }
}

#[test]
fn one_serve_takes_over_from_another() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.all_streams().into_iter().filter(|endpoint| !endpoint.starts_with("tcp:")) {
        let mut older = stage.serve(&[&endpoint], &["--take-over"]);
        let bound = older.endpoints[0].to_string();
        stage.run(["call", &bound, "2", "kept by nobody"]).expect(0);
        let newer = stage.serve(&[&endpoint], &["--take-over"]);
        assert!(older.wait(PATIENCE).success(), "{endpoint}");
        let said = stage.run(["call", &bound, "1"]).expect(0).stdout;
        assert!(said.starts_with(b"hello, this is server!"), "{endpoint}");
        // One that gives way to nobody.
        let plain = stage.run(["serve", &endpoint]).expect(1).stderr;
        assert!(plain.contains(&endpoint), "{plain}");
        drop(newer);
    }
}

#[test]
fn the_example_starts_its_server_once_and_it_leaves() {
    let _watchdog = watchdog(120);
    let endpoint = crate::util::fresh("local").to_string();
    let count = || {
        let mut command = Command::new(example("on_demand"));
        let output = command.args(["count", "2", &endpoint]).output().expect("the example");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let numbers = |text: String| -> Vec<u32> {
        let number = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse().ok());
        text.lines().filter_map(number).collect()
    };
    assert_eq!(numbers(count()), [1, 2]);
    // The same server, if this machine is not too slow for its two seconds; else another.
    let again = numbers(count());
    assert!(again == [3, 4] || again == [1, 2], "{again:?}");
    let connect = sidewire::Connect::to(endpoint.as_str()).expect("an endpoint");
    let mut pause = Duration::from_secs(3);
    until("the server leaves", || {
        // Looking at it is being connected.
        std::thread::sleep(std::mem::take(&mut pause).max(Duration::from_millis(2500)));
        connect.presence().expect("a look") == Presence::Absent
    });
}
