//! The page from which a client can be written: short, true, and its clients work.

use crate::{DOCUMENT, PAGE};

/// Who has an hour reads no more.
#[test]
fn the_page_is_short() {
    assert!(PAGE.len() <= 12_000, "{} bytes", PAGE.len());
}

/// Windows' C client is the page's with the functions of the reference. `ci/windows` builds it, and a test
/// under `tests/windows` runs it.
#[test]
fn the_c_client_for_windows_is_the_page_s() {
    let tested = include_str!("../windows/page_client.c");
    let begins = |line: &&str| line.starts_with("#include <std") || *line == "#include <string.h>";
    let (includes, _): (Vec<_>, Vec<_>) = tested.lines().partition(begins);
    assert_eq!(includes.len(), 4);
    let page = block(PAGE, "c");
    assert!(includes.iter().all(|include| page.contains(include)));
    let (_, client) = page.split_once("\n/* As on the wire").expect("what follows the functions");
    let functions = block(DOCUMENT, "c page");
    assert_eq!(tested, format!("{}\n{functions}\n/* As on the wire{client}", includes.join("\n")));
}

/// The only fenced block of this sort.
fn block<'t>(text: &'t str, language: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("a program");
    rest.split("```").next().unwrap_or_default()
}

/// The table and the codes of the page are the reference's, which are the code's.
#[test]
fn its_result_codes_are_the_reference_s() {
    let (_, codes) = PAGE.split_once("\n## Result codes\n").expect("the codes");
    let codes = codes.split("\n## ").next().unwrap_or_default();
    for code in -12..=-1 {
        let name = sidewire::ResultCode::new(code).to_string();
        let name = name.split(" (").next().unwrap_or_default().trim_start_matches("required ");
        assert!(codes.contains(&format!("{code} {name}")), "{code} is {name}");
    }
}

#[cfg(unix)] // There is no Python under Wine, and `cc` makes no programs for it.
mod clients {
    use std::process::Command;

    use super::block;
    use crate::PAGE;
    use crate::tool;
    use crate::util::{fresh, watchdog};

    /// Calls, an event, a reply in parts, a cancel, and a call back.
    #[test]
    fn the_python_client_does_everything() {
        let _watchdog = watchdog(240);
        if Command::new("python3").arg("--version").output().is_err() {
            return eprintln!("there is no Python here: not tried");
        }
        converse(
            || {
                let mut python = Command::new("python3");
                python.args(["-I", "-c", block(PAGE, "python")]);
                python
            },
            &[
                "get 0 b'hello, this is server!'",
                "subscribe 0 b''",
                "set 0 b''",
                "event 1 1 0 b'tea'",
                "count b'1' b'2' b'3' (0, b'')",
                "sleep -8 ",
                "call me back 0 b'PING'",
            ],
        );
    }

    #[test]
    fn the_c_client_does_everything() {
        let _watchdog = watchdog(240);
        let folder = tempfile::tempdir().expect("a folder");
        let (source, program) = (folder.path().join("client.c"), folder.path().join("client"));
        std::fs::write(&source, block(PAGE, "c")).expect("write");
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Wextra", "-Werror"]).arg(&source).arg("-o").arg(&program);
        let Ok(compiled) = compiler.output() else {
            return eprintln!("there is no C compiler here: not tried");
        };
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        converse(
            || Command::new(&program),
            &[
                "get: 0 hello, this is server!",
                "subscribe: 0 ",
                "set: 0 ",
                "event 1, number 1: tea",
                "count: 0 1",
                "count: 0 2",
                "count: 0 3",
                "count: 0 ",
                "sleep: -8 ",
                "call me back: 0 ping",
            ],
        );
    }

    /// With a server of its own over each kind of stream that these clients know. The text of an error
    /// is no part of the contract.
    fn converse(client: impl Fn() -> Command, expected: &[&str]) {
        for scheme in ["unix", "tcp"] {
            let Some(server) = tool::serve(&fresh(scheme), [""; 0]) else {
                return eprintln!("the tool was not built: not tried");
            };
            let output = client().arg(server.endpoints[0].to_string()).output().expect("run");
            assert!(output.status.success(), "{scheme}: {output:?}");
            let printed = String::from_utf8(output.stdout).expect("text");
            let same = |(line, expected): (&str, &&str)| match line.starts_with("sleep") {
                true => line.starts_with(expected),
                false => line == *expected,
            };
            assert_eq!(printed.lines().count(), expected.len(), "{scheme}: {printed}");
            assert!(printed.lines().zip(expected).all(same), "{scheme}: {printed}");
        }
    }
}
