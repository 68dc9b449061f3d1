//! One run of a helper: a process, its channel, what it prints, and how it ends.

use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use sidewire_platform::{ChildProcess, Endpoint};

use super::draining::Draining;
use super::keeping::Keeping;
use crate::client::{Contact, Fate};
use crate::error::{Error, Kind};
use crate::recorder;
use sidewire_wire::Executed;

/// How long a process may live on when its channel has ended, which it may do on its way out.
const ENDING: Duration = Duration::from_secs(3);
/// How often a channel is looked at that nobody uses.
const LOOK: Duration = Duration::from_secs(5);
/// How long one that was asked to end may take, if it has done what none should.
const TERMINATING: Duration = Duration::from_secs(1);
/// How long what it has printed may take to arrive when it has ended: no time, unless somebody else holds the pipe.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One process.
#[derive(Debug)]
pub(super) struct Run {
    process: ChildProcess,
    /// When it was about to be started.
    begun: SystemTime,
    draining: Arc<Draining>,
    /// Who waits on the channel hears from here why it has ended.
    fate: Arc<Fate>,
    course: Mutex<Course>,
}

#[derive(Debug, Default)]
struct Course {
    contact: Option<Contact>,
    was_ready: bool,
    /// Why we end it.
    verdict: Option<Error>,
}

