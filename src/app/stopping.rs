//! Servers that are to end, as before an installer replaces their program.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Channel, Endpoint, EndpointKind, ExpectedProcess, ForeignProcess};

use crate::access::OwnIdentity;
use crate::client::Connect;
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::random::random_id;
use sidewire_wire::{
    Classic, Connection, ConnectionLimits, Event, ProtocolError, ResultCode, Settings, Task,
};

/// What became of a server that was to end: from [`stop_server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// Nobody listens there.
    Absent,
    /// It was asked over its endpoint, which it [allows](crate::ServerBuilder::may_be_stopped), and its process has
    /// ended.
    Asked {
        /// Of which this was the id.
        pid: u32,
    },
    /// It does not allow that. Its process got SIGTERM, or on Windows the event that stands for it, and has ended.
    Signalled {
        /// Of which this was the id.
        pid: u32,
    },
}

const STOP: &str = "stop";
/// How long one that has not answered in time may take to show that it is no Sidewire server; and what any gets to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends the server at this endpoint, and returns when its process is gone, so that its program's file can be replaced.
///
/// A server that [may be stopped](crate::ServerBuilder::may_be_stopped) is asked over the endpoint, and ends in order:
/// accepted calls finish, its clients are told goodbye. One that does not allow it, or knows no such thing, gets
/// SIGTERM, or on Windows what stands for it: an event that is there for a program that has called
/// [`Server::stop_on_signals`](crate::Server::stop_on_signals). Nobody is ever killed: a server that does not end in `timeout` is an error, which names its process.
///
/// Only servers of our own user are ended, whoever asks (root's, for root). The process is the one that has answered,
/// by the system's word, not the one that has opened the socket, which may be a service manager; and it is held while
/// it is asked and waited for, so that no other one is taken for it. One that does not answer is left alone.
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::{Stopped, stop_server};
///
/// match stop_server("local:com.example.app", Duration::from_secs(10))? {
///     Stopped::Absent => println!("it did not run"),
///     _ => println!("it has ended"),
/// }
/// # Ok::<(), sidewire::Error>(())
/// ```
///
/// # Errors
/// [`is_invalid_input`](Error::is_invalid_input) for an endpoint where the system does not tell which process serves
/// (`tcp:`, datagrams). [`is_timeout`](Error::is_timeout): it was asked, or got its signal, and its process is still
/// there. [`is_hung`](Error::is_hung): it does not answer, as one that was stopped by SIGSTOP.
/// [`is_refused`](Error::is_refused): it belongs to another user, or can't be asked. [`is_protocol`](Error::is_protocol):
/// whoever is there is no Sidewire server, and was left alone.
///
/// # Platform-specific behavior
/// Linux: servers in other pid namespaces can't be seen. Windows: a server that neither allows it nor stops on signals
/// can't be asked, nor can one of another session that only does the latter. Elsewhere: [`is_unsupported`](Error::is_unsupported).
pub fn stop_server<E>(endpoint: E, timeout: Duration) -> Result<Stopped>
where
    E: TryInto<Endpoint>,
    Error: From<E::Error>,
{
    let endpoint = endpoint.try_into()?;
    if endpoint.kind() != EndpointKind::Stream || !endpoint.can_verify_server() {
        let text = "nobody tells which process serves there; end it by hand";
        return Err(Error::new(STOP, &endpoint, Kind::InvalidInput(text.into())));
    }
    let until = Until::after(timeout);
    // An installer may be elevated: nothing is told to the server that others may not hear.
    let connect = Connect::at(endpoint.clone()).lower_integrity().without_choice().timeout(timeout);
    let channel = match connect.connect() {
        Err(error) if error.is_not_listening() => return Ok(Stopped::Absent),
        connected => connected?,
    };
    let (answer, process) = match (Asking { endpoint: &endpoint, channel, until }).ask() {
        // It may just have been ending, or was killed.
        Err(error) if error.is_protocol() && is_absent(&connect.within(until.left().max(LAST_WORDS))) => {
            return Ok(Stopped::Absent);
        }
        asked => asked?,
    };
    let pid = process.id();
    let stopped = match answer {
        Answer::Granted | Answer::Denied(ResultCode::SHUTTING_DOWN) => Stopped::Asked { pid },
        Answer::Denied(rc) => {
            signal(&endpoint, &process, rc)?;
            Stopped::Signalled { pid }
        }
    };
    // One that has answered late gets some time, too.
    match process.wait(Some(until.left().max(LAST_WORDS))) {
        Ok(true) => Ok(stopped),
        Ok(false) => {
            let how = match stopped {
                Stopped::Signalled { .. } => format!(" ({})", ForeignProcess::REQUEST),
                _ => String::new(),
            };
            let error = Error::new(STOP, &endpoint, Kind::TimedOut);
            Err(error
                .with_note(|_| format!("its process, pid {pid}, was asked to stop{how} and is still there")))
        }
        Err(error) => Err(Error::os(STOP, &endpoint, error)),
    }
}

fn is_absent(connect: &Connect) -> bool {
    connect.connect().is_err_and(|error| error.is_not_listening())
}

/// The end of the time for all of it.
#[derive(Clone, Copy)]
struct Until(Option<Instant>);

