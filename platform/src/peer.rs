//! Who is at the other end: facts as values, never text, and no policy.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::LazyLock;

use crate::os::overflow_id;

/// A user of this machine, as the kernel names one.
///
/// Both variants exist on every system so that programs need no `cfg`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum User {
    /// An effective user id (Unix).
    Uid(u32),
    /// A security identifier (Windows).
    Sid(Sid),
}

/// The id that Linux shows for users, and for groups, that have no mapping into the current user namespace
/// (user_namespaces(7)), unless `/proc/sys/kernel/overflowuid` or `overflowgid` has another. It names nobody in particular:
/// where another is set, this is the account of nobody.
const OVERFLOW_ID: u32 = 65534;

/// Those that are set, read once.
static SET_UID: LazyLock<Option<u32>> = LazyLock::new(|| overflow_id("overflowuid"));
static SET_GID: LazyLock<Option<u32>> = LazyLock::new(|| overflow_id("overflowgid"));

impl User {
    /// Whether this is the system's own all-powerful account: root, or `NT AUTHORITY\SYSTEM`; also
    /// `BUILTIN\Administrators`, which is nobody's own identity, but owns by default what elevated
    /// processes make, and what only they can make: they could as well act as SYSTEM.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        match self {
            User::Uid(uid) => *uid == 0,
            User::Sid(sid) => sid.is_local_system() || sid.is_administrators(),
        }
    }

    /// Whether this value can stand for one certain user. The kernel's overflow uid can not:
    /// in a user namespace every unmapped user, root included, reads as that one number.
    #[must_use]
    pub fn is_known(&self) -> bool {
        match self {
            User::Uid(uid) => *uid != OVERFLOW_ID && Some(*uid) != *SET_UID,
            User::Sid(_) => true,
        }
    }
}

/// `uid 1000`, or `S-1-5-21-…`.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Uid(uid) => write!(f, "uid {uid}"),
            User::Sid(sid) => sid.fmt(f),
        }
    }
}

/// A group of users of this machine, as the kernel names one.
///
/// Both variants exist on every system so that programs need no `cfg`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// A group id (Unix).
    Gid(u32),
    /// A security identifier (Windows), such as `S-1-5-32-545` for `BUILTIN\Users`.
    Sid(Sid),
}

impl Group {
    /// Whether this value can stand for one certain group; see [`User::is_known`].
    #[must_use]
    pub fn is_known(&self) -> bool {
        match self {
            Group::Gid(gid) => *gid != OVERFLOW_ID && Some(*gid) != *SET_GID,
            Group::Sid(_) => true,
        }
    }
}

/// `gid 1000`, or `S-1-5-32-545`.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Gid(gid) => write!(f, "gid {gid}"),
            Group::Sid(sid) => sid.fmt(f),
        }
    }
}

/// A Windows security identifier in its binary form (MS-DTYP 2.4.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sid(Box<[u8]>);

impl Sid {
    /// `S-1-AUTHORITY-SUB-SUB-…`: `Sid::new(5, &[32, 545])` is `BUILTIN\Users`, `Sid::new(5, &[4])` whoever
    /// has logged on at this machine (`INTERACTIVE`). `None` if the authority has more than 48 bits,
    /// or there are more than 15 of the others.
    #[must_use]
    pub fn new(authority: u64, sub_authorities: &[u32]) -> Option<Sid> {
        let [0, 0, authority @ ..] = authority.to_be_bytes() else { return None };
        let count = u8::try_from(sub_authorities.len()).ok()?;
        let mut bytes = vec![1, count];
        bytes.extend_from_slice(&authority);
        bytes.extend(sub_authorities.iter().flat_map(|sub| sub.to_le_bytes()));
        Sid::from_bytes(&bytes)
    }

    /// Takes the binary form: revision, count of sub-authorities, 6 bytes of authority
    /// (big-endian), then the sub-authorities (u32, little-endian). `None` if it is not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Sid> {
        let (&[revision, count], _) = bytes.split_first_chunk::<2>()?;
        (revision == 1 && count <= 15 && bytes.len() == 8 + 4 * usize::from(count)).then(|| Sid(bytes.into()))
    }

    /// The binary form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `S-1-5-18`.
    fn is_local_system(&self) -> bool {
        *self.0 == [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]
    }

    /// `S-1-5-32-544`.
    fn is_administrators(&self) -> bool {
        *self.0 == [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0]
    }
}

/// The text form, `S-1-5-21-…`.
impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0[2..8].iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        write!(f, "S-{}-{authority}", self.0[0])?;
        self.0[8..]
            .chunks_exact(4)
            .try_for_each(|sub| write!(f, "-{}", u32::from_le_bytes([sub[0], sub[1], sub[2], sub[3]])))
    }
}

/// What the kernel says about the process at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    user: User,
    /// No process has the id 0. Four bytes, like the next: a server may have ten thousand that say nothing.
    pid: Option<NonZeroU32>,
    /// The highest that there is, of protected processes, is 0x5000.
    integrity: Option<u16>,
}

impl Credentials {
    /// As a kernel would state them. A process id of 0 is none.
    #[must_use]
    pub const fn new(user: User, pid: Option<u32>, integrity: Option<u32>) -> Credentials {
        let pid = match pid {
            Some(pid) => NonZeroU32::new(pid),
            None => None,
        };
        let integrity = match integrity {
            Some(level) if level > u16::MAX as u32 => Some(u16::MAX),
            Some(level) => Some(level as u16),
            None => None,
        };
        Credentials { user, pid, integrity }
    }

