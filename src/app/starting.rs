//! Servers that are started when somebody needs them: by one at a time, while the others wait.
//!
//! Whoever finds nobody listening asks for the endpoint's [`StartLock`]. Who has it looks once more, starts the
//! program, and keeps the lock until he is connected; a server that leaves for want of clients takes the same lock. So
//! neither a second server is started, nor does one leave while somebody is about to connect.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sidewire_platform::{Busy, Endpoint, EndpointKind, Program, StartLock, Started};

use crate::client::{Client, Connect, Effort, Summons};
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::random::random_id;
use crate::recorder;
use sidewire_wire::ResultCode;

/// How long it may take until a server serves that is started, unless it is said.
const WITHIN: Duration = Duration::from_secs(10);
/// What an attempt gets at least.
const LEAST: Duration = Duration::from_millis(50);
/// Connections in a row that may end before a hello: a server that ends may do that to a few.
const MOST_GONE: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The program of a server, to be started if nobody serves; for [`Connect::start`].
#[derive(Debug)]
#[must_use = "it is for Connect::start"]
pub struct Start {
    program: Program,
    within: Duration,
}

impl Start {
    /// This program, with these arguments, environment and working folder.
    ///
    /// It is nobody's child in the end: it outlives whoever starts it, and gets nothing of theirs, no descriptor and
    /// no standard streams. What the command says of those and of its process group is forgotten. The program is to serve the endpoint itself, and
    /// must not put itself into the background: when it ends before it serves, that is an error.
    ///
    /// # Platform-specific behavior
    /// Unix: it gets a session of its own (setsid(2)), and `/dev/null` for its standard streams. Windows: it gets no
    /// console and no window of one, and leaves the job of whoever starts it if that may be left; a program that says no
    /// folder is looked for as [`Command`] does, never in the current folder.
    pub fn new(command: Command) -> Start {
        Start { program: Program::new(command), within: WITHIN }
    }

    /// How long all may take, from the first look to the server's hello. Default 10 s. A program that was started and
    /// does not listen by then is ended.
    pub fn within(mut self, within: Duration) -> Start {
        self.within = within;
        self
    }
}

impl From<Command> for Start {
    fn from(command: Command) -> Start {
        Start::new(command)
    }
}

impl Client {
    /// Connects to a server of the same user, and starts it if nobody listens: the short form of
    /// [`Connect::start`].
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use sidewire::Client;
    ///
    /// let client = Client::connect_or_start("local:com.example.app", Command::new("/usr/lib/app/server"))?;
    /// let text = client.call(1, b"")?.into_payload();
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::connect`], and as [`Connect::start`].
    pub fn connect_or_start<E>(endpoint: E, command: Command) -> Result<Client>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Connect::to(endpoint)?.start(command).open()
    }
}

impl Connect {
    /// Starts the server if nobody listens: with [`open`](Connect::open), and whenever the client
    /// [connects anew](Connect::reconnect).
    ///
    /// **One server.** However many try at the same moment, in this process and in others, one of them starts the
    /// program, and the others wait and connect. A starter that dies is in nobody's way. The lock that holds this is the
    /// user's: see the platforms. That there are never two servers is in the end the endpoint's own rule, by
    /// which a second [`listen`](crate::Server::listen) fails.
    ///
    /// **Only where nobody listens.** A server that refuses us, is of another [build](Connect::build), speaks something
    /// else or hangs is an error as ever, and nothing is started. One that ends in this moment ("shutting down", -9, or
    /// an end before its hello) is waited for.
    ///
    /// Together with [`Server::exit_when_idle`](crate::Server::exit_when_idle) the server is there when somebody needs
    /// it, and at no other time.
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use std::time::Duration;
    /// use sidewire::{Connect, Reconnect, Start};
    ///
    /// let start = Start::new(Command::new("/usr/lib/app/server")).within(Duration::from_secs(3));
    /// let client = Connect::to("local:com.example.app")?.start(start).reconnect(Reconnect::new()).open()?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`open`](Connect::open) then fails also with [`is_not_started`](Error::is_not_started) (there is no such
    /// program, or it ended before it served; the text then says what it [was at](crate::recorder), if it is a server of
    /// Sidewire's that has listened anywhere), [`is_timeout`](Error::is_timeout) (it does not listen in time; the
    /// text says whose process it is), and [`is_invalid_input`](Error::is_invalid_input) for endpoints whose server
    /// can't be started: those of other machines, and datagrams.
    ///
    /// # Platform-specific behavior
    /// Unix: the lock is a file beside the socket, for endpoints without a file in the user's private folders (see
    /// `local:`). Beside a `unix:` path in a folder in which others may create files, they may create and hold the lock as
    /// well, and so keep this user from starting a server; that is an error which names them
    /// ([`is_refused`](Error::is_refused)). Windows: a named object of the session; if two sessions of one user start a server at
    /// the same moment, the second one's program is in vain.
    pub fn start(self, start: impl Into<Start>) -> Connect {
        let Start { program, within } = start.into();
        let name = program.name();
        self.summon(Arc::new(Starting { program: Arc::new(Mutex::new(program)), name, within }))
    }

    /// Whether anybody serves there, starts to, or leaves. By the time that this returns it may be otherwise; what
    /// [`start`](Connect::start) does hangs on nothing of the kind. A server that serves is connected to for a moment,
    /// which counts as a client.
    ///
    /// # Errors
    /// As [`Client::connect`], but for the hello, which is not waited for: a server that hangs serves.
    pub fn presence(&self) -> Result<Presence> {
        match Connect::connect(self) {
            Ok(channel) => {
                let pid = channel.peer().credentials().and_then(|credentials| credentials.pid());
                Ok(Presence::Serving { pid })
            }
            // One that closes a connection at once has stopped listening by now.
            Err(error) if error.is_not_listening() || error.is_peer_gone() => {
                let lock = StartLock::try_acquire(self.endpoint());
                Ok(match lock.map_err(|error| Error::os("look at", self.endpoint(), error))? {
                    Ok(_) => Presence::Absent,
                    Err(Busy::Leaving(pid)) => Presence::Leaving { pid },
                    Err(Busy::Starting(pid)) => Presence::Starting { pid: Some(pid) },
                    Err(_) => Presence::Starting { pid: None },
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Who is at an endpoint: see [`Connect::presence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// Nobody.
    Absent,
    /// Somebody starts a server.
    Starting {
        /// Its process, if it is known yet.
        pid: Option<u32>,
    },
    /// A server listens.
    Serving {
        /// Its process, where the system tells.
        pid: Option<u32>,
    },
    /// A server has [left](crate::Server::exit_when_idle), and is about to end.
    Leaving {
        /// Its process.
        pid: u32,
    },
}

