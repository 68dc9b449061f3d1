//! A server that stops while it is asked a thousand times a second.

use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Client, Executed, Response, Result, ResultCode, Server};

use crate::util::{all_streams, client, start, until, usual, watchdog};

const COUNT: u16 = 1;
const CLIENTS: usize = 5;
/// Two threads of each client call so often, one of them four calls at a time.
const PAUSE: Duration = Duration::from_millis(25);
/// How many are answered before it stops.
const BEFORE_THE_STOP: u64 = 200;

fn counting() -> Server<u64> {
    let mut server = Server::new(0);
    server.on(COUNT, |count, _request, _reply| {
        *count += 1;
        Ok(())
    });
    server
}

/// What became of all calls.
#[derive(Debug, Default)]
struct Ends {
    answered: u64,
    refused: u64,
    not_executed: u64,
}

impl Ends {
    /// Says whether calling goes on.
    fn add(&mut self, result: Result<Response>) -> bool {
        match result {
            Ok(_) => self.answered += 1,
            Err(error) if error.result_code() == Some(ResultCode::SHUTTING_DOWN) => self.refused += 1,
            Err(error) => {
                assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
                self.not_executed += 1;
                return false;
            }
        }
        true
    }

    fn sum(all: impl IntoIterator<Item = Ends>) -> Ends {
        all.into_iter().fold(Ends::default(), |sum, ends| Ends {
            answered: sum.answered + ends.answered,
            refused: sum.refused + ends.refused,
            not_executed: sum.not_executed + ends.not_executed,
        })
    }
}

/// Calls, so many at once, until the server has gone.
fn call_on(client: &Client, at_once: usize) -> Ends {
    let mut ends = Ends::default();
    let mut goes_on = true;
    while goes_on {
        let started: Vec<_> = (0..at_once).map(|_| client.start(COUNT, b"")).collect();
        for call in started {
            goes_on &= ends.add(call.and_then(|call| call.wait()));
        }
        thread::sleep(PAUSE);
    }
    ends
}

#[test]
fn every_call_is_answered_or_refused_or_certainly_not_executed() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let server = counting();
        let counters = server.counters();
        let (running, bound) = start(server, [usual(&endpoint)]);
        let clients: Vec<_> = (0..CLIENTS).map(|_| client(&bound[0])).collect();
        let begun = Instant::now();
        let (ends, executed, took) = thread::scope(|scope| {
            let call = |index: usize| call_on(&clients[index / 2], 1 + 3 * (index % 2));
            let threads: Vec<_> = (0..2 * CLIENTS).map(|index| scope.spawn(move || call(index))).collect();
            until("it is under load", || counters.requests() >= BEFORE_THE_STOP);
            let executed = running.stop().expect("the server ends well");
            let took = begun.elapsed();
            (Ends::sum(threads.into_iter().map(|thread| thread.join().expect("a thread"))), executed, took)
        });
        println!("{endpoint}: {ends:?} in {took:?}");
        assert_eq!(ends.answered, executed, "what was executed was answered");
        assert!(ends.answered >= BEFORE_THE_STOP && ends.not_executed >= CLIENTS as u64, "{ends:?}");
    }
}
