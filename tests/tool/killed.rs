//! Processes that are killed at any moment under load, as `kill -9` and the system's own killer do.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sidewire::{Client, Executed};

use crate::journal::{Asking, Executing, Failed, HOLD, NUMBERS, connections, load, spread};
use crate::stage::{Stage, Started, eventually};
use crate::util::{PATIENCE, times, watchdog};

/// What a death may take to be known.
const LIMIT: Duration = Duration::from_millis(100);
/// Rounds in the ordinary suite.
const ROUNDS: usize = 10;
/// Connections under load, half of which have a window.
const LOADS: u64 = 4;
/// A process is killed at some moment of so long.
const WHILE: Duration = Duration::from_millis(40);

/// Of a seed that is printed, for the moments to come once more.
fn seeded() -> Rng {
    let seed = getrandom::u32().expect("randomness").into();
    println!("seed {seed}");
    Rng::with_seed(seed)
}

fn some_moment(random: &mut Rng) -> Duration {
    Duration::from_micros(random.u64(..WHILE.as_micros() as u64))
}

/// A busy machine lets threads wait for as long, so half of the rounds have to be within the limit; all are shown.
fn judge(what: &str, mut took: Vec<Duration>) {
    let late = took.iter().filter(|took| **took > LIMIT).count();
    println!("{what}: {} rounds, {late} took longer than {LIMIT:?}; {}", took.len(), spread(&mut took));
    assert!(took[took.len() / 2] <= LIMIT, "{took:?}");
}

#[test]
fn a_server_that_is_killed_loses_nothing_that_it_has_acknowledged() {
    let rounds = ROUNDS * times();
    let _watchdog = watchdog(6 * rounds as u64);
    let mut random = seeded();
    judge("a server's death is known", (0..rounds).map(|_| kill_the_server(&mut random)).collect());
}

/// One round. How long it took from the server's death to the end of the last call.
fn kill_the_server(random: &mut Rng) -> Duration {
    let stage = Stage::new();
    let mut server = Executing::start(&stage);
    let held = hold(&stage, &server);
    let clients: Vec<Client> = (0..LOADS).map(|_| stage.client(server.endpoint())).collect();
    let (moment, acknowledged) = (some_moment(random), Mutex::new(Vec::new()));
    let (killed, failed) = thread::scope(|scope| {
        let note = |number| acknowledged.lock().expect("no panic").push(number);
        let loads: Vec<_> = (0..)
            .zip(&clients)
            .map(|(number, client)| scope.spawn(move || load(client, number, 0, |_| true, note)))
            .collect();
        let is_answered = || !acknowledged.lock().expect("no panic").is_empty();
        eventually(PATIENCE, "somebody was answered", is_answered);
        thread::sleep(moment);
        let killed = Instant::now();
        server.process.child.kill().expect("kill");
        let failed: Vec<Failed> =
            loads.into_iter().flat_map(|load| load.join().expect("a load that does not panic")).collect();
        (killed, failed)
    });
    let outcome = held.finish().prints("").mentions("the peer has gone");
    assert_eq!(outcome.code, Some(6), "{outcome}");
    server.process.wait(PATIENCE);
    let executed = server.executed();
    let acknowledged = acknowledged.into_inner().expect("no panic");
    expect_executed_once(&acknowledged, &executed);
    check_failures(&failed, killed, &executed);
    let known: HashSet<u64> =
        acknowledged.into_iter().chain(failed.iter().map(|failed| failed.number)).chain([HELD]).collect();
    assert!(executed.is_subset(&known), "something was executed that nobody has asked for");
    failed.iter().map(|failed| failed.at.saturating_duration_since(killed)).max().expect("a call that failed")
}

/// The number that is executed and not answered.
const HELD: u64 = NUMBERS * 1000;

/// The tool, whose call waits.
fn hold(stage: &Stage, server: &Executing) -> Started {
    let (endpoint, number) = (server.endpoint().to_string(), HELD.to_string());
    let args = ["call", &endpoint, &HOLD.to_string(), &number, "--timeout", "50"];
    let held = Started::new(&mut stage.sidewire(args), b"");
    eventually(PATIENCE, "its call is with the server", || server.executed().contains(&HELD));
    held
}

