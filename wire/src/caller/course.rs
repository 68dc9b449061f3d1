//! How a connection goes, and what that means for a call.

use crate::call_rules;
use crate::error::ProtocolError;
use crate::executed::Executed;
use crate::rc::ResultCode;

/// Why a connection has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server said goodbye, with this code.
    Goodbye(ResultCode),
    /// The server closed the connection without a word.
    Closed,
    /// The channel broke; its reader knows how.
    Broken,
    /// One side broke the protocol, or a limit was passed.
    Failed(ProtocolError),
    /// We have [closed](super::Caller::close) it.
    Ours,
}

#[derive(Debug)]
pub(super) enum Course {
    Open,
    /// The server takes no more calls. Those up to `last_accepted` may still be answered.
    Leaving {
        end: End,
        last_accepted: u32,
    },
    /// Nothing more is taken. The server is still to be told why, and the channel to be closed.
    Failing {
        end: End,
        last_accepted: Option<u32>,
    },
    /// Nothing more can come or go.
    Over {
        end: End,
        last_accepted: Option<u32>,
    },
}

impl Course {
    #[inline]
    pub(super) fn end(&self) -> Option<&End> {
        match self {
            Course::Open => None,
            Course::Leaving { end, .. } | Course::Failing { end, .. } | Course::Over { end, .. } => Some(end),
        }
    }

    /// Whether nothing more can come.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Course::Failing { .. } | Course::Over { .. })
    }

    /// Whether all is said, too.
    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        matches!(self, Course::Over { .. })
    }

    /// Whether the request with this id may have been executed.
    #[inline]
    pub(super) fn executed(&self, id: u32) -> Executed {
        match self.last_accepted() {
            Some(last) if call_rules::is_behind(id, last) => Executed::Never,
            Some(_) | None => Executed::Perhaps,
        }
    }

    /// Whether its reply may still come.
    #[inline]
    pub(super) fn may_answer(&self, id: u32) -> bool {
        !self.is_over() && self.executed(id) == Executed::Perhaps
    }

    pub(super) fn leave(&mut self, rc: ResultCode, last_accepted: u32) {
        if let Course::Open = self {
            *self = Course::Leaving { end: End::Goodbye(rc), last_accepted };
        }
    }

    /// The first reason is the one that counts.
    pub(super) fn fail(&mut self, error: ProtocolError) {
        if !self.is_over() {
            let (end, last_accepted) = self.so_far(End::Failed(error));
            *self = Course::Failing { end, last_accepted };
        }
    }

    pub(super) fn close(&mut self, end: End) {
        if !self.is_over() {
            let (end, last_accepted) = self.so_far(end);
            *self = Course::Over { end, last_accepted };
        }
    }

    /// Whether the server is to be told why it ends.
    #[inline]
    pub(super) fn is_failing(&self) -> bool {
        matches!(self, Course::Failing { .. })
    }

    /// Whether the server has said goodbye, and may still answer.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self, Course::Leaving { .. })
    }

    /// To over, for the reason that there is.
    pub(super) fn finish(&mut self) {
        if let Some(end) = self.end().cloned() {
            *self = Course::Over { end, last_accepted: self.last_accepted() };
        }
    }

    fn so_far(&self, end: End) -> (End, Option<u32>) {
        (self.end().cloned().unwrap_or(end), self.last_accepted())
    }

    #[inline]
    fn last_accepted(&self) -> Option<u32> {
        match self {
            Course::Open => None,
            Course::Leaving { last_accepted, .. } => Some(*last_accepted),
            Course::Failing { last_accepted, .. } | Course::Over { last_accepted, .. } => *last_accepted,
        }
    }
}
