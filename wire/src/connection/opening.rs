//! How a connection begins: a hello each way, or "no".

use std::time::Instant;

use super::time::Partial;
use super::{Connection, Phase};
use crate::classic;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::hello::{self, Allowance, Answer, Hello};
use crate::layout::Layout;
use crate::limits::MAX_CREDIT;
use crate::rc::ResultCode;
use crate::settings::Attachments;
use crate::task::Task;

impl Connection {
    /// Answers whoever is there with `rc` as soon as the first four bytes tell in what layout,
    /// and ends. Only before anything was received.
    pub fn refuse(&mut self, rc: ResultCode, now: Instant) {
        self.phase = Phase::Refusing(rc);
        self.partial = Some(Box::new(Partial::since(now)));
    }

    /// Tells a refused peer so, in the layout that its first four bytes announce.
    pub(super) fn answer_refusal(&mut self, first: [u8; 4], rc: ResultCode) {
        if first == hello::MAGIC {
            self.push_answer(rc, 0, String::new());
        } else {
            self.decoder.learn(Layout::Classic);
            self.answer_classic(classic::msg_type(&first), rc);
        }
        self.finish();
    }

    pub(super) fn take_hello(&mut self, bytes: &[u8]) -> Result<Option<Event<'static>>, ProtocolError> {
        let theirs = Hello::decode(bytes)?;
        if let Some(task) = theirs.task()? {
            return self.take_task(task, theirs);
        }
        if self.flow.settings.token.is_some() {
            return self.ask_for_proof(bytes, theirs);
        }
        self.welcome(theirs.versions);
        self.agree_on_attachments(&theirs);
        self.open(theirs.allowance);
        Ok(Some(Event::Greeted(theirs.into())))
    }

    fn welcome(&mut self, theirs: (u8, u8)) {
        let version = hello::common_version(theirs).unwrap_or(hello::VERSIONS.1);
        self.push_answer(ResultCode::OK, version, String::new());
    }

    /// Who asks for this is judged by our owner.
    fn take_task(&mut self, task: Task, theirs: Hello) -> Result<Option<Event<'static>>, ProtocolError> {
        if self.flow.settings.token.is_some() {
            return Err(ProtocolError::NotGranted(format!("where a token is asked for nobody may {task}")));
        }
        if !self.flow.settings.grants.include(task) {
            return Err(ProtocolError::NotGranted(format!("this server is not to be asked to {task}")));
        }
        self.phase = Phase::Judging { task, versions: theirs.versions };
        self.allowance = theirs.allowance;
        self.decoder.expect_nothing();
        Ok(Some(Event::Asks { task, hello: theirs.into() }))
    }

    /// Grants what the hello [asks for](Event::Asks): the connection is open.
    pub fn grant(&mut self) {
        let Phase::Judging { task, versions } = self.phase else { return };
        self.welcome(versions);
        self.open(self.allowance);
        if !self.is_over() {
            self.phase = Phase::Administering(task);
        }
    }

    /// Denies it: the initiator is told why, and the connection is over.
    #[inline]
    pub fn deny(&mut self, why: &str) {
        if let Phase::Judging { .. } = self.phase {
            self.end_denied(why);
        }
    }

    #[cold]
    fn end_denied(&mut self, why: &str) {
        self.fail(ProtocolError::NotGranted(why.to_owned()).into());
    }

    pub(super) fn take_answer(&mut self, bytes: &[u8]) -> Result<Option<Event<'static>>, ProtocolError> {
        let (mut theirs, answer) = Hello::decode_answer(bytes)?;
        theirs.instance = Some(answer.instance);
        match answer.status {
            ResultCode::OK if (hello::VERSIONS.0..=hello::VERSIONS.1).contains(&answer.version) => {
                self.prove(bytes, &answer)?;
                self.agree_on_attachments(&theirs);
                self.open(theirs.allowance);
                theirs.check_answer()?;
                Ok(Some(Event::Opened(theirs.into())))
            }
            ResultCode::OK => Err(ProtocolError::BadHello("it chooses a version that was not offered")),
            ResultCode::NO_COMMON_VERSION => {
                Err(ProtocolError::NoCommonVersion { ours: hello::VERSIONS, theirs: theirs.versions })
            }
            rc => Err(ProtocolError::Refused { rc, text: answer.text }),
        }
    }

    pub(super) fn open(&mut self, allowance: Allowance) {
        self.allowance = Allowance { stream_credit: allowance.stream_credit.min(MAX_CREDIT), ..allowance };
        self.decoder.expect_v1(self.flow.settings.limits.max_payload);
        if self.phase == Phase::Opening {
            self.phase = self.flow.settings.asks.map_or(Phase::Open, Phase::Administering);
        }
    }

    pub(super) fn our_allowance(&self) -> Allowance {
        let limits = &self.flow.settings.limits;
        Allowance {
            max_payload: limits.max_payload,
            max_in_flight: limits.max_in_flight,
            max_in_flight_bytes: limits.max_in_flight_bytes,
            stream_credit: limits.stream_credit,
        }
    }

    pub(super) fn push_answer(&mut self, status: ResultCode, version: u8, text: String) {
        let answer = self.answer(status, version, text);
        self.push_hello(&answer, (self.flow.settings.nonce)());
    }

    pub(super) fn answer(&self, status: ResultCode, version: u8, text: String) -> Answer {
        Answer { status, version, instance: self.flow.settings.instance, text, proof: None }
    }

    /// Says whether there was memory for it.
    pub(super) fn push_hello(&mut self, answer: &Answer, nonce: [u8; 16]) -> bool {
        if self.flow.outbox.reserve(hello::MAX_LEN).is_err() {
            self.abandon(ProtocolError::STARVED);
            return false;
        }
        let is_ok = answer.status.is_ok();
        let offered = if is_ok { self.attachments() } else { Attachments::Never };
        // Who is refused may be a stranger.
        let app = self.flow.settings.app.clone().filter(|_| is_ok);
        let mut ours = Hello::ours(self.our_allowance(), nonce, app);
        ours.offered = hello::offers(offered);
        ours.encode(Some(answer), self.flow.outbox.bytes());
        true
    }
}