impl Run {
    /// Starts the process, and reads what it prints.
    pub(super) fn start(name: &str, command: &mut Command) -> io::Result<Run> {
        let begun = SystemTime::now();
        let mut process = ChildProcess::spawn(command)?;
        let draining = Arc::new(Draining::default());
        let streams = [process.take_stdout(), process.take_stderr()];
        streams.into_iter().flatten().try_for_each(|stream| draining.drain(name, stream))?;
        Ok(Run { process, begun, draining, fate: Arc::default(), course: Mutex::default() })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Has a thread see to its channel.
    pub(super) fn attend(self: &Arc<Self>, keeping: &Arc<Keeping>) -> io::Result<()> {
        let (run, keeping) = (Arc::clone(self), Arc::clone(keeping));
        let builder = thread::Builder::new().name("sidewire-helper".into());
        builder.spawn(move || run.converse(&keeping)).map(drop)
    }

    /// Shakes hands, says that it is ready, and reads until the channel's end.
    fn converse(&self, keeping: &Keeping) {
        let patience = keeping.ready_within();
        match self.open_channel(keeping, patience) {
            Ok(contact) => {
                let end = self.end_of(keeping, &contact);
                log::debug!("{}: its channel has ended: {end:?}", self.endpoint(keeping));
                match end {
                    Some(error) if error.is_protocol() => {
                        self.judge(keeping, error.with_more("it was ended for that"));
                    }
                    _ => self.expect_the_end(keeping),
                }
            }
            Err(error) if error.is_timeout() => {
                let hung = Error::new("start", &self.endpoint(keeping), Kind::Hung);
                self.judge(keeping, hung.with_note(|_| format!("it was not ready within {patience:?}")));
            }
            Err(error) if error.is_peer_gone() || error.is_closed() => self.expect_the_end(keeping),
            Err(error) => self.judge(keeping, error.with_more("it was ended for that")),
        }
    }

    /// Waits for the end of the channel. Only who has handlers pays for somebody who reads all the time: each call's
    /// reply then comes by way of another thread.
    fn end_of(&self, keeping: &Keeping, contact: &Contact) -> Option<Error> {
        let is_read = contact.serves();
        while !is_read && !keeping.is_given_up() {
            let is_over = self.fate.is_asked_within(LOOK);
            let end = contact.end();
            if end.is_some() || is_over && !keeping.is_stopping() {
                return end;
            }
        }
        if keeping.is_given_up() && !keeping.is_stopping() {
            contact.close();
        }
        // One that was asked to end waits until we have seen its goodbye.
        contact.run().err()
    }

    fn open_channel(&self, keeping: &Keeping, patience: Duration) -> Result<Contact, Error> {
        let deadline = Instant::now().checked_add(patience);
        let endpoint = self.endpoint(keeping);
        let channel =
            self.process.channel(Some(patience)).map_err(|error| Error::os("start", &endpoint, error))?;
        let contact = Contact::new(keeping.connect(), endpoint, channel, Arc::clone(&self.fate));
        self.course().contact = Some(contact.clone());
        if keeping.is_stopping() {
            contact.leave();
        }
        contact.shake_hands(keeping.connect(), deadline)?;
        self.course().was_ready = true;
        keeping.ready(&contact);
        Ok(contact)
    }

    /// The channel has ended: the process should be about to.
    fn expect_the_end(&self, keeping: &Keeping) {
        if keeping.is_given_up() {
            // Somebody has closed the client, which leaves the helper nothing to do.
            return keeping.stop_soon();
        }
        if !matches!(self.process.wait(Some(ENDING)), Ok(None)) {
            return;
        }
        let why = "it closed its channel and lived on, so it was ended".into();
        let kind = Kind::PeerGone { executed: Executed::Perhaps, why };
        self.judge(keeping, Error::new("run", &self.endpoint(keeping), kind));
    }

    /// Ends it for this reason, unless somebody else is at it.
    fn judge(&self, keeping: &Keeping, why: Error) {
        if keeping.is_stopping() {
            return;
        }
        let why = why.with_end(None, self.draining.words.escaped());
        self.course().verdict.get_or_insert_with(|| why.clone());
        self.fate.tell(&why);
        self.terminate();
        if matches!(self.process.wait(Some(TERMINATING)), Ok(None)) {
            self.kill();
        }
    }

    /// Waits until it has ended. Says why it has, and with what words.
    pub(super) fn wait(&self, keeping: &Keeping) -> Error {
        let status = match self.process.wait(None) {
            Ok(status) => status,
            Err(error) => {
                log::warn!("{}: nobody knows how it ended: {error}", self.endpoint(keeping));
                None
            }
        };
        self.draining.wait(LAST_WORDS);
        self.reason(keeping, status).with_end(status, self.draining.words.escaped())
    }

    /// Tells all who wait on its channel why it has ended.
    pub(super) fn release(&self, why: &Error) {
        self.fate.tell(why);
        let contact = self.course().contact.take();
        if let Some(contact) = contact {
            contact.close();
        }
    }

    fn reason(&self, keeping: &Keeping, status: Option<ExitStatus>) -> Error {
        let endpoint = self.endpoint(keeping);
        let mut course = self.course();
        if keeping.is_stopping() {
            return Error::new("run", &endpoint, Kind::Closed).with_note(|_| "the helper was stopped".into());
        }
        if let Some(verdict) = course.verdict.take() {
            return verdict;
        }
        let status = status.map_or_else(|| "nobody knows how".into(), |status| status.to_string());
        let mut why = match course.was_ready {
            true => format!("its process has ended: {status}"),
            false => format!("its process has ended before it was ready: {status}"),
        };
        if let Some(doing) = self.doing() {
            why = format!("{why}; it {doing}");
        }
        Error::new("run", &endpoint, Kind::PeerGone { executed: Executed::Perhaps, why })
    }

    /// What it is at, or was when it died, as the recorder of its server tells.
    pub(super) fn doing(&self) -> Option<String> {
        recorder::doing(self.id(), self.begun)
    }

    /// Asks it, through its channel, to end; `false` if there is none yet.
    pub(super) fn ask(&self) -> bool {
        let contact = self.course().contact.clone();
        contact.inspect(Contact::leave).is_some()
    }

    pub(super) fn terminate(&self) {
        if let Err(error) = self.process.terminate() {
            log::warn!("process {} can't be asked to end: {error}", self.id());
        }
    }

    pub(super) fn kill(&self) {
        if let Err(error) = self.process.kill() {
            log::warn!("process {} can't be ended: {error}", self.id());
        }
    }

    /// Because our user says so; whoever asks for the reason is told.
    pub(super) fn kill_on_demand(&self, keeping: &Keeping) -> Result<(), Error> {
        let endpoint = self.endpoint(keeping);
        let failed = |error| Error::os("kill", &endpoint, error);
        if self.process.wait(Some(Duration::ZERO)).map_err(failed)?.is_some() {
            return Ok(());
        }
        log::info!("helper {}: process {} is killed on demand", keeping.name(), self.id());
        let kind = Kind::PeerGone { executed: Executed::Perhaps, why: "it was killed on demand".into() };
        self.course().verdict.get_or_insert_with(|| Error::new("run", &endpoint, kind));
        self.process.kill().map_err(failed)
    }

    fn endpoint(&self, keeping: &Keeping) -> Endpoint {
        Endpoint::Unnamed(format!("helper {} (pid {})", keeping.name(), self.id()))
    }

    fn course(&self) -> std::sync::MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