/// A program for any number of efforts.
#[derive(Debug)]
struct Starting {
    program: Arc<Mutex<Program>>,
    name: String,
    within: Duration,
}

impl Summons for Starting {
    fn begin(&self, endpoint: &Endpoint, until: Option<Instant>) -> Box<dyn Effort> {
        let now = Instant::now();
        let own = now.checked_add(self.within).unwrap_or(now + Duration::from_secs(365 * 86_400));
        Box::new(Trying {
            endpoint: endpoint.clone(),
            program: Arc::clone(&self.program),
            name: self.name.clone(),
            within: self.within,
            until: until.map_or(own, |until| until.min(own)),
            pause: FIRST_PAUSE,
            gone: 0,
            state: State::Watching,
        })
    }
}

/// One effort to connect, from the first look to the connection or the error.
struct Trying {
    endpoint: Endpoint,
    program: Arc<Mutex<Program>>,
    name: String,
    within: Duration,
    until: Instant,
    /// The next one.
    pause: Duration,
    /// Connections in a row that have ended before a hello.
    gone: u32,
    state: State,
}

enum State {
    /// Others may be at it.
    Watching,
    /// Nobody else is. It is looked once more, since somebody may have been just before.
    Looking(StartLock),
    /// The program is there.
    Waiting { lock: StartLock, launched: Launched },
    /// It has ended. Perhaps since somebody else serves, who knows nothing of our lock.
    Ended(Launched),
}

/// The program that was started.
struct Launched {
    process: Started,
    /// When it was about to be.
    begun: SystemTime,
}

impl Launched {
    /// What it is at, or was when it ended, as an addition to what is said of it.
    fn doing(&self) -> String {
        let doing = recorder::doing(self.process.pid(), self.begun);
        doing.map(|doing| format!("; it {doing}")).unwrap_or_default()
    }
}

impl Effort for Trying {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(LEAST)
    }

    fn go_on(&mut self, error: Error) -> Result<()> {
        match error.refused_by() {
            _ if error.is_not_listening() => {
                self.gone = 0;
                self.find_nobody()
            }
            Some(RefusedBy::Server(ResultCode::SHUTTING_DOWN)) => self.come_again(error),
            None if error.is_peer_gone() && self.gone < MOST_GONE => {
                self.gone += 1;
                self.come_again(error)
            }
            _ => Err(error),
        }
    }
}

