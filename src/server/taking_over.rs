//! How a server takes an endpoint over from the one that has it: see [`Listen::take_over`](super::Listen::take_over).
//!
//! It connects as a client does, and asks for the endpoint with its hello. The hello that answers brings what a
//! listener is made of. It says that it has it, with a notify, and the other's goodbye says that it has let go. One of
//! those who want to take over does so at a time: who has the endpoint's [`StartLock`], which also keeps others from
//! starting a server meanwhile.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire_platform::{BindOptions, Busy, Channel, Endpoint, Listener, Owned, StartLock};

use crate::access::OwnIdentity;
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::random::random_id;
use sidewire_wire::{App, Classic, Connection, ConnectionLimits, Event, ResultCode, Settings, Task};

const TAKE_OVER: &str = "take over";
/// The pauses between two attempts, the first and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];
/// Room for what comes at a time: a hello, and not much behind it.
const ROOM: usize = 2048;
/// How long a server that was told that we have its endpoint gets to say whether it has let go, when the time is up.
const LAST_WORD: Duration = Duration::from_secs(1);

/// One effort to get an endpoint that another server has.
pub(super) struct TakingOver<'a> {
    endpoint: &'a Endpoint,
    options: &'a BindOptions,
    settings: Arc<Settings>,
    us: OwnIdentity,
    until: Instant,
    pause: Duration,
    lock: Lock,
    /// Why it has not come about yet.
    trouble: Option<Error>,
}

/// The right to do it.
enum Lock {
    /// It is not needed as long as nobody is there.
    NotAsked,
    Held(StartLock),
    /// Nobody can have it here.
    None,
}

/// How an attempt went.
enum Attempt {
    Taken(Box<Listener>),
    /// Nobody serves.
    Free,
    /// Another may go better.
    Again(Option<Error>),
}

/// How far a conversation is.
enum Stage {
    /// The hello is to come, all of it; this has come with its beginning.
    Asked(Option<Owned>),
    /// It was said that we have it.
    Has(Listener),
    Taken(Listener),
}

