//! What is done about a server that can't be connected to, so that another attempt is worth it: for those above, who
//! know how servers are started.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connect;
use crate::error::{Error, Result};
use sidewire_platform::Endpoint;

/// Knows what to do, for any number of efforts to connect.
pub(crate) trait Summons: fmt::Debug + Send + Sync {
    /// An effort begins, which is to be over by then.
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

impl Connect {
    /// Has this asked what to do where nobody can be reached.
    pub(crate) fn summon(mut self, summons: Arc<dyn Summons>) -> Connect {
        self.summons = Some(summons);
        self
    }

    /// Does this until it succeeds or another attempt is not worth it.
    pub(super) fn strive<T>(
        &self,
        until: Option<Instant>,
        mut attempt: impl FnMut(&Connect) -> Result<T>,
    ) -> Result<T> {
        let Some(summons) = &self.summons else { return attempt(self) };
        let mut effort = summons.begin(&self.endpoint, until);
        loop {
            match attempt(&self.within(effort.left())) {
                Err(error) => effort.go_on(error)?,
                done => return done,
            }
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
