//! Many who want a server at the same time, again and again, that leaves whenever it may.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sidewire::Error;

use crate::program::{Place, everywhere, pid_of};
use crate::util::{fresh, times, until, watchdog};

/// So many processes, each of which has so many clients, which connect so often, and then wait for so many
/// milliseconds at most.
struct Crowd {
    processes: usize,
    clients: usize,
    rounds: usize,
    pause: u32,
}

/// What one of the processes does: each client connects, asks one thing and goes.
pub(crate) fn crowd(place: &Place, how: &str) -> Result<(), Error> {
    let numbers: Vec<u32> = how.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [clients, rounds, pause] = numbers[..] else { panic!("no crowd: {how}") };
    let client = || -> Result<(), Error> {
        let connect = place.connect(Duration::ZERO);
        for _ in 0..rounds {
            pid_of(&connect.clone().open()?)?;
            let pause = getrandom::u32().expect("randomness") % (1000 * pause + 1);
            std::thread::sleep(Duration::from_micros(pause.into()));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client that does not panic"))
    })
}

/// No call fails, and there are never two servers. Says how many there were.
fn come_and_go(place: &Place, Crowd { processes, clients, rounds, pause }: Crowd) -> usize {
    let begun = Instant::now();
    let start = |_| -> Child {
        let mut command = place.program(&format!("crowd {clients} {rounds} {pause}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("start a process")
    };
    let crowd: Vec<_> = (0..processes).map(start).collect();
    for mut process in crowd {
        let status = process.wait().expect("wait for a process");
        assert!(status.success(), "{status}; what failed it has said itself");
    }
    let servers = place.servers();
    let (all, took, endpoint) = (clients * processes, begun.elapsed(), &place.endpoint);
    println!("{endpoint}: {all} clients, {rounds} rounds each, {servers} servers, {took:?}");
    assert!(!place.had_two(), "two servers met, of {servers}");
    servers
}

#[test]
fn a_server_that_leaves_at_once_is_there_for_everybody() {
    let _watchdog = watchdog(900);
    let (processes, clients, rounds) = if cfg!(windows) { (2, 5, 20) } else { (5, 10, 200) };
    let place = Place::at(fresh("local"));
    come_and_go(&place, Crowd { processes, clients, rounds: rounds * times(), pause: 0 });
}

/// So few that it leaves all the time, on a machine that is not too slow, and at the latest behind each of several
/// goes; however the system treats those who come in between.
#[test]
fn a_server_that_leaves_all_the_time_is_there_for_each() {
    const GOES: usize = 3;
    let _watchdog = watchdog(900);
    let rounds = if cfg!(windows) { 5 } else { 30 };
    for place in everywhere() {
        for go in 1..=GOES {
            let crowd = Crowd { processes: 2, clients: 2, rounds: rounds * times(), pause: 10 };
            let servers = come_and_go(&place, crowd);
            assert!(servers >= go, "{}: {servers}", place.endpoint);
            let left = || place.traces().iter().filter(|(what, _)| what == "left").count();
            until("all have left", || left() == place.servers());
        }
    }
}