impl Until {
    fn after(time: Duration) -> Until {
        Until(Instant::now().checked_add(time))
    }

    fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }
}

/// What a server has said to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Granted,
    /// For which reason.
    Denied(ResultCode),
}

/// A server that is being asked to stop.
struct Asking<'a> {
    endpoint: &'a Endpoint,
    channel: Channel,
    until: Until,
}

impl Asking<'_> {
    /// Asks, and says who has answered what. The channel is closed then: no server that ends waits for us.
    fn ask(mut self) -> Result<(Answer, ForeignProcess)> {
        let expected = ExpectedProcess::at(&self.channel).map_err(|error| self.os(error))?;
        let mut settings = Settings::new(ConnectionLimits::default(), Classic::default());
        settings.asks = Some(Task::Stop);
        let mut connection = Connection::initiator(Arc::new(settings), random_id(), Instant::now());
        self.send(&mut connection)?;
        let process = self.meet(&expected)?;
        let answer = self.receive(&mut connection)?;
        connection.close();
        if let Err(error) = self.send(&mut connection) {
            log::debug!("saying goodbye: {error}");
        }
        self.channel.hang_up();
        Ok((answer, process))
    }

    /// Waits for whoever answers.
    fn meet(&mut self, expected: &ExpectedProcess) -> Result<ForeignProcess> {
        let met = match expected.meet(&self.channel, Some(self.until.left())) {
            // Whoever waits for more than a hello, such as a line, says so at its end.
            Err(error)
                if error.kind() == io::ErrorKind::TimedOut && self.channel.shutdown_write().is_ok() =>
            {
                self.until = Until::after(LAST_WORDS);
                expected.meet(&self.channel, Some(LAST_WORDS))
            }
            met => met,
        };
        met.map_err(|error| self.os(error))
    }

    fn send(&self, connection: &mut Connection) -> Result<()> {
        while connection.has_unsent() {
            let sent = self.channel.send(connection.unsent(), Some(self.until.left()));
            connection.mark_sent(sent.map_err(|error| self.os(error))?, Instant::now());
        }
        Ok(())
    }

    /// The server's hello.
    fn receive(&self, connection: &mut Connection) -> Result<Answer> {
        let (mut bytes, mut is_granted) = ([0; 1024], false);
        loop {
            let received = self.channel.recv(&mut bytes, Some(self.until.left()));
            match received.map_err(|error| self.os(error))? {
                0 => connection.end_of_input(),
                count => {
                    let budget = Cell::new(usize::MAX);
                    connection.receive(&bytes[..count], &budget, &mut |_, event| {
                        is_granted |= matches!(event, Event::Opened(_));
                    });
                    connection.received(Instant::now());
                }
            }
            if is_granted {
                return Ok(Answer::Granted);
            }
            match connection.flow().failure() {
                Some(ProtocolError::Refused { rc, .. }) => return Ok(Answer::Denied(*rc)),
                // Servers of another version, and those that know no hello.
                Some(ProtocolError::NoCommonVersion { .. }) => {
                    return Ok(Answer::Denied(ResultCode::NO_COMMON_VERSION));
                }
                Some(ProtocolError::ClassicServer) => return Ok(Answer::Denied(ResultCode::NO_HANDLER)),
                Some(failure) => return Err(self.stranger(&failure.to_string())),
                None if connection.is_finished() => return Err(self.stranger(NO_HELLO)),
                None => {}
            }
        }
    }

    /// Whoever is there is left alone.
    fn stranger(&self, why: &str) -> Error {
        let error = Error::new(STOP, self.endpoint, Kind::Protocol(why.into()));
        error.with_note(|_| format!("that is {}, and was left alone", self.channel.peer().as_server()))
    }

    fn os(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::TimedOut => {
                let error = Error::new(STOP, self.endpoint, Kind::Hung);
                error.with_note(|_| {
                    let server = self.channel.peer().as_server();
                    format!("it was asked and does not answer; that is {server}, and nobody was signalled")
                })
            }
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.stranger(NO_HELLO),
            // Of the process.
            io::ErrorKind::NotFound => Error::system("find the process of a server", error),
            _ => Error::os(STOP, self.endpoint, error),
        }
    }
}

const NO_HELLO: &str = "it has closed the connection without a hello";

/// Has the system ask the process to end, if it is our own user's. `rc`: what the server has said.
fn signal(endpoint: &Endpoint, process: &ForeignProcess, rc: ResultCode) -> Result<()> {
    let (pid, user) = (process.id(), process.user());
    let us = OwnIdentity::look_up().map_err(|error| Error::os(STOP, endpoint, error))?;
    if !us.is(user) {
        let why = format!("its process, pid {pid}, belongs to {user}, and this is {us}");
        return Err(Error::new(STOP, endpoint, Kind::Refused { by: RefusedBy::OurAccess, why }));
    }
    match process.ask_to_end() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let why = format!(
                "it does not allow that (may_be_stopped; {rc}), and {error}; end its process, pid {pid}, in its own \
                 way, or by the Task Manager"
            );
            Err(Error::new(STOP, endpoint, Kind::Refused { by: RefusedBy::Server(rc), why }))
        }
        signalled => signalled.map_err(|error| Error::os(STOP, endpoint, error)),
    }
}
