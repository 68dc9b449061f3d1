//! Who is at the other end of a link, and whether they may be.

use std::io;
use std::time::Instant;

use sidewire_platform::Peer;

use super::super::acceptor::{Admission, Site};
use super::{Link, Seat};
use sidewire_wire::Fact;

impl Link {
    /// Asks the system who is there, and holds them to the listener's policy. `heard`: something was
    /// read. Some systems tell only then; until then this is `Ok`, and the link asks again. Of whom
    /// the system doesn't tell even then is nobody in particular, who may be admitted, too.
    #[inline]
    pub(crate) fn identify(
        &mut self,
        site: &Site,
        refusing: &mut usize,
        now: Instant,
        heard: bool,
    ) -> io::Result<()> {
        match self.peer {
            Some(_) => Ok(()),
            None => self.identify_now(site, refusing, now, heard),
        }
    }

    fn identify_now(
        &mut self,
        site: &Site,
        refusing: &mut usize,
        now: Instant,
        heard: bool,
    ) -> io::Result<()> {
        let (peer, unknown) = match self.ask(heard) {
            Ok(peer) => (peer, None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !heard => return Ok(()),
            Err(error) if is_silence(&error) => (Peer::default(), Some(error)),
            Err(error) => {
                self.tell(Fact::Broken);
                return Err(error);
            }
        };
        if !self.refused {
            match site.identify(&peer, unknown.as_ref(), &mut self.protocol, refusing, now) {
                Admission::Admitted => self.seat = Seat::Shared,
                Admission::Refused => self.refused = true,
                Admission::Dropped => self.tell(Fact::Broken),
            }
        }
        self.peer = Some(peer);
        Ok(())
    }

    #[cfg(not(test))]
    fn ask(&self, _heard: bool) -> io::Result<Peer> {
        self.stream.peer()
    }

    /// As a system would that tells late or never.
    #[cfg(test)]
    fn ask(&self, heard: bool) -> io::Result<Peer> {
        match tests::TELLS.get() {
            tests::Tells::AtOnce => self.stream.peer(),
            tests::Tells::Late if heard => self.stream.peer(),
            tests::Tells::Late => Err(io::ErrorKind::WouldBlock.into()),
            tests::Tells::Never(kind) if heard => Err(kind.into()),
            tests::Tells::Never(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Whether the system doesn't say who is there.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
#[allow(clippy::missing_const_for_thread_local, reason = "it is const; clippy for Windows looks behind it")]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use sidewire_platform::{Channel, Endpoint};

    use super::*;
    use crate::limits::MAX_REFUSING;
    use crate::random::random_id;
    use crate::server::{Listen, Server};
    use crate::{Access, Counters};
    use sidewire_wire::ResultCode;

    /// When the system tells who a client is.
    #[derive(Clone, Copy)]
    pub(super) enum Tells {
        AtOnce,
        /// As Windows does of the clients of a pipe: once something was read.
        Late,
        /// Not even then, but an error of this kind.
        Never(io::ErrorKind),
    }

    thread_local! {
        /// What the loop on this thread is told.
        pub(super) static TELLS: Cell<Tells> = const { Cell::new(Tells::AtOnce) };
    }

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
    const TURN: Option<Duration> = Some(Duration::from_millis(20));

    /// A server on this thread that counts what gets as far as its handler.
    fn serve(tells: Tells, access: Access) -> (Server<u32>, Endpoint, Counters) {
        TELLS.set(tells);
        let mut server = Server::new(0);
        server.on(1, |count: &mut u32, request, reply| {
            *count += 1;
            reply.write(request.peer().to_string().as_bytes());
            Ok(())
        });
        let name = random_id().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let listen = Listen::on(format!("local:sw-{name}")).expect("an endpoint").access(access);
        let bound = server.listen(listen).expect("listen");
        let counters = server.counters();
        (server, bound, counters)
    }

    /// A client that has sent a classic request.
    fn ask(endpoint: &Endpoint) -> Channel {
        let channel = Channel::connect(endpoint, PATIENCE).expect("connect");
        let request: Vec<u8> = [1i32, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(channel.send(&request, PATIENCE).expect("send"), 12);
        channel
    }

    /// The answer's result code and payload; `None` if the connection ends without one.
    fn answer(server: &mut Server<u32>, channel: &Channel) -> Option<(i32, String)> {
        let mut bytes = Vec::new();
        for _ in 0..500 {
            server.turn(TURN).expect("turn");
            match channel.recv_append(&mut bytes, 4096, Some(Duration::from_millis(1))) {
                Ok(0) => return None,
                Ok(_) if bytes.len() >= 12 => {
                    let rc = i32::from_ne_bytes(bytes[4..8].try_into().expect("four bytes"));
                    return Some((rc, String::from_utf8_lossy(&bytes[12..]).into_owned()));
                }
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}"),
            }
        }
        panic!("neither an answer nor an end");
    }

    #[test]
    fn who_is_known_late_is_held_to_the_policy_all_the_same() {
        let (mut server, bound, _) = serve(Tells::Late, Access::SameUser);
        let (rc, peer) = answer(&mut server, &ask(&bound)).expect("an answer");
        assert_eq!((rc, peer.starts_with("pid ")), (0, true), "{peer}");
        assert_eq!(*server.state(), 1);
    }

    #[test]
    fn who_stays_unknown_is_refused_with_a_word() {
        for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::PermissionDenied] {
            let (mut server, bound, _) = serve(Tells::Never(kind), Access::SameUser);
            let (rc, _) = answer(&mut server, &ask(&bound)).expect("an answer");
            assert_eq!((rc, *server.state()), (ResultCode::NOT_PERMITTED.code(), 0));
        }
    }

    #[test]
    fn who_stays_unknown_is_anyone() {
        let (mut server, bound, _) = serve(Tells::Never(io::ErrorKind::PermissionDenied), Access::Anyone);
        let answer = answer(&mut server, &ask(&bound));
        assert_eq!((answer, *server.state()), (Some((0, "unknown peer".into())), 1));
    }

    /// Nor is anything done for those who are too many to be told.
    #[test]
    fn nothing_is_done_for_who_is_refused_late() {
        let (mut server, bound, counters) = serve(Tells::Never(io::ErrorKind::WouldBlock), Access::SameUser);
        let mut waiting = Vec::new();
        for _ in 0..MAX_REFUSING {
            let channel = Channel::connect(&bound, PATIENCE).expect("connect");
            // Too little to be answered.
            channel.send(&[1], PATIENCE).expect("send");
            server.turn(TURN).expect("turn");
            waiting.push(channel);
        }
        for _ in 0..10 {
            let answer = answer(&mut server, &ask(&bound));
            assert!(answer.is_none_or(|(rc, _)| rc == ResultCode::NOT_PERMITTED.code()));
        }
        assert_eq!((*server.state(), counters.requests()), (0, 0));
        drop(waiting);
    }
}
