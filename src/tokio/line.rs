//! How tasks come by a connection, or by the next one, and how each is opened.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::tokio::runtime::Handle;
use ::tokio::task::{AbortHandle, JoinHandle, yield_now};

use super::waiting::{Connection, Place, Task, Tasks, Timer};
use crate::client::{Bounds, Closing, Connect, Lasting, Next, Own};
use crate::error::{Error, Kind, Result};
use sidewire_wire::caller::Purpose;

/// What calls go over.
pub(super) type Line = Own<Tasks>;

impl Line {
    /// Connects, with all that the options ask for.
    pub(super) async fn open(connect: Connect, closing: Option<Closing>) -> Result<Line> {
        // What a connection tells of its end is the client's end unless others follow.
        let told = closing.clone().filter(|_| connect.reconnects().is_none());
        let connection = strive(&connect, None, told.as_ref(), None).await?;
        Ok(Own::of(connect, closing, connection))
    }

    /// One to begin something on, which is new if the last one has ended.
    pub(super) async fn connection(
        &self,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Arc<Connection>> {
        match self {
            Line::Once(connection) => Ok(Arc::clone(connection)),
            Line::Lasting(lasting) => lasting.connection(operation, deadline).await,
        }
    }

    /// Reads, and runs what the server asks for, until there is no connection any more.
    pub(super) async fn run(&self) -> Result<()> {
        if let Line::Once(connection) = self {
            let end = connection.run().await;
            connection.tell_end();
            return end;
        }
        loop {
            match self.connection("read from", None).await {
                // Whatever its end is, the next one is looked for.
                Ok(connection) => drop(connection.run().await),
                Err(error) if error.is_closed() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Connection {
    /// Reads, and runs what the server asks for, until the connection is over.
    async fn run(&self) -> Result<()> {
        let seat = poll_fn(|context| Poll::Ready(self.lock().caller.stand_by(Task::of(context)))).await;
        Place::new(self, Some(seat), None).wait(|state, _| self.stood_by(state)).await
    }
}

/// For tasks.
impl Lasting<Tasks> {
    /// The connection; a new one if the last one has ended, by then.
    async fn connection(
        self: &Arc<Self>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Arc<Connection>> {
        let mut timer = Timer::default();
        let connection = self.current();
        if connection.is_silent() {
            // The runtime looks what has come meanwhile: on some systems only that tells of the connection's end.
            yield_now().await;
            connection.has_ended();
        }
        drop(connection);
        loop {
            let next = poll_fn(|context| {
                loop {
                    let mut state = self.lock();
                    match self.next(&mut state, operation, deadline) {
                        Next::Wait(until) => {
                            self.is_decided.add(context.waker());
                            drop(state);
                            if timer.poll(until, context).is_pending() {
                                return Poll::Pending;
                            }
                        }
                        next => return Poll::Ready(next),
                    }
                }
            });
            match next.await {
                Next::Use(connection) => return Ok(connection),
                Next::Late(error) => return Err(error),
                Next::GivenUp(error) => return Err(self.given_up(&error, operation)),
                Next::Attempt => self.attempt(deadline).await?,
                Next::Wait(_) => {}
            }
        }
    }

    /// In a task of its own, since all others wait for it, whether or not this one is polled on. One that is dropped in
    /// the middle ends it, and leaves its turn to the next.
    async fn attempt(self: &Arc<Self>, deadline: Option<Instant>) -> Result<()> {
        let (attempt, bounds) = (Attempt(Some(Arc::clone(self))), self.bounds(deadline));
        let connect = self.connect().clone().timeout(bounds.limit);
        let task = runtime(&connect)?.spawn(async move {
            let result = strive(&connect, deadline, None, attempt.0.as_deref()).await;
            attempt.note(result, bounds);
        });
        let _ends_with_us = Aborted(task.abort_handle());
        finished(self.connect(), task).await
    }
}

/// One that nobody has noted when it is dropped was cut short.
struct Attempt(Option<Arc<Lasting<Tasks>>>);

impl Attempt {
    fn note(mut self, result: Result<Arc<Connection>>, bounds: Bounds) {
        if let Some(lasting) = self.0.take() {
            lasting.note_attempt(result, bounds);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(lasting) = &self.0 {
            lasting.drop_attempt();
        }
    }
}

/// A task that ends with whoever waits for it.
struct Aborted(AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects; where that is asked for, until somebody can be reached.
async fn strive(
    connect: &Connect,
    until: Option<Instant>,
    closing: Option<&Closing>,
    lasting: Option<&Lasting<Tasks>>,
) -> Result<Arc<Connection>> {
    let Some(summons) = connect.summons() else { return open_once(connect, closing, lasting).await };
    let endpoint = connect.endpoint().clone();
    let mut effort = run_blocking(connect, move || summons.begin(&endpoint, until)).await?;
    loop {
        let attempt = connect.within(effort.left());
        let error = match open_once(&attempt, closing, lasting).await {
            Err(error) => error,
            done => return done,
        };
        let going = run_blocking(connect, move || effort.go_on(error).map(|()| effort)).await?;
        effort = going?;
    }
}

/// Where `close` finds it before it has shaken hands.
async fn open_once(
    connect: &Connect,
    closing: Option<&Closing>,
    lasting: Option<&Lasting<Tasks>>,
) -> Result<Arc<Connection>> {
    let deadline = connect.deadline();
    lasting.map_or(Ok(()), Lasting::check_open)?;
    let (opening, closing) = (connect.clone(), closing.cloned());
    let connection = run_blocking(connect, move || opening.begin_stream::<Tasks>(closing)).await??;
    lasting.map_or(Ok(()), |lasting| lasting.show(&connection))?;
    let shaken = connection.begin("connect to", Purpose::Open, deadline, |_, _| Ok(())).await;
    connect.greeted(&connection, shaken)?;
    Ok(connection)
}

/// Does what blocks on a thread that the runtime has for that. It ends by itself if nobody waits any more.
async fn run_blocking<T: Send + 'static>(
    connect: &Connect,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    finished(connect, runtime(connect)?.spawn_blocking(work)).await
}

fn runtime(connect: &Connect) -> Result<Handle> {
    Handle::try_current().map_err(|_| impossible(connect, "there is no Tokio runtime here"))
}

async fn finished<T>(connect: &Connect, task: JoinHandle<T>) -> Result<T> {
    match task.await {
        Ok(done) => Ok(done),
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        Err(_) => Err(impossible(connect, "the Tokio runtime ends")),
    }
}

fn impossible(connect: &Connect, why: &str) -> Error {
    Error::new("connect to", connect.endpoint(), Kind::InvalidInput(why.into()))
}

pub(super) fn deadline_in(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
