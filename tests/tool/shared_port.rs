//! The example of several processes behind one TCP port.

use std::collections::BTreeSet;

use sidewire::{Access, Connect, Endpoint};

use crate::getset::example;
use crate::stage::{Stage, Started};
use crate::util::{Process, watchdog};

/// Connections: that all of them go to one of two processes by chance is out of the question.
const MANY: usize = 100;

/// Who answers: each connection asks twice, since it stays where it is.
fn who_answers(endpoint: &Endpoint) -> BTreeSet<u32> {
    let ask = |_| {
        let connect = Connect::to(endpoint.clone()).expect("an endpoint").access(Access::Anyone);
        let client = connect.timeout(crate::util::PATIENCE).open().expect("connect");
        let [first, second] = [(), ()].map(|()| client.call(1, "").expect("a reply").into_payload());
        assert_eq!(first, second);
        String::from_utf8(first).expect("text").parse().expect("a process id")
    };
    (0..MANY).map(ask).collect()
}

#[test]
fn two_processes_share_a_port_and_one_goes_on_alone() {
    let _watchdog = watchdog(240);
    let stage = Stage::new();
    let mut first = Process::start(&mut stage.command(example("shared_port"), ["127.0.0.1:0"]), 1);
    let endpoint = first.endpoints[0].clone();
    let address = endpoint.to_string().replace("tcp:", "");
    let second = Process::start(&mut stage.command(example("shared_port"), [&address]), 1);
    assert_eq!(second.endpoints[0], endpoint);
    let both = [&first, &second].map(|process| process.child.id());
    assert_eq!(who_answers(&endpoint), BTreeSet::from(both));
    // One dies, and takes its connections along; whoever connects anew meets the other.
    first.child.kill().expect("kill it");
    first.child.wait().expect("its end");
    assert_eq!(who_answers(&endpoint), BTreeSet::from([second.child.id()]));
}

/// Nobody gets in between who has not said so: then the port is taken.
#[test]
fn one_who_does_not_share_is_refused() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let sharing = Process::start(&mut stage.command(example("shared_port"), ["127.0.0.1:0"]), 1);
    let mut alone = stage.command(crate::stage::SIDEWIRE, ["serve", "--access", "anyone"]);
    alone.arg(sharing.endpoints[0].to_string());
    Started::new(&mut alone, b"").finish().expect(1);
    Started::new(&mut stage.command(example("shared_port"), [""; 0]), b"")
        .finish()
        .expect(2)
        .mentions("usage:");
}
