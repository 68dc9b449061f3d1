//! How a stream ends: facts in, the next step out. [`Ending`] says it in full.

#![allow(clippy::exhaustive_enums, reason = "an owner that does not know a step can't take it")]

use crate::frame;
use crate::protocol::Protocol;

/// Where a stream stands on its way to its end.
///
/// A socket that is closed with unread input is reset, and the reset can eat the last reply on its way
/// (tcp(7)). So whoever has said everything shuts its side down, throws away what still comes until the
/// peer has closed too or has had time enough, and only then closes. A transport without a half-close
/// can't say "that was all": there a peer that knows goodbyes closes first after them; for any other the
/// stream is closed behind a flush.
///
/// The owner tells each [`Fact`] as it learns of it, in any order and as often as it likes, and does what
/// the answer says. [`Fact::Said`], which [`Protocol::said`] knows, is told at the end of each piece of work.
/// [`Protocol::way`] says how the peer can learn of our end. Where a fact is not named,
/// nothing changes.
///
/// | state | fact | step | state then |
/// |---|---|---|---|
/// | any | `Said(Hopeless)` | `Close(Abruptly)` | over |
/// | any but over | `Broken` | `Close(Plainly)` | over |
/// | open | `PeerEnded` | `Continue` | its input has ended |
/// | open | `Said(AllOfOurs)` or `Said(All)`, half-close | `ShutDownWrite` | our output has ended |
/// | open | `Said(All)`, goodbyes | `Discard` | lingering |
/// | open | `Said(AllOfOurs)` or `Said(All)`, else | `Close(Flushed)` | over |
/// | our output has ended | `PeerEnded` | `Continue` | its input has ended |
/// | our output has ended | `Said(All)` | `Discard` | lingering |
/// | its input has ended | `Said(AllOfOurs)` or `Said(All)`, half-close | `Close(Flushed)` | over |
/// | its input has ended | `Said(AllOfOurs)` or `Said(All)`, else | `Close(Plainly)` | over |
/// | lingering | `PeerEnded`, half-close | `Close(Flushed)` | over |
/// | lingering | `PeerEnded`, else | `Close(Plainly)` | over |
/// | lingering | `TimeIsUp` | `Close(Plainly)` | over |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both directions are open.
    Open,
    /// The peer sends no more; what is ready still goes out.
    InputEnded,
    /// We send no more and have said so; the peer may go on.
    OutputEnded,
    /// Everything is said; what still comes is thrown away.
    Lingering,
    /// Nothing is left to be done but to close.
    Over(Close),
}

/// What an owner has learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The peer sends no more.
    PeerEnded,
    /// Reading, writing or shutting down has failed.
    Broken,
    /// How far we are.
    Said(Said),
    /// The peer has had [time enough](crate::Flow::linger_deadline) to close.
    TimeIsUp,
}

/// What has been said of what there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something waits to be sent, or may still be written.
    NotAll,
    /// All that will ever be written has left. The peer may go on.
    AllOfOurs,
    /// That, and nothing more is taken from the peer.
    All,
    /// The peer does not read: there is no point in anything.
    Hopeless,
}

/// How the peer can learn that everything was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The transport's directions end separately.
    HalfClose,
    /// They don't; but the peer knows goodbyes, and closes first after them.
    Goodbye,
    /// Only by the stream's end.
    Neither,
}

/// What the owner does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Goes on as before, with what [`Ending::input`] says about reading.
    Continue,
    /// Shuts writing down, and tells how far we are once more; or that this has failed.
    ShutDownWrite,
    /// Throws input away until the peer has ended its side or its time is up.
    Discard,
    /// Closes.
    Close(Close),
}

/// How a stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The system still delivers what is on its way.
    Flushed,
    /// Nobody waits for anything, or had time enough.
    Plainly,
    /// What was not delivered is lost.
    Abruptly,
}

/// What becomes of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is handled.
    Handles,
    /// It is thrown away.
    Discards,
    /// There is none any more.
    Rests,
}

impl Ending {
    /// Takes a fact in, and says what follows from it.
    #[inline]
    pub fn on(&mut self, fact: Fact, way: Way) -> Step {
        // The one that is told after every piece of work, and hardly ever means anything.
        if fact == Fact::Said(Said::NotAll) {
            return self.standing();
        }
        self.step(fact, way)
    }