    /// Whose process it is: the effective user at the time of connect(2) or listen(2), or the
    /// user of the token that a pipe client connected with; for a pipe's server, its owner; for a
    /// Unix datagram, its sender's real user unless root or the sender's own choice says otherwise.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Its process id, where the kernel tells. Good for logs, never for decisions: it may be
    /// reused by the time it is looked at.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid.map(NonZeroU32::get)
    }

    /// Windows: the client's mandatory integrity level (0x1000 low, 0x2000 medium, 0x3000 high,
    /// 0x4000 system); of a server, the level of the label on its pipe, below which no process can
    /// have set it up. `None` where there is no such thing.
    #[must_use]
    pub fn integrity(&self) -> Option<u32> {
        self.integrity.map(u32::from)
    }
}

/// A numeric address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A Unix socket that is bound to a path.
    Path(std::path::PathBuf),
    /// A Unix socket that is bound to an abstract name (bytes behind the NUL).
    Abstract(Vec<u8>),
    /// A Unix socket without a name, as clients usually are; also a pipe's client.
    Unnamed,
    /// A named pipe or a mailslot, by its full name.
    Pipe(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Path(path) => path.display().fmt(f),
            Address::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Address::Unnamed => f.write_str("unnamed"),
            Address::Pipe(name) => f.write_str(name),
        }
    }
}

/// The process at the other end of a connection, as far as the system tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    credentials: Option<Credentials>,
    /// Boxed, since an idle connection should cost little.
    address: Option<Box<SocketAddr>>,
}

impl Peer {
    /// Somebody of whom this much is known.
    #[must_use]
    pub fn new(credentials: Option<Credentials>, address: Option<SocketAddr>) -> Peer {
        Peer { credentials, address: address.map(Box::new) }
    }

    /// Somebody of whom nothing is known; the default, for constants.
    #[must_use]
    pub const fn unknown() -> Peer {
        Peer { credentials: None, address: None }
    }

    /// What the kernel says about it; `None` on TCP and UDP.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Its network address, on TCP and UDP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.as_deref().copied()
    }

    /// The same of a server that we have connected to, as one phrase: `uid 1000, opened by pid 4711`. The system
    /// names the process that has opened its socket: it may have been a service manager, for another one to serve.
    #[must_use]
    pub fn as_server(&self) -> impl fmt::Display {
        AsServer(self)
    }
}

struct AsServer<'a>(&'a Peer);

impl fmt::Display for AsServer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.credentials {
            Some(Credentials { user, pid: Some(pid), .. }) => write!(f, "{user}, opened by pid {pid}"),
            _ => self.0.fmt(f),
        }
    }
}

/// One phrase for log lines: `pid 4711, uid 1000`, or `127.0.0.1:40312`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.credentials, &self.address) {
            (Some(Credentials { user, pid: Some(pid), .. }), _) => write!(f, "pid {pid}, {user}"),
            (Some(Credentials { user, .. }), _) => user.fmt(f),
            (None, Some(address)) => address.fmt(f),
            (None, None) => f.write_str("unknown peer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sid_text_and_limits() {
        let system = Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]).unwrap();
        assert_eq!(system.to_string(), "S-1-5-18");
        assert!(User::Sid(system).is_superuser());
        for (group, text, may) in [(0x20, "S-1-5-32-544", true), (0x21, "S-1-5-32-545", false)] {
            let sid = Sid::from_bytes(&[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, group, 2, 0, 0]).unwrap();
            assert_eq!((sid.to_string().as_str(), User::Sid(sid).is_superuser()), (text, may));
        }
        assert_eq!(Sid::from_bytes(&[1, 2, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]), None);
        assert_eq!(Sid::from_bytes(&[1]), None);
        let users = Sid::new(5, &[32, 545]).unwrap();
        assert_eq!(users.to_string(), "S-1-5-32-545");
        assert_eq!(Sid::from_bytes(users.as_bytes()), Some(users));
        assert_eq!((Sid::new(1 << 48, &[]), Sid::new(5, &[0; 16])), (None, None));
    }

    /// Ten thousand idle connections have one each.
    #[test]
    fn credentials_are_small_and_keep_what_they_were_told() {
        assert!(size_of::<Option<Peer>>() <= 32, "{}", size_of::<Option<Peer>>());
        for (pid, integrity) in [(None, None), (Some(1), Some(0)), (Some(u32::MAX), Some(0x4000))] {
            let told = Credentials::new(User::Uid(0), pid, integrity);
            assert_eq!((told.pid(), told.integrity()), (pid, integrity));
        }
        assert_eq!(Credentials::new(User::Uid(0), Some(0), None).pid(), None);
    }

    #[test]
    fn overflow_uid_names_nobody() {
        assert!(!User::Uid(65534).is_known());
        assert!(User::Uid(0).is_known() && User::Uid(0).is_superuser());
        assert!(Group::Gid(0).is_known() && !Group::Gid(65534).is_known());
        assert!(overflow_id("overflowuid").is_none_or(|set| !User::Uid(set).is_known()));
        assert!(overflow_id("overflowgid").is_none_or(|set| !Group::Gid(set).is_known()));
    }
}
