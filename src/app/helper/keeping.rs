//! Looks after a helper: starts it, and starts it anew, until nobody wants it any more.

use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::run::Run;
use super::states::{Board, HelperState};
use crate::app::supervisor::{Next, Outcome, Restart, Supervisor, Turn};
use crate::client::{Connect, Contact, Relay};
use crate::error::{Error, Kind, Result};
use crate::random::random_number;

/// What its user has said.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) name: String,
    pub(super) connect: Connect,
    pub(super) ready_within: Duration,
    pub(super) patience: Patience,
    pub(super) restart: Option<Restart>,
}

/// How long a helper may take to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// When it was asked to through its channel.
    pub(super) asked: Duration,
    /// When it was then asked to by the system.
    pub(super) terminated: Duration,
    /// When it was then killed: no time, unless the system hangs.
    pub(super) killed: Duration,
}

impl Patience {
    /// Of one who does not wait for it.
    pub(super) const SHORT: Patience = Patience {
        asked: Duration::from_millis(300),
        terminated: Duration::from_millis(300),
        killed: Duration::from_secs(2),
    };
}

/// One helper, as all see it who have to do with it.
#[derive(Debug)]
pub(super) struct Keeping {
    options: Options,
    relay: Arc<Relay>,
    board: Arc<Board>,
    care: Mutex<Care>,
    /// Somebody wants it to stop.
    has_changed: Condvar,
}

#[derive(Debug)]
struct Care {
    supervisor: Supervisor,
    run: Option<Arc<Run>>,
}

impl Keeping {
    pub(super) fn new(options: Options) -> Keeping {
        let supervisor = Supervisor::new(options.restart, Instant::now());
        Keeping {
            relay: Arc::new(Relay::new(&options.connect)),
            board: Arc::new(Board::new(HelperState::Starting)),
            care: Mutex::new(Care { supervisor, run: None }),
            has_changed: Condvar::new(),
            options,
        }
    }

    /// Starts it, again and again if need be, and returns when it is over.
    pub(super) fn keep(self: &Arc<Self>, mut command: Command) {
        let mut is_first = true;
        while self.is_to_start() {
            if !std::mem::replace(&mut is_first, false) {
                self.tell(HelperState::Starting);
            }
            let (run, why) = self.run_once(&mut command);
            log::info!("{why}");
            self.ended(run.as_deref(), why);
        }
        if !self.board.state().is_final() {
            // Somebody has stopped it while it was not running.
            self.tell(HelperState::Stopped);
            self.relay.tell_end();
        }
    }

