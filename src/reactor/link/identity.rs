//! Who is at the other end of a link, and whether they may be.

use std::io;
use std::time::Instant;

use sidewire_platform::Peer;

use super::super::site::{Admission, Refusals, Site};
use super::super::system::{StreamIo, System};
use super::{Link, Quota};
use sidewire_wire::Fact;

impl<Y: System> Link<Y> {
    /// Asks the system who is there, and holds them to the listener's policy. `heard`: something was
    /// read. Some systems tell only then; until then this is `Ok`, and the link asks again. Of whom
    /// the system doesn't tell even then is nobody in particular, who may be admitted, too.
    #[inline]
    pub(crate) fn identify(
        &mut self,
        site: &Site,
        refusals: &mut Refusals,
        now: Instant,
        heard: bool,
    ) -> io::Result<()> {
        match self.peer {
            Some(_) => Ok(()),
            None => self.identify_now(site, refusals, now, heard),
        }
    }

    fn identify_now(
        &mut self,
        site: &Site,
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
            match site.identify(&peer, &self.stream, unknown.as_ref(), &mut self.protocol, refusals, now) {
                Admission::Admitted => self.quota = Quota::CountedForPeer,
                Admission::Refused if heard => self.quota = Quota::RefusedLate,
                Admission::Refused => self.quota = Quota::Refused,
                Admission::Dropped => self.tell(Fact::Broken),
            }
        }
        self.peer = Some(peer);
        self.prepare_to_fetch(site);
        Ok(())
    }
}

/// Whether the system doesn't say who is there.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied)
}