impl<'a> TakingOver<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        options: &'a BindOptions,
        app: Option<App>,
        us: OwnIdentity,
        within: Duration,
    ) -> TakingOver<'a> {
        let mut settings = Settings::new(ConnectionLimits::default(), Classic::Refused);
        (settings.app, settings.asks) = (app, Some(Task::Handover));
        let now = Instant::now();
        let until = now.checked_add(within).unwrap_or(now + Duration::from_secs(365 * 86_400));
        let ([pause, _], settings) = (PAUSES, Arc::new(settings));
        let (lock, trouble) = (Lock::NotAsked, None);
        TakingOver { endpoint, options, settings, us, until, pause, lock, trouble }
    }

    /// A listener there: the one of the server before, or a fresh one if there is none. The lock keeps others from
    /// starting one, and is to be given back when this one is served.
    pub(super) fn listener(mut self) -> Result<(Listener, Option<StartLock>)> {
        let listener = self.strive()?;
        match self.lock {
            Lock::Held(lock) => Ok((listener, Some(lock))),
            Lock::NotAsked | Lock::None => Ok((listener, None)),
        }
    }

    fn strive(&mut self) -> Result<Listener> {
        loop {
            let trouble = match self.attempt()? {
                Attempt::Taken(listener) => return Ok(*listener),
                Attempt::Free => match Listener::bind(self.endpoint, self.options) {
                    // Somebody has come meanwhile, or the last of one that has gone is still there.
                    Err(error) if is_taken(&error) => Some(Error::bind(self.endpoint, error)),
                    bound => return bound.map_err(|error| Error::bind(self.endpoint, error)),
                },
                Attempt::Again(trouble) => trouble,
            };
            self.trouble = trouble.or(self.trouble.take());
            if self.left().is_zero() {
                return Err(self.time_is_up());
            }
            thread::sleep(self.pause.min(self.left()));
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }

    fn attempt(&mut self) -> Result<Attempt> {
        let channel = match Channel::connect(self.endpoint, Some(self.left())) {
            Ok(channel) => channel,
            Err(error) => {
                let error = self.failed(error);
                return match () {
                    () if error.is_not_listening() => Ok(Attempt::Free),
                    () if error.is_peer_gone() || error.is_timeout() => Ok(Attempt::Again(Some(error))),
                    () => Err(error),
                };
            }
        };
        self.check(&channel)?;
        match &self.lock {
            // Somebody may have done it just before, or be at it.
            Lock::NotAsked => self.ask_for_the_lock().map(|()| Attempt::Again(None)),
            Lock::Held(_) | Lock::None => self.converse(&channel),
        }
    }

    fn ask_for_the_lock(&mut self) -> Result<()> {
        match StartLock::try_acquire(self.endpoint) {
            Ok(Ok(lock)) => {
                lock.tell(Busy::Starting(std::process::id()));
                self.lock = Lock::Held(lock);
                self.pause = PAUSES[0];
            }
            Ok(Err(_)) => {
                let error = Error::new(TAKE_OVER, self.endpoint, Kind::TimedOut);
                self.trouble = Some(error.with_more("another program is about to, or starts a server"));
            }
            Err(error) => {
                log::debug!("{}: taken over without a lock: {error}", self.endpoint);
                self.lock = Lock::None;
            }
        }
        Ok(())
    }

    /// Whether it is a server that we say anything to.
    fn check(&self, channel: &Channel) -> Result<()> {
        self.us.admits_server(channel.peer(), false).map_err(|denied| {
            let why = format!("we take over from no such server: {denied}");
            Error::new(TAKE_OVER, self.endpoint, Kind::Refused { by: RefusedBy::OurAccess, why })
                .with_note(|_| format!("that is {}, this is {}", channel.peer().as_server(), self.us))
        })
    }

    /// Asks the server for its endpoint.
    fn converse(&mut self, channel: &Channel) -> Result<Attempt> {
        channel.expect_passed();
        let mut connection = Connection::initiator(Arc::clone(&self.settings), random_id(), Instant::now());
        let (mut stage, mut buffer, mut until) = (Stage::Asked(None), [0; ROOM], self.until);
        loop {
            let exchanged = exchange(channel, &mut connection, &mut buffer, until);
            let (count, passed) = match exchanged {
                Ok(exchanged) => exchanged,
                // It may be letting go just now. If it has not, it does not when it finds our end.
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut
                        && matches!(stage, Stage::Has(_))
                        && until == self.until
                        && channel.shutdown_write().is_ok() =>
                {
                    until = Instant::now() + LAST_WORD;
                    continue;
                }
                Err(error) => {
                    let error = self.failed(error);
                    return if may_pass(&error) { Ok(Attempt::Again(Some(error))) } else { Err(error) };
                }
            };
            if let (Stage::Asked(before), Some(passed)) = (&mut stage, passed) {
                *before = Some(passed);
            }
            stage = match self.take(channel, &mut connection, &buffer[..count], stage)? {
                Ok(Stage::Taken(mut listener)) => {
                    if let Err(error) = listener.own(self.options) {
                        log::warn!("{}: taken over, but not as it was asked for: {error}", self.endpoint);
                    }
                    log::info!("{}: taken over from {}", self.endpoint, channel.peer().as_server());
                    return Ok(Attempt::Taken(Box::new(listener)));
                }
                Ok(stage) => stage,
                Err(error) => return Ok(Attempt::Again(Some(error))),
            };
        }
    }

    /// What has come, and how far we are with it. The inner error: it may go better another time.
    fn take(
        &self,
        channel: &Channel,
        connection: &mut Connection,
        bytes: &[u8],
        stage: Stage,
    ) -> Result<Result<Stage>> {
        let (mut is_open, mut farewell) = (false, None);
        connection.receive(bytes, &Cell::new(usize::MAX), &mut |_, event| match event {
            Event::Opened(_) => is_open = true,
            Event::Goodbye { rc, .. } => farewell = Some(rc),
            _ => {}
        });
        connection.received(Instant::now());
        let gone = |why: &str| {
            let executed = sidewire_wire::Executed::Never;
            Error::new(TAKE_OVER, self.endpoint, Kind::PeerGone { executed, why: why.into() })
        };
        if let Some(failure) = connection.flow().failure() {
            let error = Error::protocol(TAKE_OVER, self.endpoint, failure);
            let error = error.with_note(|_| format!("that is {}", channel.peer().as_server()));
            return if may_pass(&error) { Ok(Err(error)) } else { Err(error) };
        }
        let stage = match stage {
            // A goodbye behind the hello tells more than what is missing then.
            Stage::Asked(passed) if is_open && farewell.is_none() => {
                let listener = Listener::take_over(self.endpoint, self.options, channel, passed);
                let listener = listener.map_err(|error| self.failed(error))?;
                let told = connection.push_notify(0, &[]);
                told.map_err(|_| self.failed(io::ErrorKind::OutOfMemory.into()))?;
                Stage::Has(listener)
            }
            stage => stage,
        };
        match (stage, farewell) {
            (Stage::Has(listener), Some(ResultCode::OK)) => Ok(Ok(Stage::Taken(listener))),
            (_, Some(ResultCode::SHUTTING_DOWN | ResultCode::BUSY)) => Ok(Err(gone("it said goodbye"))),
            (_, Some(rc)) => Err(gone(&format!("it could not leave: {rc}"))),
            (_, None) if bytes.is_empty() => Ok(Err(gone("it closed the connection"))),
            (stage, None) => Ok(Ok(stage)),
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::os(TAKE_OVER, self.endpoint, error)
    }

    fn time_is_up(&mut self) -> Error {
        let error = Error::new(TAKE_OVER, self.endpoint, Kind::TimedOut);
        match self.trouble.take() {
            Some(trouble) => error.with_more(&trouble.to_string()),
            None => error,
        }
    }
}

/// Sends what is to be sent, and waits for what comes.
fn exchange(
    channel: &Channel,
    connection: &mut Connection,
    buffer: &mut [u8],
    until: Instant,
) -> io::Result<(usize, Option<Owned>)> {
    let left = || Some(until.saturating_duration_since(Instant::now()));
    while connection.has_unsent() {
        let count = channel.send(connection.unsent(), left())?;
        connection.mark_sent(count, Instant::now());
    }
    channel.recv_passed(buffer, left())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::ResourceBusy)
}

