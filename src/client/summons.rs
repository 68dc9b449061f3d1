//! What is done about a server that can't be connected to, so that another attempt is worth it: for those above, who
//! know how servers are started.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connect;
use super::closing::Closing;
use super::lasting::Lasting;
use super::leader::SharedConnection;
use super::medium::Medium;
use crate::error::{Error, Result};
use sidewire_platform::Endpoint;

/// Knows what to do, for any number of efforts to connect.
pub(crate) trait Summons: fmt::Debug + Send + Sync {
    /// An effort begins, which is to be over by then. Never waits.
    fn begin(&self, endpoint: &Endpoint, until: Option<Instant>) -> Box<dyn Effort>;
}

/// One effort to connect. It ends when it is dropped, with or without a connection.
pub(crate) trait Effort: Send {
    /// How long the next attempt may take.
    fn left(&self) -> Duration;

    /// An attempt has failed. Does something about it, or waits a little: then another is to be made. Otherwise this
    /// is why not.
    fn go_on(&mut self, error: Error) -> Result<()>;
}

/// One of a type that names no lifetime, which the compiler would lose where a task goes from thread to thread.
struct Boxed(Box<dyn Effort>);

impl Connect {
    /// Has this asked what to do where nobody can be reached.
    pub(crate) fn summon(mut self, summons: Arc<dyn Summons>) -> Connect {
        self.summons = Some(summons);
        self
    }

    /// Connects; where that is asked for, until somebody can be reached or another attempt is not worth it.
    ///
    /// `closing` is told of the connection's end; `lasting` is whose connection it will be, and may be closed meanwhile.
    pub(super) async fn strive<M: Medium>(
        &self,
        until: Option<Instant>,
        closing: Option<&Closing>,
        lasting: Option<&Lasting<M>>,
    ) -> Result<Arc<SharedConnection<M>>> {
        let Some(summons) = &self.summons else { return self.open_once(closing, lasting).await };
        let mut effort = Boxed(summons.begin(&self.endpoint, until));
        loop {
            let error = match self.within(effort.0.left()).open_once(closing, lasting).await {
                Err(error) => error,
                done => return done,
            };
            effort = M::aside(&self.endpoint, move || effort.0.go_on(error).map(|()| effort)).await??;
        }
    }

    /// The same, but an attempt takes no longer than this.
    pub(crate) fn within(&self, left: Duration) -> Connect {
        self.clone().timeout(self.timeout.map_or(left, |limit| limit.min(left)))
    }

    /// Where nobody says hello, nobody can tell whether a server is there.
    pub(super) fn check_unsummoned(&self) -> Result<()> {
        match self.summons {
            Some(_) => {
                Err(self.invalid("a server is started only where it says hello: on a stream, with frames"))
            }
            None => Ok(()),
        }
    }
}
