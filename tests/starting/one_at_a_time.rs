//! However many want a server, one starts it.

use std::sync::Barrier;
use std::time::Duration;

use sidewire::{Client, Presence, Reconnect};

use crate::program::{Place, everywhere, kill, pid_of};
use crate::util::{fresh, until, watchdog};

/// As long as a test may need its server with nobody connected.
const WHILE: Duration = Duration::from_secs(30);

#[test]
fn a_server_is_started_on_every_stream_and_found_again() {
    let _watchdog = watchdog(120);
    for place in everywhere() {
        let endpoint = &place.endpoint;
        let presence = || place.connect_only().presence().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(presence(), Presence::Absent);
        let error = place.connect_only().open().expect_err("nobody is there");
        assert!(error.is_not_listening(), "{error}");
        let connect = || place.connect(Duration::ZERO).open().unwrap_or_else(|error| panic!("{error}"));
        let first = connect();
        let pid = pid_of(&first).expect("an answer");
        let second = connect();
        assert_eq!((pid_of(&second).expect("an answer"), place.servers()), (pid, 1), "{endpoint}");
        let Presence::Serving { pid: told } = presence() else { panic!("{endpoint}: it serves") };
        assert!(told.is_none_or(|told| told == pid), "{endpoint}: {told:?} {pid}");
        drop((first, second));
        until("the server leaves", || presence() == Presence::Absent);
    }
}

#[test]
fn of_many_starters_at_one_moment_one_starts_the_server() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let start = Barrier::new(8);
    let pids: Vec<_> = std::thread::scope(|scope| {
        let starters = [(); 8].map(|()| {
            scope.spawn(|| {
                start.wait();
                let client = place.connect(WHILE).open().unwrap_or_else(|error| panic!("{error}"));
                pid_of(&client).expect("an answer")
            })
        });
        starters.into_iter().map(|starter| starter.join().expect("a starter")).collect()
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_eq!(place.servers(), 1);
    end(&place, pids[0]);
}

/// Tasks wait for whoever starts it as threads do.
#[cfg(feature = "tokio")]
#[test]
fn of_many_tasks_one_starts_the_server() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let pids = runtime.block_on(async {
        let starters = [(); 4].map(|()| {
            let connect = place.connect(WHILE);
            tokio::spawn(async move {
                let client = connect.open_async().await.unwrap_or_else(|error| panic!("{error}"));
                let answer = client.call(crate::program::PID, b"").await.expect("an answer");
                String::from_utf8_lossy(answer.payload()).parse::<u32>().expect("a number")
            })
        });
        let mut pids = Vec::new();
        for starter in starters {
            pids.push(starter.await.expect("a starter"));
        }
        pids
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_eq!(place.servers(), 1);
    end(&place, pids[0]);
}

#[test]
fn a_server_outlives_who_has_started_it() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let status = place.program("start serve 30000").status().expect("start a process");
    assert!(status.success(), "{status}");
    let client = place.connect_only().open().unwrap_or_else(|error| panic!("{error}"));
    let pid = pid_of(&client).expect("an answer");
    assert_eq!(place.servers(), 1);
    drop(client);
    end(&place, pid);
}

/// His lock goes with him, and his program is in nobody's way.
#[test]
fn a_starter_that_is_killed_is_in_nobodys_way() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let mut starter = place.program("start sleeps").spawn().expect("start a process");
    let presence = || place.connect_only().presence().unwrap_or_else(|error| panic!("{error}"));
    let mut started = None;
    until("it has started a program", || {
        started = match presence() {
            Presence::Starting { pid } => pid,
            _ => None,
        };
        started.is_some()
    });
    starter.kill().expect("kill the starter");
    starter.wait().expect("wait for the starter");
    let client = place.connect(WHILE).open().unwrap_or_else(|error| panic!("{error}"));
    let pid = pid_of(&client).expect("an answer");
    kill(started.expect("a process"));
    drop(client);
    end(&place, pid);
}

/// And so is one that comes too late: its endpoint is taken.
#[test]
fn a_program_that_comes_too_late_is_in_vain() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let first = place.connect(WHILE).open().unwrap_or_else(|error| panic!("{error}"));
    let status = place.program("serve 0").status().expect("start a process");
    assert_eq!(status.code(), Some(3), "{status}");
    let pid = pid_of(&first).expect("an answer");
    drop(first);
    end(&place, pid);
}

#[test]
fn a_client_that_connects_anew_starts_the_server_anew() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let client = place.connect(Duration::ZERO).reconnect(Reconnect::new()).open();
    let client = client.unwrap_or_else(|error| panic!("{error}"));
    let first = pid_of(&client).expect("an answer");
    kill(first);
    let again = client.request(crate::program::PID).idempotent().send("").expect("an answer");
    let second: u32 = String::from_utf8_lossy(again.payload()).parse().expect("a number");
    assert!(first != second && place.servers() == 2);
    client.close();
    let error = pid_of(&client).expect_err("it is closed");
    assert!(error.is_closed(), "{error}");
}

/// In the words of the short form.
#[test]
fn the_short_form_does_the_same() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let connected = Client::connect_or_start(&place.endpoint, place.program("serve 0"));
    pid_of(&connected.unwrap_or_else(|error| panic!("{error}"))).expect("an answer");
}

/// Ends a server that nobody needs any more.
fn end(place: &Place, pid: u32) {
    kill(pid);
    let is_gone = || place.connect_only().open().is_err();
    until("the server has gone", is_gone);
}
