//! What the tool says about itself.

use crate::stage::Stage;
use crate::util::watchdog;

#[test]
fn help_teaches() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (command, words) in [
        (
            "serve",
            &[
                "Exit status: 0",
                "listening ENDPOINT",
                "local:sidewire",
                "--classic-max",
                "--classic-fixed",
                "--access",
                "--allow-user",
                "--allow-group",
                "--allow-program",
                "--exit-when-idle",
                "--spin",
                "--take-over",
                "--no-recorder",
                "--token-file",
                "SIGTERM",
                "set-and-get",
            ][..],
        ),
        (
            "call",
            &[
                "Exit status: 0",
                "3 nobody listens",
                "4 timed out",
                "5 protocol error",
                "6 the server went away during the call, which may have been executed",
                "7 the call went well",
                "--timeout",
                "--classic",
                "--classic-fixed",
                "--notify",
                "--hex",
                "--token-file",
                "--program",
                "TYPE",
                "standard input",
            ],
        ),
        ("ping", &["Exit status: 0", "1 none was", "--count", "--interval", "--timeout"]),
        (
            "watch",
            &[
                "Exit status: 0",
                "TYPE SEQUENCE DROPPED PAYLOAD",
                "--json",
                "--count",
                "Ctrl-C",
                "6 the server went away",
            ],
        ),
        ("stats", &["Exit status: 0", "--json", "--type", "type 5"]),
        ("describe", &["Exit status: 0", "--json", "question mark", "1 the server does not describe itself"]),
        ("relay", &["Exit status: 0", "ssh:", "--access", "6 the connection broke"]),
        (
            "recorder",
            &[
                "Exit status: 0",
                "1 nothing was found",
                "--pid",
                "--all",
                "--json",
                "QUEUED",
                "TOOK",
                "payloads",
            ],
        ),
        (
            "stop",
            &[
                "Exit status: 0",
                "1 one is not",
                "--all",
                "--wait",
                "--json",
                "SIGTERM",
                "nobody listens",
                "systemctl",
            ],
        ),
        ("demo", &["Exit status: 0", "helper"]),
        (
            "soak",
            &[
                "Exit status: 0",
                "1 something did not",
                "--minutes",
                "--clients",
                "--rate",
                "--probes",
                "memory flat",
                "all let go",
                "Ctrl-C",
            ],
        ),
    ] {
        let outcome = stage.run([command, "--help"]).expect(0);
        assert_eq!(outcome.stderr, "");
        for word in words {
            assert!(outcome.text().contains(word), "{command} --help does not mention '{word}': {outcome}");
        }
        assert!(outcome.text().lines().all(|line| line.chars().count() <= 110), "{outcome}");
        let same = stage.run(["help", command]).expect(0);
        assert_eq!(same.text(), outcome.text());
    }
}

#[test]
fn help_names_the_commands_and_no_others() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let text = stage.run(["--help"]).expect(0).text();
    for command in
        ["serve", "call", "ping", "stats", "describe", "relay", "recorder", "stop", "watch", "demo", "soak"]
    {
        assert!(text.lines().any(|line| line.trim_start().starts_with(command)), "{text}");
    }
    assert!(!text.contains("demo-helper") && !text.contains("soak-server"), "{text}");
    for status in 0..=7 {
        let begins =
            |line: &str| line.trim_start_matches("Exit status:").trim().starts_with(&format!("{status} "));
        assert!(text.lines().any(begins), "no exit status {status}: {text}");
    }
}

#[test]
fn version() {
    let _watchdog = watchdog(60);
    let expected = format!("sidewire {}\n", env!("CARGO_PKG_VERSION"));
    for option in ["--version", "-V"] {
        Stage::new().run([option]).expect(0).prints(&expected);
    }
}
