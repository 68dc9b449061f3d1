//! A server with 64 descriptors, and 500 clients that want one.

use std::fs::{self, File};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sidewire::ResultCode;

use crate::stage::{SIDEWIRE, Stage, eventually};
use crate::util::{PATIENCE, Process, Raw, frame, hello, watchdog};

const ECHO: u16 = 4;
const DESCRIPTORS: usize = 64;
const CLIENTS: usize = 500;
/// For how long the server's work is measured.
const MEASURED: Duration = Duration::from_secs(3);

/// One that has said hello, and what it was told.
struct Guest {
    raw: Raw,
    status: Option<ResultCode>,
}

impl Guest {
    fn look(&mut self) {
        if self.status.is_none() {
            let mut bytes = [0; 1024];
            let Ok(count) = self.raw.0.recv(&mut bytes, Some(Duration::ZERO)) else { return };
            let status = bytes[..count].get(48..52).map(|status| status.try_into().expect("four bytes"));
            self.status = status.map(|status| ResultCode::new(i32::from_le_bytes(status)));
        }
    }

    fn is_in(&self) -> bool {
        self.status == Some(ResultCode::OK)
    }

    fn expect_served(&self) {
        self.raw.send(&frame(1, ECHO, 1, 0, b"hello"));
        assert_eq!(self.raw.receive_frame().payload, b"hello");
    }
}

/// How many are in, and how many were told that there is no room.
fn count(guests: &mut [Guest]) -> (usize, usize) {
    guests.iter_mut().for_each(Guest::look);
    let count = |rc| guests.iter().filter(|guest| guest.status == Some(rc)).count();
    (count(ResultCode::OK), count(ResultCode::BUSY))
}

/// User and system time of a process, from /proc (proc(5)); its ticks are 10 ms on every Linux that matters.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let behind_the_name = &stat[stat.rfind(')').expect("a name") + 2..];
    let ticks = behind_the_name.split(' ').skip(11).take(2).map(|field| field.parse::<u32>().expect("ticks"));
    Duration::from_millis(10) * ticks.sum()
}

#[test]
fn without_descriptors_it_serves_on_does_not_spin_and_lets_in_others_later() {
    let _watchdog = watchdog(100);
    sidewire_platform::raise_descriptor_limit().expect("room for all of them here");
    let stage = Stage::new();
    let (endpoint, log) = (stage.unix("s"), stage.path("log"));
    let script = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" serve \"$1\"");
    let mut command = stage.command("sh", ["-c", &script, SIDEWIRE, &endpoint]);
    let server = Process::start(command.stderr(File::create(&log).expect("a file")), 1);
    let mut guests: Vec<Guest> = (0..CLIENTS)
        .map(|_| {
            let raw = Raw::connect(&server.endpoints[0]);
            raw.send(&hello(1, 1));
            Guest { raw, status: None }
        })
        .collect();
    eventually(PATIENCE, "as many as can be are in", || matches!(count(&mut guests), (30.., 1..)));

    let (begun, before) = (Instant::now(), cpu_time(server.child.id()));
    sleep(MEASURED);
    let (used, took) = (cpu_time(server.child.id()) - before, begun.elapsed());
    let (inside, busy) = count(&mut guests);
    println!("{used:?} of work in {took:?}; {inside} are in, {busy} were told that there is no room");
    assert!(used < took / 10, "{used:?} of work in {took:?} of waiting");
    assert!(inside < DESCRIPTORS && inside + busy < CLIENTS, "{inside} are in, {busy} were turned away");
    guests.iter().filter(|guest| guest.is_in()).for_each(Guest::expect_served);

    // As places come free others get in, until nobody waits.
    let mut came_in = inside;
    while guests.iter().any(|guest| guest.status.is_none()) {
        guests.retain(|guest| guest.status.is_none());
        eventually(PATIENCE, "others get in", || {
            count(&mut guests);
            guests.iter().any(Guest::is_in) || guests.iter().all(|guest| guest.status.is_some())
        });
        came_in += guests.iter().filter(|guest| guest.is_in()).count();
        guests.iter().filter(|guest| guest.is_in()).for_each(Guest::expect_served);
    }
    println!("{came_in} of {CLIENTS} came in, the first at once and the others when there was room");
    assert!(came_in > 2 * DESCRIPTORS, "{came_in}");
    drop(guests);
    stage.run(["call", &endpoint, "4", "room again"]).expect(0).prints("room again");
    let told = fs::read_to_string(&log).expect("the log");
    let lines = told.lines().filter(|line| line.contains("out of descriptors")).count();
    assert!((1..=20).contains(&lines) && told.lines().count() <= lines + 20, "{told}");
}
