//! A token, which both sides prove to know: the responder in its hello, the initiator in a frame behind that.

use std::fmt;

use super::{Connection, Phase};
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{self, Header, Kind};
use crate::hello::{self, Answer, Hello};
use crate::memory;
use crate::rc::ResultCode;
use crate::token::{CLIENT, PROOF_LEN, SERVER};

/// What is kept until the other side has proved that it knows the token.
pub(super) enum Proving {
    /// Our hello as it was sent, of which the responder's proof is.
    Asked(Vec<u8>),
    /// What the initiator's proof has to be, and its hello, which counts from then on.
    Answered { proof: [u8; PROOF_LEN], hello: Box<Hello> },
}

/// What a proof has to be is nobody's business before it has come.
impl fmt::Debug for Proving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proving(..)")
    }
}

/// Bytes of the frame with the initiator's proof.
const PROOF_FRAME: usize = frame::HEADER_LEN + PROOF_LEN;
/// The longest hello of an initiator that has to prove something: together with that it is 1,024 bytes.
const MAX_HELLO: usize = hello::MAX_LEN - PROOF_FRAME;

impl Connection {
    /// Keeps our hello, which is all that is in the outbox, if the responder is to prove something.
    pub(super) fn expect_proof(&mut self) {
        if self.flow.settings.token.is_some() {
            let ours = self.flow.outbox.bytes().clone();
            self.prove_later(Proving::Asked(ours));
        }
    }

    fn prove_later(&mut self, proving: Proving) {
        self.open_calls.get_or_insert_default().proving = Some(Box::new(proving));
    }

    fn proving(&mut self) -> Option<Proving> {
        Some(*self.open_calls.as_mut()?.proving.take()?)
    }

    /// Answers an initiator that has to prove that it knows the token, with our own proof. What it sends behind is its
    /// proof, or nothing that is taken.
    pub(super) fn ask_for_proof(
        &mut self,
        bytes: &[u8],
        theirs: Hello,
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        if bytes.len() > MAX_HELLO {
            return Err(ProtocolError::BadHello("longer than 976 bytes where a token is asked for"));
        }
        let Some(token) = self.flow.settings.token.clone() else { return Ok(None) };
        let nonce = (self.flow.settings.nonce)();
        if nonce == [0; 16] {
            return Err(ProtocolError::NoRandomness);
        }
        let version = hello::common_version(theirs.versions).unwrap_or(hello::VERSIONS.1);
        let blank = Some([0; PROOF_LEN]);
        let answer = Answer { proof: blank, ..self.answer(ResultCode::OK, version, String::new()) };
        if !self.push_hello(&answer, nonce) {
            return Ok(None);
        }
        // Nothing else has been said so far.
        let ours = self.flow.outbox.bytes();
        let proof = token.prove(&[SERVER, bytes, ours]);
        hello::set_proof(ours, proof);
        let proof = token.prove(&[CLIENT, bytes, ours]);
        self.prove_later(Proving::Answered { proof, hello: Box::new(theirs) });
        self.phase = Phase::Proving;
        self.decoder.expect_v1(PROOF_LEN as u32);
        // Read it apart from what is behind it: until it is right nobody wants that, nor what is attached to it.
        self.expects_large = true;
        Ok(None)
    }

    /// What has come of it, and how much is missing.
    pub(super) fn take_proof_so_far(&mut self) -> Option<(Vec<u8>, usize)> {
        let missing = PROOF_FRAME.checked_sub(self.flow.stash.len()).filter(|missing| *missing > 0)?;
        let mut partial = std::mem::take(&mut self.flow.stash);
        if memory::reserve_exact(&mut partial, missing).is_err() {
            self.fail(ProtocolError::NoMemory("the proof of a token").into());
            return None;
        }
        Some((partial, missing))
    }

    /// Ends before the initiator has proved anything. It may have, and have sent requests: none of them was executed.
    pub(super) fn leave_unproven(&mut self, rc: ResultCode) {
        self.push_frame(Kind::Goodbye, 0, 0, 0, rc.code(), &[]);
        if !self.is_over() {
            self.finish();
        }
    }

    /// The first frame of an initiator that has to prove something.
    pub(super) fn take_proof(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        let (Some(token), Some(Proving::Answered { proof, hello })) =
            (self.flow.settings.token.clone(), self.proving())
        else {
            return Err(ProtocolError::Unproven);
        };
        let is_right = header.kind == Kind::Auth as u8
            && header.flags == 0
            && <&[u8; PROOF_LEN]>::try_from(payload).is_ok_and(|theirs| token.is_same(&proof, theirs));
        if !is_right {
            return Err(ProtocolError::Unproven);
        }
        if self.open_calls.as_ref().is_some_and(|calls| calls.parcels.is_none()) {
            self.open_calls = None;
        }
        self.partial = None;
        self.expects_large = false;
        self.phase = Phase::Opening;
        self.agree_on_attachments(&hello);
        self.open(hello.allowance);
        Ok(Some(Event::Greeted(hello)))
    }

    /// Holds a responder to what its hello proves, and proves the same to it; `bytes` is all of that hello.
    pub(super) fn prove(&mut self, bytes: &[u8], answer: &Answer) -> Result<(), ProtocolError> {
        let Some(token) = self.flow.settings.token.clone() else {
            return if answer.proof.is_none() { Ok(()) } else { Err(ProtocolError::TokenNeeded) };
        };
        let (Some(theirs), Some(Proving::Asked(ours))) = (answer.proof, self.proving()) else {
            return Err(ProtocolError::NoProof);
        };
        let mut unproven = bytes.to_vec();
        hello::clear_proof(&mut unproven);
        if !token.is_same(&token.prove(&[SERVER, &ours, &unproven]), &theirs) {
            return Err(ProtocolError::WrongProof);
        }
        let proof = token.prove(&[CLIENT, &ours, bytes]);
        self.push_frame(Kind::Auth, 0, 0, 0, 0, &proof);
        Ok(())
    }
}
