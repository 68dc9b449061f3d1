//! The example `app`.

use std::process::Command;

use crate::util::watchdog;

const SOURCE: &str = include_str!("../../examples/app.rs");
const GUIDE: &str = include_str!("../../docs/guide-helper.md");

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 100);
}

/// What the guide shows of it are its own lines: whole functions, and what both sides agree on.
#[test]
fn the_guide_shows_it_as_it_is() {
    let (_, section) = GUIDE.split_once("## All of it, with types").expect("the guide's section");
    let (source, guide) = (SOURCE.replace("\r\n", "\n"), section.replace("\r\n", "\n"));
    let shown: Vec<&str> = guide.split("```").skip(1).step_by(2).collect();
    assert_eq!(shown.len(), 3);
    for block in shown {
        let code = block.strip_prefix("rust,ignore\n").expect("code that only looks on");
        assert!(source.contains(code), "examples/app.rs has it no more:\n{code}");
    }
}

#[test]
fn it_works_and_goes_on_after_a_crash() {
    let _watchdog = watchdog(60);
    let own = std::env::current_exe().expect("the test binary");
    let folder = own.ancestors().nth(2).expect("the profile's folder").join("examples");
    let program = folder.join(format!("app{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: run 'cargo build --examples' first", program.display());
    let output = Command::new(program).output().expect("run it");
    let (printed, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let expected = "\
        picture 1\n\
        picture 2\n\
        all 2\n\
        news: Developed(2)\n\
        news: Cancelled\n\
        all 3, in spite of a crash\n\
        state: ready\n\
        state: restarting\n\
        state: starting\n\
        state: ready\n\
        state: stopped\n";
    assert_eq!((&*printed, &*complaints), (expected, ""));
    assert!(output.status.success());
}
