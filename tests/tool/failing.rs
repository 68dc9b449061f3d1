//! System calls of a server that fail: a few of those that ci/faults tries.

use crate::stage::{SIDEWIRE, Stage, Started, source};
use crate::util::watchdog;

#[test]
fn a_call_that_fails_costs_at_most_the_connection_that_it_was_for() {
    if std::env::var_os("SIDEWIRE_NO_STRACE").is_some() {
        println!("SIDEWIRE_NO_STRACE is set: no call is made to fail");
        return;
    }
    let _watchdog = watchdog(100);
    let stage = Stage::new();
    let args =
        [source("faults.py").into_os_string(), SIDEWIRE.into(), stage.folder().into(), "--quick".into()];
    let outcome = Started::new(&mut stage.command("python3", args), b"").finish().expect(0);
    assert!(outcome.text().ends_with(" cases, 0 wrong\n"), "{outcome}");
}
