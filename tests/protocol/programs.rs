//! The document's programs really speak to a server.

use crate::DOCUMENT;

/// `ci/windows` builds it, and a test under `tests/windows` runs it.
#[test]
fn the_program_for_windows_is_the_one_that_is_tested() {
    let (_, rest) = DOCUMENT.split_once("```c windows\n").expect("a program");
    assert_eq!(rest.split("```").next(), Some(include_str!("../windows/pipe_sample.c")));
}

#[cfg(unix)]
mod on_unix {
    use std::process::Command;

    use crate::{DOCUMENT, util};

    #[test]
    fn the_c_program_works() {
        let _watchdog = util::watchdog(60);
        let folder = tempfile::tempdir().expect("a folder");
        let (source, program) = (folder.path().join("client.c"), folder.path().join("client"));
        std::fs::write(&source, block("c")).expect("write");
        let Ok(compiler) = Command::new("cc").arg(&source).arg("-o").arg(&program).output() else {
            return eprintln!("there is no C compiler here: not tried");
        };
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
        ask(Command::new(program));
    }

    /// The only fenced block in this language.
    fn block(language: &str) -> &'static str {
        let (_, rest) = DOCUMENT.split_once(&format!("```{language}\n")).expect("a program");
        rest.split("```").next().unwrap_or_default()
    }

    fn ask(mut client: Command) {
        let (_running, bound) = util::start(util::store(), [util::usual(&util::fresh("unix"))]);
        let path = bound[0].to_string();
        let output = client.arg(path.trim_start_matches("unix:")).output().expect("run");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "rc 0: hello, this is server!\n");
    }
}
