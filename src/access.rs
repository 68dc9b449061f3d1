//! Policy: who may talk to whom. The facts come from the platform layer.

use std::fmt;
use std::io;

use sidewire_platform::{Credentials, Peer, User, current_integrity, current_user};

/// Who may be at the other end of a connection.
///
/// Servers hold every client to it before the first byte is parsed, clients hold the server to
/// it before the first byte is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Processes of the same user, by the kernel's word; root and SYSTEM always may. Transports
    /// without such a word (TCP) can't be used with it. Of a mailslot it holds for this machine only:
    /// before Windows 11 24H2 and Server 2025, other machines may be able to write into it.
    #[default]
    SameUser,
    /// Any process that reaches the endpoint. A Unix socket gets mode 0666, a named pipe may be
    /// opened by everyone.
    Anyone,
}

/// Who we are, looked up once for each listener or client.
#[derive(Clone, Debug)]
pub(crate) struct OwnIdentity {
    user: User,
    integrity: Option<u32>,
}

impl fmt::Display for OwnIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(f)
    }
}

impl OwnIdentity {
    pub(crate) fn look_up() -> io::Result<OwnIdentity> {
        Ok(OwnIdentity { user: current_user()?, integrity: current_integrity() })
    }

    #[cfg(test)]
    pub(crate) fn of(user: User) -> OwnIdentity {
        OwnIdentity { user, integrity: None }
    }

    /// Whether that is our own user, and nobody else.
    pub(crate) fn is(&self, user: &User) -> bool {
        user.is_known() && *user == self.user
    }

    /// Whether that is our own user, or root or SYSTEM.
    pub(crate) fn is_one_of_us(&self, user: &User) -> bool {
        user.is_known() && (*user == self.user || user.is_superuser())
    }
}

/// Why somebody may not talk to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The kernel does not say who it is, or not clearly enough.
    Unknown,
    OtherUser(User),
    LowerIntegrity {
        theirs: Option<u32>,
        ours: u32,
    },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Unknown => f.write_str("the system does not say whose process it is"),
            Denied::OtherUser(user) => write!(f, "it belongs to another user ({user})"),
            Denied::LowerIntegrity { theirs: Some(theirs), ours } => {
                write!(f, "its integrity level is {theirs:#x}, ours {ours:#x}")
            }
            Denied::LowerIntegrity { theirs: None, ours } => {
                write!(f, "its integrity level is unknown, ours is {ours:#x}")
            }
        }
    }
}

impl Access {
    /// Whether it can only be kept where the kernel vouches for the peer.
    pub(crate) fn needs_credentials(self) -> bool {
        self == Access::SameUser
    }

    /// Whether `client` may talk to a server that is `us`.
    pub(crate) fn admits_client(
        self,
        client: &Peer,
        us: &OwnIdentity,
        lower_integrity: bool,
    ) -> Result<(), Denied> {
        self.admits(client, us)?;
        self.admits_integrity(client, us, lower_integrity)
    }

    /// Whether a client that is `us` may talk to `server`. A process of the same user with a lower
    /// integrity may have set up its pipe where ours was expected.
    pub(crate) fn admits_server(
        self,
        server: &Peer,
        us: &OwnIdentity,
        lower_integrity: bool,
    ) -> Result<(), Denied> {
        self.admits(server, us)?;
        // What belongs to the system was made by nobody below us, whatever its label lets in.
        let is_superuser = server.credentials().is_some_and(|credentials| credentials.user().is_superuser());
        self.admits_integrity(server, us, lower_integrity || is_superuser)
    }

    fn admits_integrity(self, peer: &Peer, us: &OwnIdentity, lower: bool) -> Result<(), Denied> {
        let (Access::SameUser, Some(ours), false) = (self, us.integrity, lower) else {
            return Ok(());
        };
        let theirs = peer.credentials().and_then(Credentials::integrity);
        if theirs.is_some_and(|theirs| theirs >= ours) {
            Ok(())
        } else {
            Err(Denied::LowerIntegrity { theirs, ours })
        }
    }

    fn admits(self, peer: &Peer, us: &OwnIdentity) -> Result<(), Denied> {
        if self == Access::Anyone {
            return Ok(());
        }
        match peer.credentials().map(Credentials::user) {
            Some(user) if us.is_one_of_us(user) => Ok(()),
            Some(user) if user.is_known() => Err(Denied::OtherUser(user.clone())),
            _ => Err(Denied::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, integrity: Option<u32>) -> Peer {
        Peer::new(Some(Credentials::new(User::Uid(uid), None, integrity)), None)
    }

    #[test]
    fn same_user_and_root_may_and_nobody_else() {
        let us = OwnIdentity { user: User::Uid(1000), integrity: None };
        for (uid, may) in [(1000, true), (0, true), (1001, false), (65534, false)] {
            assert_eq!(Access::SameUser.admits_client(&peer(uid, None), &us, false).is_ok(), may, "{uid}");
            assert_eq!(Access::SameUser.admits_server(&peer(uid, None), &us, false).is_ok(), may, "{uid}");
            assert!(Access::Anyone.admits_client(&peer(uid, None), &us, false).is_ok());
        }
        assert_eq!(Access::SameUser.admits_client(&Peer::default(), &us, false), Err(Denied::Unknown));
    }

    #[test]
    fn the_overflow_uid_never_matches_itself() {
        let us = OwnIdentity { user: User::Uid(65534), integrity: None };
        assert_eq!(Access::SameUser.admits_client(&peer(65534, None), &us, false), Err(Denied::Unknown));
    }

    #[test]
    fn lower_integrity_needs_an_option() {
        let us = OwnIdentity { user: User::Uid(1000), integrity: Some(0x2000) };
        for (theirs, may) in
            [(Some(0x1000), false), (Some(0x2000), true), (Some(0x3000), true), (None, false)]
        {
            let theirs = peer(1000, theirs);
            assert_eq!(Access::SameUser.admits_client(&theirs, &us, false).is_ok(), may);
            assert_eq!(Access::SameUser.admits_server(&theirs, &us, false).is_ok(), may);
            assert!(Access::SameUser.admits_client(&theirs, &us, true).is_ok());
            assert!(Access::SameUser.admits_server(&theirs, &us, true).is_ok());
            assert!(Access::Anyone.admits_server(&theirs, &us, false).is_ok());
        }
        // Root's, or SYSTEM's: nobody else can have made it.
        assert!(Access::SameUser.admits_server(&peer(0, Some(0x1000)), &us, false).is_ok());
        assert!(Access::SameUser.admits_client(&peer(0, Some(0x1000)), &us, false).is_err());
    }
}
