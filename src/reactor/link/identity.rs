//! Who is at the other end of a link, and whether they may be.

use std::io;
use std::time::Instant;

use sidewire_platform::Peer;

use super::super::memory::Memory;
use super::super::parties::{Door, PartyId};
use super::super::site::{Admission, Refusals};
use super::super::source::Source;
use super::super::system::{StreamIo, System};
use super::{Link, PeerName, Quota};
use sidewire_wire::{Fact, ResultCode};

impl<Y: System> Link<Y> {
    /// Asks the system who is there, and holds them to the listener's policy. `heard`: something was
    /// read. Some systems tell only then; until then this is `Ok`, and the link asks again. Of whom
    /// the system doesn't tell even then is nobody in particular, who may be admitted, too.
    #[inline]
    pub(crate) fn identify(
        &mut self,
        at: &Source<Y>,
        memory: &mut Memory,
        refusals: &mut Refusals,
        now: Instant,
        heard: bool,
    ) -> io::Result<()> {
        match self.peer {
            Some(_) => Ok(()),
            None => self.identify_now(at, memory, refusals, now, heard),
        }
    }

    fn identify_now(
        &mut self,
        at: &Source<Y>,
        memory: &mut Memory,
        refusals: &mut Refusals,
        now: Instant,
        heard: bool,
    ) -> io::Result<()> {
        let (peer, unknown) = match self.stream.peer() {
            Ok(peer) => (peer, None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !heard => return Ok(()),
            Err(error) if is_silence(&error) => (Peer::default(), Some(error)),
            Err(error) => {
                self.tell(Fact::Broken);
                return Err(error);
            }
        };
        if !self.quota.is_refused() {
            let entered = at.site.admits(&peer, &self.stream, unknown.as_ref()).and_then(|()| {
                // One who is heard has had his place before anybody knew who he is.
                let taken = at.connections - usize::from(heard);
                let door = Door { source: at.number(), taken, rule: at.site.per_peer };
                memory.parties.enter(&peer, at.site.us(), door).map_err(|crowded| {
                    at.site.report_crowded(&peer, &crowded);
                    ResultCode::BUSY
                })
            });
            match entered {
                Ok(party) => self.join(party, memory),
                Err(rc) => {
                    match refusals.refuse((&at.site, PeerName(Some(&peer))), &mut self.protocol, rc, now) {
                        Admission::Refused if heard => self.quota = Quota::RefusedLate,
                        Admission::Refused => self.quota = Quota::Refused,
                        Admission::Dropped => self.tell(Fact::Broken),
                    }
                }
            }
        }
        self.peer = Some(peer);
        self.prepare_to_fetch(&at.site);
        Ok(())
    }

    /// Whether he who is here has proved by now that he knows the token that is asked for: then he is no stranger any more,
    /// whose account he shares with all who have not.
    #[inline(never)]
    pub(super) fn look_for_proof(&mut self, at: &Source<Y>, memory: &mut Memory) {
        // Handlers are told of him when he has.
        if at.site.unproven.is_none() || !self.opened || self.quota != Quota::CountedForPeer {
            return;
        }
        let stranger = self.party;
        if let Some(party) = memory.parties.prove(stranger, self.source) {
            self.join(party, memory);
            memory.parties.leave(stranger, self.source);
        }
    }

    /// From now on it is on this account, with what it holds.
    fn join(&mut self, party: PartyId, memory: &mut Memory) {
        memory.parties.account(self.party, self.accounted, 0);
        memory.parties.account(party, 0, self.accounted);
        (self.party, self.quota) = (party, Quota::CountedForPeer);
    }
}

/// Whether the system doesn't say who is there.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied)
}