    fn step(&mut self, fact: Fact, way: Way) -> Step {
        use Ending::{InputEnded, Lingering, Open, OutputEnded, Over};
        let (next, step) = match (*self, fact) {
            (_, Fact::Said(Said::Hopeless)) => return self.close(Close::Abruptly),
            (Over(close), _) => return Step::Close(close),
            (_, Fact::Broken) | (Lingering, Fact::TimeIsUp) => return self.close(Close::Plainly),
            (Open | OutputEnded, Fact::PeerEnded) => (InputEnded, Step::Continue),
            (Open, Fact::Said(Said::AllOfOurs | Said::All)) if way == Way::HalfClose => {
                (OutputEnded, Step::ShutDownWrite)
            }
            (Open, Fact::Said(Said::All)) if way == Way::Goodbye => (Lingering, Step::Discard),
            (Open, Fact::Said(Said::AllOfOurs | Said::All)) => return self.close(Close::Flushed),
            (OutputEnded, Fact::Said(Said::All)) => (Lingering, Step::Discard),
            (InputEnded, Fact::Said(Said::AllOfOurs | Said::All)) | (Lingering, Fact::PeerEnded) => {
                let close = if way == Way::HalfClose { Close::Flushed } else { Close::Plainly };
                return self.close(close);
            }
            (Open | InputEnded | OutputEnded | Lingering, _) => return self.standing(),
        };
        *self = next;
        step
    }

    fn close(&mut self, close: Close) -> Step {
        *self = Ending::Over(close);
        Step::Close(close)
    }

    /// What is to be done as long as no other fact is known.
    fn standing(self) -> Step {
        match self {
            Ending::Open | Ending::InputEnded | Ending::OutputEnded => Step::Continue,
            Ending::Lingering => Step::Discard,
            Ending::Over(close) => Step::Close(close),
        }
    }

    /// What becomes of input now.
    #[inline]
    #[must_use]
    pub fn input(self) -> Reading {
        match self {
            Ending::Open | Ending::OutputEnded => Reading::Handles,
            Ending::Lingering => Reading::Discards,
            Ending::InputEnded | Ending::Over(_) => Reading::Rests,
        }
    }

    /// Whether nothing is left to be done but to close.
    #[inline]
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Ending::Over(_))
    }
}

impl Protocol {
    /// How far we are, for [`Ending::on`].
    #[inline]
    #[must_use]
    pub fn said(&self) -> Said {
        if self.flow().is_hopeless() {
            return Said::Hopeless;
        }
        match (self.output_is_done(), self.is_finishing()) {
            (false, _) => Said::NotAll,
            (true, false) => Said::AllOfOurs,
            (true, true) => Said::All,
        }
    }

    /// How the peer can learn of our end on a transport that has, or lacks, a half-close.
    #[inline]
    #[must_use]
    pub fn way(&self, has_half_close: bool) -> Way {
        match has_half_close {
            true => Way::HalfClose,
            false if self.says_goodbye() => Way::Goodbye,
            false => Way::Neither,
        }
    }

