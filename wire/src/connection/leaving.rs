//! How a connection ends: in order, at the end of input, or for a reason.

use super::{Connection, Phase, Role};
use crate::classic;
use crate::decoder::Fatal;
use crate::error::ProtocolError;
use crate::frame::{Kind, flags};
use crate::layout::Layout;
use crate::rc::ResultCode;

impl Connection {
    /// No more requests are taken; v1 peers are told so. Nothing to do where no goodbye exists:
    /// then the connection is just finished.
    pub fn goodbye(&mut self, rc: ResultCode) {
        match self.phase {
            Phase::Open | Phase::Administering(_) if self.layout() == Some(Layout::V1) => {
                self.push_frame(Kind::Goodbye, 0, 0, self.last_id, rc.code(), &[]);
                if !self.is_over() {
                    self.phase = Phase::Leaving;
                }
            }
            Phase::Open | Phase::Administering(_) => self.conclude(false),
            Phase::Refusing(_) | Phase::Opening | Phase::Judging { .. } => self.finish(),
            Phase::Proving => self.leave_unproven(rc),
            Phase::Leaving
            | Phase::Parting
            | Phase::Answering { .. }
            | Phase::Concluding { .. }
            | Phase::Finishing => {}
        }
    }

    /// Takes nothing more and waits for no replies: as soon as what was accepted is answered, a v1 peer gets
    /// our goodbye, and the connection ends.
    pub fn close(&mut self) {
        match self.phase {
            Phase::Open | Phase::Administering(_) => self.conclude(self.layout() == Some(Layout::V1)),
            Phase::Leaving | Phase::Parting => self.conclude(false),
            Phase::Answering { goodbye } => self.conclude(goodbye),
            Phase::Refusing(_) | Phase::Opening | Phase::Judging { .. } => self.finish(),
            Phase::Proving => self.leave_unproven(ResultCode::OK),
            Phase::Concluding { .. } | Phase::Finishing => {}
        }
    }

    /// The peer asks no more, but answers what it has accepted of ours, up to `last_id`, perhaps behind this.
    pub(super) fn take_goodbye(&mut self, last_id: u32) {
        if let Some(calls) = &mut self.open_calls {
            calls.asked.forget_behind(last_id);
        }
        if self.waits_for_replies() {
            self.goodbye(ResultCode::OK);
            if self.phase == Phase::Leaving {
                self.phase = Phase::Parting;
            }
        } else if !matches!(self.phase, Phase::Answering { .. }) {
            self.answer_last(matches!(self.phase, Phase::Open | Phase::Administering(_)));
        }
    }

    /// Nothing more comes behind both goodbyes once nobody waits for a reply.
    #[inline]
    pub(super) fn part(&mut self) {
        if self.phase == Phase::Parting && !self.waits_for_replies() {
            self.answer_last(false);
        }
    }

    /// The peer has said goodbye, and we ask nothing. If it is still owed answers, it may say how it takes them.
    fn answer_last(&mut self, goodbye: bool) {
        if self.owed() > 0 {
            self.phase = Phase::Answering { goodbye };
        } else {
            self.conclude(goodbye);
        }
    }

