//! Programs that a client starts, and whose standard input and output are its connection.

use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sidewire_platform::{Channel, ChildProcess, CommandEndpoint, Endpoint};

use super::helper::draining::Draining;
use crate::client::{Connect, Fate};
use crate::error::{Error, Kind, Result};
use sidewire_wire::Executed;

/// How long a program may live on when its channel has ended.
const ENDING: Duration = Duration::from_secs(3);
/// How long one that was asked to end may take.
const TERMINATING: Duration = Duration::from_secs(1);
/// How long what it has printed may take to arrive when it has ended: no time, unless somebody else holds the pipe.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Whoever waits for longer looks again.
const LONG: Duration = Duration::from_secs(3600);

impl Connect {
    /// To a program that is started for this connection, and that is its server over its standard input and output:
    /// `exec:COMMAND` or `ssh:HOST ENDPOINT`, see [`CommandEndpoint`]. Otherwise as [`command`](Connect::command).
    ///
    /// **The text runs programs.** Take it from nobody who may not do so himself. That is why no [`Endpoint`] says
    /// this, and [`to`](Connect::to) refuses it: who reads an endpoint from a file or a command line runs nothing.
    ///
    /// With `ssh:` the server is beyond the system's ssh, whose keys and configuration say which machine and user that
    /// is. There `sidewire relay` connects as any client of that user does.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use sidewire::Connect;
    ///
    /// let builder = Connect::to_command("ssh:ada@build.example unix:/run/builder.sock")?;
    /// let client = builder.timeout(Duration::from_secs(30)).open()?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn to_command<E>(endpoint: E) -> Result<Connect>
    where
        E: TryInto<CommandEndpoint>,
        Error: From<E::Error>,
    {
        let endpoint = endpoint.try_into()?;
        Ok(Connect::starting(endpoint.to_string(), endpoint.command()))
    }

    /// To a program that is started for this connection, and that is its server over its standard input and output. It
    /// need not know this library: it reads our hello, says its own, and answers frames, as the page of the protocol says.
    /// For programs of your own that do know it, [`Helper`](crate::Helper) does more.
    ///
    /// Its life is that of the connection: at the connection's end, from whichever side, it has 3 s to end by itself. Then
    /// it is asked to, and a second later killed, with what it has started. Dropping the client waits for that, dropping
    /// one for tasks (`tokio`) does not. When it ends first, errors tell with which
    /// [status](Error::exit_status), and show its [last words](Error::last_words), as far as both are known within the call's time
    /// limit (for tasks, those of calls need not). [`open`](Connect::open) waits longer for them if it fails.
    /// What it prints to standard error goes to the log line by line, at `info` with the target `sidewire::helper`.
    ///
    /// With [`reconnect`](Connect::reconnect) it is started anew, with a new state. There is no other layout than v1.
    /// The server is what was started ([`Client::peer`](crate::Client::peer)), so [`access`](Connect::access) says nothing here, and
    /// [rules](crate::Rules) are refused.
    ///
    /// What the command says of its standard streams is lost.
    ///
    /// # Errors
    /// [`open`](Connect::open) says what the system says if it can't be started; otherwise
    /// as there.
    ///
    /// # Platform-specific behavior
    /// Unix: both streams are one Unix socket, and it gets SIGTERM, and at last SIGKILL, as the leader of a process group of its
    /// own, so it can't read from the terminal. If this process is killed it sees the end of its input, no more.
    ///
    /// Windows: anonymous pipes, and two threads that copy. It can't be asked to end, and is killed with this
    /// process, by its job. No scripts (`.bat`, `.cmd`): see [`Helper`](crate::Helper).
    pub fn command(command: Command) -> Connect {
        Connect::starting(format!("program {}", command.get_program().display()), command)
    }

    fn starting(name: String, command: Command) -> Connect {
        let (endpoint, command) = (Endpoint::Unnamed(name), Mutex::new(command));
        let name = endpoint.clone();
        Connect::over_programs(endpoint, move || {
            Run::start(&name, &mut command.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

/// One process, from its start to its end.
struct Run {
    process: ChildProcess,
    endpoint: Endpoint,
    draining: Arc<Draining>,
    fate: Arc<Fate>,
    /// Whether it was us who ended it.
    was_ended: AtomicBool,
}

impl Run {
    /// Starts it, and has threads look after it.
    fn start(endpoint: &Endpoint, command: &mut Command) -> Result<(Channel, Arc<Fate>)> {
        let failed = |error| Error::not_started(endpoint, error);
        let mut process = ChildProcess::spawn_on_standard(command).map_err(failed)?;
        let draining = Arc::new(Draining::default());
        if let Some(stderr) = process.take_stderr() {
            draining.drain(&endpoint.to_string(), stderr).map_err(failed)?;
        }
        let channel = process.channel(None).map_err(failed)?;
        let (fate, was_ended) = (Arc::default(), AtomicBool::new(false));
        let run = Run { process, endpoint: endpoint.clone(), draining, fate: Arc::clone(&fate), was_ended };
        log::debug!("{endpoint}: process {}", run.process.id());
        let run = Arc::new(run);
        run.on_thread(Run::await_end).map_err(failed)?;
        run.on_thread(Run::see_to_its_end).map_err(|error| {
            run.kill();
            failed(error)
        })?;
        Ok((channel, fate))
    }

    fn on_thread(self: &Arc<Self>, work: fn(&Run)) -> std::io::Result<()> {
        let run = Arc::clone(self);
        thread::Builder::new().name("sidewire-command".into()).spawn(move || work(&run)).map(drop)
    }

    /// Waits until it has ended, and tells how.
    fn await_end(&self) {
        let status = self.process.wait(None).unwrap_or_else(|error| {
            log::warn!("{}: nobody knows how it ended: {error}", self.endpoint);
            None
        });
        self.draining.wait(LAST_WORDS);
        self.fate.tell(&self.reason(status));
    }

    fn reason(&self, status: Option<ExitStatus>) -> Error {
        let ended = status.map_or_else(|| "nobody knows how".into(), |status| status.to_string());
        let why = match self.was_ended.load(Ordering::Relaxed) {
            true => format!("it lived on when its connection had ended, so it was ended: {ended}"),
            false => format!("its process has ended: {ended}"),
        };
        let kind = Kind::PeerGone { executed: Executed::Perhaps, why };
        Error::new("run", &self.endpoint, kind).with_end(status, self.draining.words.escaped())
    }

    /// Ends it when its connection has, unless it does so itself.
    fn see_to_its_end(&self) {
        while !self.fate.is_asked_within(LONG) {}
        self.fate.await_verdict(ENDING);
        if self.has_ended_within(Duration::ZERO) {
            return;
        }
        self.was_ended.store(true, Ordering::Relaxed);
        if let Err(error) = self.process.terminate() {
            log::warn!("{}: it can't be asked to end: {error}", self.endpoint);
        }
        if !self.has_ended_within(TERMINATING) {
            self.kill();
        }
    }

    fn has_ended_within(&self, limit: Duration) -> bool {
        !matches!(self.process.wait(Some(limit)), Ok(None))
    }

    fn kill(&self) {
        if let Err(error) = self.process.kill() {
            log::warn!("{}: it can't be ended: {error}", self.endpoint);
        }
    }
}