    /// Whether nothing is left to be said but the answer to the peer's goodbye. Most do not wait for it, so
    /// that it is no loss if it can't be written.
    #[must_use]
    pub fn has_only_a_goodbye_left(&self) -> bool {
        self.says_goodbye()
            && self.is_finishing()
            && self.flow().failure().is_none()
            && self.flow().waiting() <= frame::HEADER_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [Way; 3] = [Way::HalfClose, Way::Goodbye, Way::Neither];
    const FACTS: [Fact; 7] = [
        Fact::PeerEnded,
        Fact::Broken,
        Fact::Said(Said::NotAll),
        Fact::Said(Said::AllOfOurs),
        Fact::Said(Said::All),
        Fact::Said(Said::Hopeless),
        Fact::TimeIsUp,
    ];

    /// The steps that these facts lead to, one after the other.
    fn steps(way: Way, facts: &[Fact]) -> Vec<Step> {
        let mut ending = Ending::Open;
        facts.iter().map(|fact| ending.on(*fact, way)).collect()
    }

    const ALL: Fact = Fact::Said(Said::All);
    const OURS: Fact = Fact::Said(Said::AllOfOurs);

    /// Who has been told everything gets time to read it.
    #[test]
    fn a_refusal_is_not_eaten_by_a_reset() {
        use Step::{Discard, ShutDownWrite};
        let flushed = Step::Close(Close::Flushed);
        assert_eq!(
            steps(Way::HalfClose, &[ALL, ALL, ALL, Fact::PeerEnded]),
            [ShutDownWrite, Discard, Discard, flushed]
        );
        assert_eq!(
            steps(Way::Goodbye, &[ALL, ALL, Fact::TimeIsUp]),
            [Discard, Discard, Step::Close(Close::Plainly)]
        );
        assert_eq!(steps(Way::Neither, &[ALL]), [flushed]);
    }

    #[test]
    fn a_peer_that_has_ended_first_gets_the_rest() {
        for (way, close) in WAYS.into_iter().zip([Close::Flushed, Close::Plainly, Close::Plainly]) {
            let not_all = Fact::Said(Said::NotAll);
            let expected = [Step::Continue, Step::Continue, Step::Close(close)];
            assert_eq!(steps(way, &[Fact::PeerEnded, not_all, ALL]), expected, "{way:?}");
        }
    }

    #[test]
    fn one_direction_can_outlive_the_other() {
        let ours_first = [OURS, OURS, Fact::PeerEnded, ALL];
        let expected = [Step::ShutDownWrite, Step::Continue, Step::Continue, Step::Close(Close::Flushed)];
        assert_eq!(steps(Way::HalfClose, &ours_first), expected);
    }

    /// Every row of the table, and that there is no other way from one state to another.
    #[test]
    fn every_fact_in_every_state() {
        use Ending::{InputEnded, Lingering, Open, OutputEnded, Over};
        let overs = [Close::Flushed, Close::Plainly, Close::Abruptly].map(Over);
        for (way, fact) in WAYS.into_iter().flat_map(|way| FACTS.map(|fact| (way, fact))) {
            let half_close = way == Way::HalfClose;
            let for_the_peer = Over(if half_close { Close::Flushed } else { Close::Plainly });
            for before in [Open, InputEnded, OutputEnded, Lingering].into_iter().chain(overs) {
                let expected = match (before, fact) {
                    (_, Fact::Said(Said::Hopeless)) => Over(Close::Abruptly),
                    (Over(_), _) => before,
                    (_, Fact::Broken) => Over(Close::Plainly),
                    (Open | OutputEnded, Fact::PeerEnded) => InputEnded,
                    (Lingering, Fact::PeerEnded) => for_the_peer,
                    (Lingering, Fact::TimeIsUp) => Over(Close::Plainly),
                    (InputEnded, ALL | OURS) => for_the_peer,
                    (Open, ALL | OURS) if half_close => OutputEnded,
                    (Open, ALL) if way == Way::Goodbye => Lingering,
                    (Open, ALL | OURS) => Over(Close::Flushed),
                    (OutputEnded, ALL) => Lingering,
                    _ => before,
                };
                let mut after = before;
                let step = after.on(fact, way);
                assert_eq!(after, expected, "{before:?}, {fact:?}, {way:?}");
                let shuts_down = before == Open && after == OutputEnded;
                assert_eq!(step == Step::ShutDownWrite, shuts_down, "{before:?}, {fact:?}, {way:?}");
                assert_eq!(step == Step::Discard, after == Lingering, "{before:?}, {fact:?}, {way:?}");
                if let Over(close) = after {
                    assert_eq!(step, Step::Close(close));
                }
            }
        }
    }

    /// Whatever is learnt in whatever order: writing is shut down at most once, and only where that can be;
    /// what is over stays over; and nobody waits for ever who hears that everything is said, and then of
    /// the peer's end or of the time.
    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn every_order_of_facts_comes_to_an_end() {
        const DEPTH: u32 = 6;
        for way in WAYS {
            for number in 0..FACTS.len().pow(DEPTH) {
                let fact = |place| FACTS[number / FACTS.len().pow(place) % FACTS.len()];
                let (mut ending, mut shut_downs) = (Ending::Open, 0);
                for place in 0..DEPTH {
                    let was_over = ending.is_over();
                    let step = ending.on(fact(place), way);
                    shut_downs += u32::from(step == Step::ShutDownWrite);
                    assert!(!was_over || matches!(step, Step::Close(_)));
                }
                assert!(shut_downs <= u32::from(way == Way::HalfClose));
                let _ = ending.on(ALL, way);
                let _ = ending.on(ALL, way);
                assert!(ending.is_over() || ending == Ending::Lingering);
                assert!(matches!(ending.on(Fact::TimeIsUp, way), Step::Close(_)));
            }
        }
    }
}