fn expect_executed_once(acknowledged: &[u64], executed: &HashSet<u64>) {
    let each: HashSet<u64> = acknowledged.iter().copied().collect();
    assert_eq!(each.len(), acknowledged.len(), "something was acknowledged twice");
    assert!(each.is_subset(executed), "something was acknowledged and not executed");
}

/// Each call that was under way fails behind the death, since the peer has gone, and not before; what it says of having
/// been executed is true.
fn check_failures(failed: &[Failed], killed: Instant, executed: &HashSet<u64>) {
    for Failed { number, error, at } in failed {
        assert!(error.is_peer_gone(), "{number}: {error}");
        assert!(*at >= killed, "{number} failed before the server was killed: {error}");
        let may_be = error.executed() == Executed::Perhaps;
        assert!(may_be || !executed.contains(number), "{number} was executed: {error}");
    }
    // Of each connection at least the one that was under way.
    assert!(failed.len() >= LOADS as usize, "only {} calls failed", failed.len());
}

#[test]
fn a_client_that_is_killed_disturbs_nobody() {
    let rounds = ROUNDS * times();
    let _watchdog = watchdog(6 * rounds as u64);
    let (stage, mut random) = (Stage::new(), seeded());
    let server = Executing::start(&stage);
    let control = stage.client(server.endpoint());
    let others: Vec<Client> = (0..LOADS).map(|_| stage.client(server.endpoint())).collect();
    let (goes_on, acknowledged) = (AtomicBool::new(true), Mutex::new(Vec::new()));
    let descriptors = || {
        let folder = format!("/proc/{}/fd", server.process.child.id());
        std::fs::read_dir(folder).expect("/proc").count()
    };
    connections(&control); // The server has let all of them in, and made what it makes only once.
    let before = descriptors();
    let took = thread::scope(|scope| {
        let note = |number| acknowledged.lock().expect("no panic").push(number);
        let goes_on = &goes_on;
        // They leave the others some of the time of the machine.
        let paced = move |number: u64| {
            if number.is_multiple_of(16) {
                thread::sleep(Duration::from_millis(1));
            }
            goes_on.load(Ordering::Relaxed)
        };
        let loads: Vec<_> = (0..)
            .zip(&others)
            .map(|(number, client)| scope.spawn(move || load(client, number, 0, paced, note)))
            .collect();
        let took = (1..=rounds as u64).map(|round| {
            let (took, told) = kill_a_client(&stage, &server, &control, round, some_moment(&mut random));
            told.into_iter().for_each(note);
            took
        });
        let took: Vec<_> = took.collect();
        goes_on.store(false, Ordering::Relaxed);
        for load in loads {
            let failed = load.join().expect("a load that does not panic");
            assert!(failed.is_empty(), "another client was disturbed: {}", failed[0].error);
        }
        took
    });
    expect_executed_once(&acknowledged.into_inner().expect("no panic"), &server.executed());
    eventually(PATIENCE, "all descriptors come back", || descriptors() == before);
    judge("a client's death is known", took);
}

/// How long it took until the server had let go of its connections, and what it was told before.
fn kill_a_client(
    stage: &Stage,
    server: &Executing,
    control: &Client,
    round: u64,
    moment: Duration,
) -> (Duration, Vec<u64>) {
    let before = connections(control);
    let mut client = Asking::start(stage, server.endpoint(), round * 100 * NUMBERS);
    assert_eq!(connections(control), before + 2);
    thread::sleep(moment);
    let killed = Instant::now();
    client.process.child.kill().expect("kill");
    while connections(control) > before {
        assert!(killed.elapsed() < PATIENCE, "the server keeps who has gone");
        thread::sleep(Duration::from_micros(200));
    }
    let took = killed.elapsed();
    client.process.wait(PATIENCE);
    (took, client.told())
}
