//! Type 6 of the store: a request that takes as long as it says, and holds up nobody.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Failure, Responder, ResultCode, Server};

use crate::text::decimal;

pub(crate) const SLEEP: u16 = 6;

/// One that sleeps, by when it wakes and its number.
type Sleepers = BTreeMap<(Instant, u64), Sleeper>;

struct Sleeper {
    milliseconds: String,
    responder: Responder,
}

/// What the thread is told that wakes them all.
enum Word {
    Wakes((Instant, u64), Sleeper),
    /// Nobody waits for this one any more.
    Forget((Instant, u64)),
}

/// Lets the store sleep for who asks: any number at a time, on one thread, which the first of them starts.
pub(crate) fn serve<S>(server: &mut Server<S>) {
    let mut waker: Option<Sender<Word>> = None;
    let mut last = 0;
    server.on(SLEEP, move |_state, request, reply| {
        let (milliseconds, until) = parse(request.payload())?;
        let waker = match &waker {
            Some(waker) => waker,
            None => waker.insert(start()?),
        };
        let responder = reply.defer()?;
        last += 1;
        let (key, forgets) = ((until, last), waker.clone());
        responder.cancellation().on_cancel(move |_why| {
            // If the thread has gone, so has what it is to forget.
            let _ = forgets.send(Word::Forget(key));
        });
        waker
            .send(Word::Wakes(key, Sleeper { milliseconds, responder }))
            .map_err(|_| Failure::other("the thread that wakes has gone"))
    });
}

/// How long, as it will be answered, and until when.
fn parse(payload: &[u8]) -> Result<(String, Instant), Failure> {
    let malformed = || Failure::new(ResultCode::MALFORMED, "the payload is no number of milliseconds");
    let milliseconds: u64 = decimal(payload).ok_or_else(malformed)?;
    let until = Instant::now().checked_add(Duration::from_millis(milliseconds)).ok_or_else(malformed)?;
    Ok((milliseconds.to_string(), until))
}

fn start() -> io::Result<Sender<Word>> {
    let (sender, words) = mpsc::channel();
    thread::Builder::new().name("sleepers".into()).spawn(move || wake_all(&words))?;
    Ok(sender)
}

/// Answers each when its time has come, until the server has gone.
fn wake_all(words: &Receiver<Word>) {
    let mut sleepers = Sleepers::new();
    loop {
        let word = match sleepers.first_key_value() {
            Some((&(until, _), _)) => words.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => words.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match word {
            Ok(Word::Wakes(key, sleeper)) => drop(sleepers.insert(key, sleeper)),
            // Its answer would be nobody's.
            Ok(Word::Forget(key)) => drop(sleepers.remove(&key)),
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                while let Some(entry) = sleepers.first_entry().filter(|entry| entry.key().0 <= now) {
                    let Sleeper { milliseconds, responder } = entry.remove();
                    responder.reply(milliseconds);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