    /// Waits until it is to be started. `false`: never.
    fn is_to_start(&self) -> bool {
        let mut care = self.care();
        loop {
            let now = Instant::now();
            care = match care.supervisor.poll(now) {
                Turn::Start => return true,
                Turn::Watch | Turn::Done(_) => return false,
                Turn::Pause { until } => {
                    let left = until.saturating_duration_since(now);
                    self.has_changed.wait_timeout(care, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// From its start to its end; why it has ended.
    fn run_once(self: &Arc<Self>, command: &mut Command) -> (Option<Arc<Run>>, Error) {
        let not_started = |error| Error::not_started(self.relay.endpoint(), error);
        let run = match Run::start(&self.options.name, command) {
            Ok(run) => Arc::new(run),
            Err(error) => return (None, not_started(error)),
        };
        log::info!("helper {}: process {} was started", self.options.name, run.id());
        let mut care = self.care();
        care.run = Some(Arc::clone(&run));
        if care.supervisor.is_stopping() {
            run.kill();
        }
        drop(care);
        let attended = run.attend(self);
        if attended.is_err() {
            run.kill();
        }
        let why = run.wait(self);
        (Some(run), attended.map_or_else(not_started, |()| why))
    }

    /// Whoever is told by a call that it has ended finds its state to be so.
    fn ended(&self, run: Option<&Run>, why: Error) {
        let now = Instant::now();
        let mut care = self.care();
        care.run = None;
        if self.relay.is_over() {
            care.supervisor.stop();
        }
        let next = care.supervisor.ended(now, random_number());
        drop(care);
        let why = match next {
            Next::Nothing(Outcome::GaveUp { restarts }) => {
                let times = if restarts == 1 { "restart" } else { "restarts" };
                why.with_more(&format!("given up after {restarts} {times}"))
            }
            Next::Start { .. } | Next::Nothing(Outcome::Stopped | Outcome::Ended) => why,
        };
        match next {
            Next::Start { .. } => self.relay.wait_for_next(why.clone()),
            Next::Nothing(_) => self.relay.end(&why),
        }
        self.tell(match next {
            Next::Start { at } => {
                HelperState::Restarting { after: at.saturating_duration_since(now), why: why.clone() }
            }
            Next::Nothing(Outcome::Stopped) => HelperState::Stopped,
            Next::Nothing(Outcome::Ended) => HelperState::Ended(why.clone()),
            Next::Nothing(Outcome::GaveUp { .. }) => HelperState::GaveUp(why.clone()),
        });
        if let Some(run) = run {
            run.release(&why);
        }
        self.relay.tell_end();
    }

    /// It has shaken hands.
    pub(super) fn ready(&self, contact: &Contact) {
        if self.care().supervisor.ready(Instant::now()) {
            self.relay.put_up(contact);
            self.tell(HelperState::Ready);
        }
    }

    /// Ends it, for good, within that patience.
    pub(super) fn stop(&self, patience: Patience) -> Result<()> {
        let run = self.give_up();
        let is_asked = run.as_ref().is_some_and(|run| run.ask());
        if self.board.wait_for_the_last(if is_asked { patience.asked } else { Duration::ZERO }) {
            return Ok(());
        }
        if let Some(run) = self.run_of(run.as_ref()) {
            log::info!("helper {}: it was asked to end and has not; now by the system", self.options.name);
            run.terminate();
        }
        if self.board.wait_for_the_last(patience.terminated) {
            return Ok(());
        }
        if let Some(run) = self.run_of(run.as_ref()) {
            let doing = run.doing().map(|doing| format!("; it {doing}")).unwrap_or_default();
            log::warn!("helper {}: it does not end, and is killed{doing}", self.options.name);
            run.kill();
        }
        if self.board.wait_for_the_last(patience.killed) {
            return Ok(());
        }
        Err(Error::new("stop", self.relay.endpoint(), Kind::TimedOut)
            .with_note(|_| "its process was killed, and the system has not ended it yet".into()))
    }

    /// Ends what runs now, as a crash would.
    pub(super) fn kill(&self) -> Result<()> {
        let run = self.care().run.clone();
        run.map_or(Ok(()), |run| run.kill_on_demand(self))
    }

    /// No start follows, and no call begins. Gives what runs.
    fn give_up(&self) -> Option<Arc<Run>> {
        let mut care = self.care();
        care.supervisor.stop();
        let run = care.run.clone();
        drop(care);
        self.has_changed.notify_all();
        let stopped = Error::new("call", self.relay.endpoint(), Kind::Closed);
        self.relay.end(&stopped.with_note(|_| "the helper was stopped".into()).not_executed());
        run
    }

    /// That, or what was being started just then.
    fn run_of(&self, run: Option<&Arc<Run>>) -> Option<Arc<Run>> {
        run.cloned().or_else(|| self.care().run.clone())
    }

    /// Ends it although nobody has called [`stop`](Keeping::stop).
    pub(super) fn stop_soon(&self) {
        if !self.is_stopping()
            && let Err(error) = self.stop(self.options.patience)
        {
            log::warn!("{error}");
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.care().supervisor.is_stopping()
    }

    /// Whether no more calls will be made.
    pub(super) fn is_given_up(&self) -> bool {
        self.relay.is_over()
    }

    pub(super) fn name(&self) -> &str {
        &self.options.name
    }

    pub(super) fn connect(&self) -> &Connect {
        &self.options.connect
    }

    pub(super) fn ready_within(&self) -> Duration {
        self.options.ready_within
    }

    pub(super) fn patience(&self) -> Patience {
        self.options.patience
    }

    pub(super) fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Of what runs now.
    pub(super) fn id(&self) -> Option<u32> {
        self.care().run.as_ref().map(|run| run.id())
    }

    fn tell(&self, state: HelperState) {
        log::info!("helper {}: {state}", self.options.name);
        self.board.write(state);
    }

    fn care(&self) -> MutexGuard<'_, Care> {
        self.care.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