impl Trying {
    /// A server is there that ends.
    fn come_again(&mut self, error: Error) -> Result<()> {
        if let State::Looking(_) | State::Ended(_) = self.state {
            // It may want the lock, to leave under it.
            self.state = State::Watching;
        }
        if self.is_over() {
            return Err(error.with_more(&format!("so it was for {:?}", self.within)));
        }
        self.rest();
        Ok(())
    }

    /// Nobody listens.
    fn find_nobody(&mut self) -> Result<()> {
        if let State::Watching = self.state {
            return self.ask_for_the_lock();
        }
        self.state = match std::mem::replace(&mut self.state, State::Watching) {
            State::Watching => State::Watching,
            State::Looking(_) if self.is_over() => {
                return Err(Error::starting(&self.endpoint, Kind::TimedOut).with_more("nobody listens"));
            }
            State::Looking(lock) => {
                let launched = self.start()?;
                let pid = launched.process.pid();
                log::info!("{}: started {}, process {pid}", self.endpoint, self.name);
                lock.tell(Busy::Starting(pid));
                self.pause = FIRST_PAUSE;
                State::Waiting { lock, launched }
            }
            State::Waiting { lock, mut launched } => {
                let ended = launched.process.try_wait();
                if ended.map_err(|error| Error::starting_failed(&self.endpoint, error))?.is_some() {
                    State::Ended(launched)
                } else if self.is_over() {
                    return Err(self.end(launched));
                } else {
                    self.rest();
                    State::Waiting { lock, launched }
                }
            }
            State::Ended(mut launched) => {
                let status = launched.process.try_wait().unwrap_or_default();
                let (name, pid, doing) = (&self.name, launched.process.pid(), launched.doing());
                let ended =
                    status.map_or_else(|| "has ended".into(), |status| format!("has ended: {status}"));
                let error = Error::starting(&self.endpoint, Kind::NotStarted).with_end(status, Vec::new());
                return Err(error.with_more(&format!("{name}, process {pid}, {ended}{doing}")));
            }
        };
        Ok(())
    }

    /// Asks whether it is ours to start the server.
    fn ask_for_the_lock(&mut self) -> Result<()> {
        self.check_endpoint()?;
        let lock = StartLock::try_acquire(&self.endpoint);
        match lock.map_err(|error| Error::starting_failed(&self.endpoint, error))? {
            Ok(lock) => self.state = State::Looking(lock),
            Err(busy) if self.is_over() => return Err(self.wait_in_vain(busy)),
            Err(_) => self.rest(),
        }
        Ok(())
    }

    /// Whether its server can be started here at all.
    fn check_endpoint(&self) -> Result<()> {
        let is_here = match &self.endpoint {
            Endpoint::Tcp { .. } => self
                .endpoint
                .numeric_address()
                .is_some_and(|address| address.ip().to_canonical().is_loopback()),
            other => other.kind() == EndpointKind::Stream,
        };
        if is_here {
            return Ok(());
        }
        let text = "only a server of this machine can be started, on an endpoint for streams";
        Err(Error::starting(&self.endpoint, Kind::InvalidInput(text.into())))
    }

    fn start(&self) -> Result<Launched> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = SystemTime::now();
        program
            .start()
            .map(|process| Launched { process, begun })
            .map_err(|error| Error::server_not_started(&self.endpoint, error).with_more(&self.name))
    }

    /// The program has had its time.
    fn end(&self, mut launched: Launched) -> Error {
        let (name, pid, within, doing) = (&self.name, launched.process.pid(), self.within, launched.doing());
        let became = match launched.process.kill() {
            Ok(()) => "was ended".into(),
            Err(error) => format!("can't be ended: {error}"),
        };
        let error = Error::starting(&self.endpoint, Kind::TimedOut);
        error.with_more(&format!(
            "{name}, process {pid}, does not listen within {within:?}, and {became}{doing}"
        ))
    }

    fn wait_in_vain(&self, busy: Busy) -> Error {
        let who = match busy {
            Busy::Starting(pid) => format!("another program is starting it, as process {pid}"),
            Busy::Leaving(pid) => format!("the server before, process {pid}, has left but not ended"),
            _ => "another program is about to start it".into(),
        };
        Error::starting(&self.endpoint, Kind::TimedOut).with_more(&format!("{who}; waited {:?}", self.within))
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits a little, longer each time, and not all for as long.
    fn rest(&mut self) {
        let [random, ..] = random_id();
        let whole = self.pause.min(self.left());
        thread::sleep(whole / 2 + whole.mul_f64(f64::from(random) / 512.0));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