    fn waits_for_replies(&self) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| calls.asked.is_waited_for())
    }

    /// Takes nothing more, and ends once everything accepted is answered.
    pub(super) fn conclude(&mut self, goodbye: bool) {
        self.decoder.expect_nothing();
        self.partial = None;
        self.phase = Phase::Concluding { goodbye };
        self.drop_unclaimed();
        self.end_credit();
        self.settle();
    }

    /// Finishes if the peer's last call has its answer and that was all that was missing.
    #[inline]
    pub(super) fn settle(&mut self) {
        let (Phase::Concluding { goodbye } | Phase::Answering { goodbye }) = self.phase else { return };
        if self.owed() > 0 {
            return;
        }
        self.push_pong();
        if goodbye {
            self.push_frame(Kind::Goodbye, 0, 0, self.last_id, ResultCode::OK.code(), &[]);
        }
        self.finish();
    }

    /// The peer sends no more; call this when there is no [backlog](Connection::has_backlog). A
    /// partial frame is dropped. What is ready still goes out; classic peers, whose only way to
    /// end in order this is, also get what they are owed.
    pub fn end_of_input(&mut self) {
        self.let_go();
        if self.is_finishing() {
            return;
        }
        self.lost = None;
        if !std::mem::take(&mut self.flow.stash).is_empty() {
            self.flow.fail(ProtocolError::CutOff);
        }
        match self.layout() {
            Some(Layout::Classic) => self.conclude(false),
            // It had said that it sends no more.
            Some(Layout::V1) => match self.phase {
                Phase::Parting => self.conclude(false),
                Phase::Answering { goodbye } => self.conclude(goodbye),
                _ => self.finish(),
            },
            None => self.finish(),
        }
    }

    /// Nothing more is taken; what is in the outbox still goes out.
    #[cold]
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Finishing;
        self.decoder.expect_nothing();
        self.pong_owed = None;
        self.partial = None;
        self.drop_unclaimed();
        self.drop_owed();
    }

    /// Ends the connection for a reason that is the peer's fault or a limit's; it is told.
    #[cold]
    pub(super) fn fail(&mut self, fatal: Fatal) {
        let Fatal { error, answer_to } = fatal;
        if error.is_hopeless() {
            return self.abandon(error);
        }
        if self.is_over() {
            return;
        }
        match (answer_to, self.layout(), self.phase) {
            (Some(msg_type), ..) if self.role == Role::Responder => {
                self.answer_classic(msg_type, error.rc());
            }
            (
                _,
                Some(Layout::V1),
                Phase::Proving
                | Phase::Open
                | Phase::Administering(_)
                | Phase::Leaving
                | Phase::Parting
                | Phase::Answering { .. }
                | Phase::Concluding { .. },
            ) => {
                let text = error.to_string();
                let text = &text[..text.floor_char_boundary(self.allowance.max_payload as usize)];
                let flags = if text.is_empty() { 0 } else { flags::TEXT };
                self.push_frame(Kind::Goodbye, flags, 0, self.last_id, error.rc().code(), text.as_bytes());
            }
            (_, None, Phase::Opening | Phase::Judging { .. })
                if self.role == Role::Responder && speaks_hello(&error) =>
            {
                self.push_answer(error.rc(), 0, error.to_string());
            }
            _ => {}
        }
        self.finish();
        self.flow.fail(error);
    }

    /// Ends. `first`: the first bytes of what was not handled, which in the classic layout, where only
    /// replies can be sent, is answered with the reason.
    pub(super) fn end_for(&mut self, error: ProtocolError, first: Option<&[u8; 4]>) {
        let is_next = self.layout() == Some(Layout::Classic) && self.owed() == 0;
        self.fail(Fatal { error, answer_to: first.filter(|_| is_next).map(classic::msg_type) });
    }

    /// Gives back all the memory of what came and was not handled yet, and ends for that reason. The
    /// peer is told so.
    pub fn shed(&mut self, error: ProtocolError) {
        let first = std::mem::take(&mut self.flow.stash).first_chunk().copied();
        self.lost = None;
        self.end_for(error, first.as_ref());
    }

    /// Ends the connection without a word, since the peer does not read.
    #[cold]
    pub(super) fn abandon(&mut self, error: ProtocolError) {
        self.finish();
        self.discard_output();
        self.flow.fail(error);
    }
}

/// Whether a responder that has seen no whole hello yet answers this with one: it does unless
/// nobody there would understand it.
fn speaks_hello(error: &ProtocolError) -> bool {
    !matches!(
        error,
        ProtocolError::OtherProtocol(_)
            | ProtocolError::NotSidewire(_)
            | ProtocolError::ClassicServer
            | ProtocolError::TimedOut(_)
            | ProtocolError::CutOff
    )
}
