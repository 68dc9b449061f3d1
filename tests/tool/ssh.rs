//! `ssh:HOST ENDPOINT`, with a script in place of ssh, which does as sshd does: it has a shell read the words behind the host.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::stage::{GREETING, SIDEWIRE, Stage};
use crate::util::{Process, watchdog};

const SSH: &str = r#"#!/bin/sh
for word; do printf '%s\n' "$word"; done >"$0.words"
while [ "$1" != -- ]; do shift; done
case $2 in
    *unknown) echo "ssh: Could not resolve hostname $2" >&2; exit 255 ;;
esac
shift 2
exec sh -c "$*"
"#;

/// With the script first in PATH, and behind it what is called sidewire there.
struct Network {
    stage: Stage,
    path: String,
}

impl Network {
    fn new() -> Network {
        let stage = Stage::new();
        let bin = stage.path("bin");
        std::fs::create_dir(&bin).expect("a folder");
        std::fs::write(bin.join("ssh"), SSH).expect("a script");
        std::fs::set_permissions(bin.join("ssh"), PermissionsExt::from_mode(0o755)).expect("chmod");
        symlink(SIDEWIRE, bin.join("sidewire")).expect("a link");
        let usual = std::env::var("PATH").expect("a path");
        let path = format!("{}:{usual}", bin.display());
        Network { stage, path }
    }

    fn call(&self, endpoint: &str, expected: i32) -> crate::stage::Outcome {
        let mut command = self.stage.sidewire(["call", endpoint, "1", "--timeout", "60"]);
        crate::stage::Started::new(command.env("PATH", &self.path), b"").finish().expect(expected)
    }

    /// What ssh was started with.
    fn words(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.stage.path("bin/ssh.words")).expect("it was started");
        text.lines().map(str::to_owned).collect()
    }

    fn serve(&self, name: &str) -> (Process, PathBuf) {
        let path = self.stage.path(name);
        (self.stage.serve(&[format!("unix:{}", path.display())], &[]), path)
    }
}

/// PROTOCOL O5
#[test]
fn the_server_beyond_it_answers() {
    let _watchdog = watchdog(60);
    let network = Network::new();
    let (_server, path) = network.serve("s");
    network.call(&format!("ssh:ada@build.example:2222 unix:{}", path.display()), 0).prints(GREETING);
    let words = network.words();
    let (options, rest) = words.split_at(words.iter().position(|word| word == "--").expect("an end"));
    for expected in
        [&["-T"][..], &["-o", "BatchMode=yes"], &["-o", "ClearAllForwardings=yes"], &["-p", "2222"]]
    {
        assert!(options.windows(expected.len()).any(|some| some == expected), "{words:?}");
    }
    assert_eq!(rest, ["--", "ada@build.example", &format!("sidewire relay 'unix:{}'", path.display())]);
}

/// Two shells' worth of signs: none is read as more than itself.
#[test]
fn an_endpoint_is_one_word_on_the_other_side() {
    let _watchdog = watchdog(60);
    let network = Network::new();
    let (_server, path) = network.serve("it's a $(touch hit) `touch hit`; touch hit & \\ \"$HOME\" *");
    network.call(&format!("ssh:build unix:{}", path.display()), 0).prints(GREETING);
    let hits = network.stage.files().into_iter().filter(|name| name == "hit").count();
    assert!(hits == 0 && !std::path::Path::new("hit").exists());
}

#[test]
fn what_ssh_says_is_told() {
    let _watchdog = watchdog(60);
    let network = Network::new();
    let outcome = network.call("ssh:unknown unix:/x", 3);
    let outcome = outcome.mentions("exit status: 255").mentions("| ssh: Could not resolve hostname unknown");
    outcome.mentions("connect to ssh:unknown unix:/x: ");
    // The same of the tool there.
    network.call("ssh:build unix:/nowhere/at/all", 3).mentions("nobody listens").mentions("exit status: 3");
}

#[test]
fn no_host_is_an_option() {
    let _watchdog = watchdog(60);
    let network = Network::new();
    for host in ["-oProxyCommand=touch", "ada@-oProxyCommand=touch", "$(touch)", "a;b", "`a`"] {
        network.call(&format!("ssh:{host} unix:/x"), 2);
    }
    assert!(!network.stage.path("bin/ssh.words").exists(), "it was started");
}
