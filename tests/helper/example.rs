//! The example `helper`.

use std::process::Command;

use crate::util::watchdog;

const SOURCE: &str = include_str!("../../examples/helper.rs");

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 120);
}

#[test]
fn it_works_and_survives_a_crash() {
    let _watchdog = watchdog(60);
    let own = std::env::current_exe().expect("the test binary");
    let folder = own.ancestors().nth(2).expect("the profile's folder").join("examples");
    let program = folder.join(format!("helper{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: run 'cargo build --examples' first", program.display());
    let output = Command::new(program).env_remove("RUST_LOG").output().expect("run it");
    let (printed, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let expected = "\
        picture 1 of 3\n\
        picture 2 of 3\n\
        picture 3 of 3\n\
        event: 3 in all\n\
        picture 1 of 1000000: that is enough\n\
        crashed: the fixer is empty\n\
        picture 1 of 1\n\
        state: ready\n\
        state: restarting\n\
        state: starting\n\
        state: ready\n\
        state: stopped\n";
    assert_eq!((&*printed, &*complaints), (expected, ""));
    assert!(output.status.success());
}
