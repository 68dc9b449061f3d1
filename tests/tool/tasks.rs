//! The example `async`.

use crate::getset::example;
use crate::stage::{Stage, Started};
use crate::util::watchdog;

#[test]
fn tasks_wait_at_the_same_time() {
    let _watchdog = watchdog(60);
    assert!(include_str!("../../examples/async.rs").lines().count() < 100);
    let stage = Stage::new();
    let waited: String = (1..=10).map(|number| format!("waited {number}0 ms\n")).collect();
    let said = format!("{waited}10 events\ntoo long: true\nwaited 1 ms\n");
    Started::new(&mut stage.command(example("async"), [""; 0]), b"").finish().expect(0).prints(&said);
}