/// Whether it may go better when that server has gone, or has a place.
fn may_pass(error: &Error) -> bool {
    error.is_peer_gone()
        || error.is_timeout()
        || matches!(error.refused_by(), Some(RefusedBy::Server(ResultCode::BUSY | ResultCode::SHUTTING_DOWN)))
}

#[cfg(all(test, not(windows)))]
mod tests {
    use mio::Token;
    use sidewire_platform::{Poll, Stream};

    use super::*;
    use sidewire_wire::Tasks;

    const WITHIN: Duration = Duration::from_millis(300);

    /// What comes next. Empty: nothing more comes.
    fn read(stream: &mut Stream) -> Vec<u8> {
        let mut bytes = [0; ROOM];
        loop {
            match stream.read(&mut bytes) {
                Ok(count) => return bytes[..count].to_vec(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A server that gives way, but is so slow that the newer one's time is up when it says so.
    fn give_way_late(mut listener: Listener) {
        let poll = Poll::new().unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        let mut accept = || loop {
            match listener.accept(poll.registry(), Token(0)) {
                Ok(stream) => return stream,
                Err(_) => thread::yield_now(),
            }
        };
        // The first is a look whether anybody is there.
        drop(accept());
        let mut stream = accept();
        let mut settings = Settings::new(ConnectionLimits::default(), Classic::Refused);
        settings.grants = Tasks::default().and(Task::Handover);
        let mut connection = Connection::responder(Arc::new(settings), Instant::now());
        let mut has_asked = false;
        loop {
            let bytes = read(&mut stream);
            if bytes.is_empty() {
                break;
            }
            connection.receive(&bytes, &Cell::new(usize::MAX), &mut |connection, event| {
                if let Event::Asks { .. } = event {
                    connection.grant();
                }
            });
            if !std::mem::replace(&mut has_asked, true) {
                let count = listener.pass(&stream, connection.unsent()).unwrap();
                connection.mark_sent(count, Instant::now());
            }
        }
        listener.hand_on(poll.registry());
        connection.goodbye(ResultCode::OK);
        stream.write(connection.unsent()).unwrap();
    }

    /// Otherwise nobody would have it.
    #[test]
    fn what_was_let_go_in_the_last_moment_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(folder.path().join("s"));
        let options = BindOptions::default();
        let listener = Listener::bind(&endpoint, &options).unwrap();
        let older = thread::spawn(move || give_way_late(listener));
        let us = OwnIdentity::look_up().unwrap();
        let taken = TakingOver::new(&endpoint, &options, None, us, WITHIN).listener();
        older.join().unwrap();
        drop(taken.unwrap());
        assert!(!folder.path().join("s").exists(), "it was ours");
    }
}
