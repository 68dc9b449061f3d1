//! Workers behind a server that never waits for them count primes, and not for who has given up.
//!
//!     workers serve [ENDPOINT]
//!     workers count LIMIT [ENDPOINT]     (how many prime numbers lie below LIMIT)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use sidewire::{Cancellation, Client, Failure, Remote, Responder, ResultCode, Server};
use support::{Printer, finish, print};

const COUNT: u16 = 1;
const DEFAULT: &str = "local:workers";
const USAGE: &str = "usage: workers serve [ENDPOINT]\n       workers count LIMIT [ENDPOINT]";

struct Job {
    limit: u64,
    responder: Responder,
}

/// What the server keeps. Workers change it through their `Remote`, so there is no lock around it.
#[derive(Default)]
struct State {
    done: u64,
    given_up: u64,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let default = OsStr::new(DEFAULT);
    let result = match args.iter().map(OsString::as_os_str).collect::<Vec<_>>()[..] {
        [command] if command == "serve" => serve(default),
        [command, endpoint] if command == "serve" => serve(endpoint),
        [command, limit] if command == "count" => count(limit, default),
        [command, limit, endpoint] if command == "count" => count(limit, endpoint),
        _ => return finish("workers", USAGE, None),
    };
    finish("workers", USAGE, Some(result))
}

fn serve(endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(State::default());
    let (jobs, queue) = mpsc::channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..thread::available_parallelism()?.get() {
        let (queue, remote) = (Arc::clone(&queue), server.remote()?);
        thread::Builder::new().name("worker".into()).spawn(move || work(&queue, &remote))?;
    }
    // The handler only passes the job on: the server goes on with the next request at once.
    server.on(COUNT, move |_state, request, reply| {
        let text = std::str::from_utf8(request.payload())?;
        let limit = text.parse().map_err(|error| Failure::new(ResultCode::MALFORMED, format!("{error}")))?;
        Ok(jobs.send(Job { limit, responder: reply.defer()? })?)
    });
    server.stop_on_signals()?;
    let printer = Printer::new()?;
    printer.print(format!("listening {}\n", server.listen(endpoint)?));
    server.run()?;
    let State { done, given_up } = server.state();
    printer.print(format!("{done} answered, {given_up} given up\n"));
    Ok(())
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, remote: &Remote<State>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { limit, responder }) = job else { return };
        let primes = primes_below(limit, &responder.cancellation());
        match primes {
            Some(primes) => responder.reply(primes.to_string()),
            None => responder.fail(ResultCode::CANCELLED), // nobody hears it
        }
        // The error: the server has stopped.
        let _ = remote.with(move |state| match primes {
            Some(_) => state.done += 1,
            None => state.given_up += 1,
        });
    }
}

/// `None`: nobody wants to know any more.
fn primes_below(limit: u64, cancellation: &Cancellation) -> Option<usize> {
    let is_prime = |n: u64| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    let is_wanted = |n: &u64| !n.is_multiple_of(4096) || !cancellation.is_cancelled();
    let primes = (2..limit).take_while(is_wanted).filter(|n| is_prime(*n)).count();
    (!cancellation.is_cancelled()).then_some(primes)
}

fn count(limit: &OsStr, endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(endpoint)?;
    let primes = client.call(COUNT, limit.as_encoded_bytes())?.into_payload();
    print(format!("{}\n", String::from_utf8_lossy(&primes)))
}
