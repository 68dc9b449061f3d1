//! A server in a task of a Tokio runtime.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::tokio::task::yield_now;
use ::tokio::time::{Sleep, sleep_until};
use sidewire_platform::AsyncPoll;

use super::{Server, Threads};
use crate::error::{Error, Result};
use crate::reactor::Reactor;
use crate::reactor::mailbox::Mailbox;

/// In a task.
impl<S, T: Threads> Server<S, T> {
    /// Serves in a task of a Tokio runtime, as [`run`](Server::run) does in a thread of its own: handlers and the tasks of a
    /// runtime with one thread then hand things to each other without waking another thread. Handlers hold up that task's
    /// thread: others get theirs behind each [`turn`](Server::turn), which gives every connection its share, so 2 ms and one
    /// handler at most ([`turn_frames`](crate::Limits::turn_frames)). Dropped, it stops between two turns, and may be called again.
    ///
    /// ```
    /// use sidewire::Server;
    ///
    /// # let name = format!("local:run-async-{}", std::process::id());
    /// # let name = name.as_str();
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    /// # runtime.block_on(async {
    /// let mut server = Server::new(());
    /// server.on(1, |(), request, reply| {
    ///     reply.write(request.payload());
    ///     Ok(())
    /// });
    /// let bound = server.listen(name)?;
    /// let remote = server.remote()?;
    /// # if cfg!(unix) {
    /// let asking = tokio::spawn(async move {
    ///     let client = sidewire::tokio::Client::connect(bound).await?;
    ///     assert_eq!(client.call(1, "hello").await?.payload(), b"hello");
    ///     remote.stop()
    /// });
    /// server.run_async().await?;
    /// asking.await.expect("no panic")?;
    /// # }
    /// # Ok::<(), sidewire::Error>(())
    /// # }).expect("it serves");
    /// ```
    ///
    /// # Errors
    /// As [`run`](Server::run); if there is no Tokio runtime here, or the system has no descriptors left;
    /// [`is_unsupported`](Error::is_unsupported) where a loop has no descriptor.
    ///
    /// # Panics
    /// If the runtime was built without I/O, or without time.
    ///
    /// # Platform-specific behavior
    /// Windows: unsupported, before anything is served. There a server has a thread of its own: [`spawn`](Server::spawn).
    pub async fn run_async(&mut self) -> Result<()> {
        let waiting = Waiting::for_turns_of(self.core.reactor()?);
        let mut waiting = waiting.map_err(|error| Error::system("serve in a task", error))?;
        let mut may_have_come = true;
        while self.turn_in_task(may_have_come)? {
            let reactor = self.core.reactor()?;
            may_have_come = true;
            if reactor.has_more_to_do() || reactor.may_have_left_something() {
                // Others get their turn, too.
                yield_now().await;
                continue;
            }
            let (due, mut has_waited) = (reactor.deadline(), false);
            let came = poll_fn(|task| {
                let came = waiting.poll(due, task);
                has_waited |= came.is_pending();
                came
            });
            let came = came.await.map_err(|error| Error::system("wait for the server's loop", error))?;
            may_have_come = came != Came::Mail;
            if !has_waited {
                yield_now().await;
            }
        }
        Ok(())
    }

    fn turn_in_task(&mut self, may_have_come: bool) -> Result<bool> {
        self.one_turn(|reactor, dispatch| match may_have_come {
            true => reactor.turn(Some(Duration::ZERO), dispatch),
            false => Ok(reactor.turn_without_poll(dispatch)),
        })
    }
}

/// Why a task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// The poll may tell of something, or something is due.
    Something,
    /// Whoever else is in this process has written.
    Mail,
}

/// What a task waits with between turns.
struct Waiting {
    ready: AsyncPoll,
    mailbox: Arc<Mailbox>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    fn for_turns_of(reactor: &Reactor) -> io::Result<Waiting> {
        Ok(Waiting { ready: reactor.for_tasks()?, mailbox: reactor.mailbox(), alarm: None })
    }

    fn poll(&mut self, due: Option<Instant>, task: &mut Context<'_>) -> Poll<io::Result<Came>> {
        self.mailbox.wakes_task(task.waker());
        if let Poll::Ready(ready) = self.ready.poll_ready(task) {
            return Poll::Ready(ready.map(|()| Came::Something));
        }
        if due.is_some_and(|due| self.rings(due, task)) {
            return Poll::Ready(Ok(Came::Something));
        }
        // Once more, with this task's waker: whoever saw that the loop slept, and wakes the one before, wakes nobody for others.
        if !self.mailbox.falls_asleep() {
            return Poll::Ready(Ok(Came::Mail));
        }
        Poll::Pending
    }

    /// Whether it is time; the task is woken when it is. One alarm for all: time limits move with each request, and one that
    /// rings too early costs a turn now and then, while setting it costs something each time.
    fn rings(&mut self, due: Instant, task: &mut Context<'_>) -> bool {
        let due = due.into();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if alarm.is_elapsed() || due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(task).is_ready()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.mailbox.wakes_poll();
    }
}
