//! Policy: who may talk to whom. The facts come from the platform layer.

mod denied;
mod policy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sidewire_platform::{Endpoint, EndpointKind, Group, Peer, User};

use crate::error::{Error, Result};

pub(crate) use denied::Denied;
pub(crate) use policy::{Asked, NotAsked, OwnIdentity, Policy};

/// Who may be at the other end of a connection.
///
/// Servers hold every client to it before the first byte is parsed, clients hold the server to
/// it before the first byte is sent; once, when the connection begins. Who is there is always the kernel's word: a value,
/// never a text, and nothing that the peer says of itself.
///
/// What begins with `or_` lets in more users, what begins with `and_` asks more of each, in whatever order it is said:
///
/// ```
/// use sidewire::{Access, Group, User};
///
/// // Our own user, whatever the program: what holds if nothing is said.
/// let _ = Access::SameUser;
/// // One program, run by our own user.
/// let _ = Access::program("/usr/lib/example/editor");
/// // Our own user, another one, and the members of a group.
/// let _ = Access::SameUser.or_users([User::Uid(998)]).or_groups([Group::Gid(27)]);
/// // One user's processes, if the app says so, too.
/// let _ = Access::users([User::Uid(998)]).and_if("working hours", |_peer| true);
/// ```
///
/// An access that can't be kept fails when it is used, by [`Server::listen`](crate::Server::listen) or
/// [`Connect::open`](crate::Connect::open), with [`is_invalid_input`](crate::Error::is_invalid_input): it names nobody of
/// this system, or a program that is not there; or the endpoint does not tell what it asks for. Where the system
/// is too old, with [`is_unsupported`](crate::Error::is_unsupported).
///
/// # Platform-specific behavior
///
/// Who is meant must be able to reach the endpoint. Unix: a socket in the file system gets mode 0600; where others
/// are named, mode 0666, or 0660 and their group, if only one group is named, which the server may give files to; and
/// the check when they have connected is what keeps the rest out. `local:` lies in a folder that only its user can
/// enter: for others, use `unix:` or `abstract:`. Windows: a pipe's rights name exactly those who are named here.
/// `local:` has the user's SID in its name: for others, use `pipe:`.
///
/// Elevated processes and services on Windows: the pipe of an elevated server with [`Access::SameUser`] is for
/// elevated clients. To let in ordinary processes of the same user, name it ([`Access::users`] with [`current_user`]):
/// then the pipe's label is that of ordinary processes, and sandboxed ones (of low integrity) stay out.
/// [`Listen::lower_integrity`](crate::Listen::lower_integrity) lets those in, too. An elevated client does not take
/// an ordinary process' pipe for its server's unless it says
/// [`Connect::lower_integrity`](crate::Connect::lower_integrity), or names that user. A service (session 0, SYSTEM or
/// an account of its own) names its clients: `Access::groups([Group::Sid(Sid::new(5, &[4])…])` is whoever is logged
/// on at this machine. SYSTEM's own pipes are taken by every client; of a service with an account of its own they
/// name that account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What the functions here put together.
    Rules(Rules),
}

/// An [`Access`] that the functions there have put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(Arc<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    whose: Whose,
    program: Option<Program>,
    conditions: Vec<Condition>,
}

/// Whose processes may.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    Anyone,
    Named { same_user: bool, users: Vec<User>, groups: Vec<Group> },
}

/// Which program they have to run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    Own,
    At(PathBuf),
}

/// What the app asks of a peer.
#[derive(Clone)]
struct Condition {
    name: Arc<str>,
    holds: Arc<dyn Fn(&Peer) -> bool + Send + Sync>,
}

/// The user that this process runs as, as [`Access::users`] takes it.
///
/// # Errors
/// What the system says; none on Unix.
///
/// # Platform-specific behavior
/// Unix: the effective user id. Windows: the SID of the process's token.
pub fn current_user() -> Result<User> {
    sidewire_platform::current_user().map_err(|error| Error::system("ask who we are", error))
}

impl Access {
    /// Processes of these users, and of no others; root and SYSTEM always may. Our own user is one of
    /// them only if it is named.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the effective user when it called connect(2), or, of a server, listen(2). Windows: the user of the token
    /// that a client connected with; of a server, the owner of its pipe. Integrity levels are not compared (see
    /// above). Users that are named as on the other system, in a list for both, are nobody.
    pub fn users(users: impl IntoIterator<Item = User>) -> Access {
        Access::nobody().or_users(users)
    }

    /// Processes of users who are in one of these groups, and of no others; root and SYSTEM always may.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the groups of the process when it called connect(2), or, of a server, listen(2): not what the list of
    /// users says by now. Systems other than Linux tell the first one only. Windows: those that are enabled in a
    /// client's token, so that administrators are in theirs only where they are elevated; of a server nobody tells,
    /// so nobody is one of them. Over datagrams groups can't be used.
    pub fn groups(groups: impl IntoIterator<Item = Group>) -> Access {
        Access::nobody().or_groups(groups)
    }

    /// Processes of the same user that run this program. See [`and_program`](Access::and_program).
    pub fn program(path: impl Into<PathBuf>) -> Access {
        Access::SameUser.and_program(path)
    }

    /// Processes of the same user that run the program that we are. See [`and_program`](Access::and_program).
    #[must_use]
    pub fn same_program() -> Access {
        Access::SameUser.and_same_program()
    }

    /// The same, and processes of these users.
    #[must_use]
    pub fn or_users(self, users: impl IntoIterator<Item = User>) -> Access {
        self.with(|parts| {
            if let Whose::Named { users: named, .. } = &mut parts.whose {
                named.extend(users);
            }
        })
    }

    /// The same, and processes of users who are in one of these groups. See [`groups`](Access::groups).
    #[must_use]
    pub fn or_groups(self, groups: impl IntoIterator<Item = Group>) -> Access {
        self.with(|parts| {
            if let Whose::Named { groups: named, .. } = &mut parts.whose {
                named.extend(groups);
            }
        })
    }

    /// Those of them only that run this program: whose executable is the file at this absolute path, by whatever
    /// name, or was that file when we began to listen. So after an update by replacing the file both the old and the
    /// new one are let in, until we start again. The last program that is said counts.
    ///
    /// **What it does not stop.** It is looked at once, when the connection begins, at the process that has called
    /// connect(2) (of a server: listen(2)) or has opened the pipe. A process of the same user may trace that one, put
    /// code into it, start it with libraries or settings of its own, connect and then become that program by exec(2)
    /// while a child keeps the connection, or, on Windows, rename the file that it runs. So this keeps programs apart
    /// that mean well, and is a hurdle for others; what holds against them is another user. A script is run by its
    /// interpreter, which is the program then.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux from 6.5 on, over Unix streams: the process is held by a descriptor of the kernel's (SO_PEERPIDFD) while
    /// its executable is compared by device and inode, so that no other process with its number is taken for it. Of
    /// other users' processes, and of those with privileges of their own, only root can see it: others refuse them.
    /// So they do a process that has ended, and one in a pid namespace out of sight. Windows, over pipes: the process
    /// is held open while its image's file is compared by volume and id. Elsewhere, and over TCP and datagrams, this
    /// can't be used.
    #[must_use]
    pub fn and_program(self, path: impl Into<PathBuf>) -> Access {
        self.with(|parts| parts.program = Some(Program::At(path.into())))
    }

    /// Those of them only that run the program that we are: the very file that this process runs, or the one that is
    /// at its path by now. Otherwise as [`and_program`](Access::and_program).
    #[must_use]
    pub fn and_same_program(self) -> Access {
        self.with(|parts| parts.program = Some(Program::Own))
    }

    /// Those of them only for whom this holds, too. It is asked last, of peers who meet everything else; root is one
    /// of them. On servers it runs on the loop's thread, where it must not wait for anything. If it panics, it does
    /// not hold. `name` stands in logs and errors: what would have to be so.
    ///
    /// Alone it is said of the same user, or of anyone: `Access::Anyone.and_if("from this machine", |peer| …)`.
    #[must_use]
    pub fn and_if(
        self,
        name: impl Into<String>,
        holds: impl Fn(&Peer) -> bool + Send + Sync + 'static,
    ) -> Access {
        let condition = Condition { name: name.into().into(), holds: Arc::new(holds) };
        self.with(|parts| parts.conditions.push(condition))
    }

    /// To begin with.
    fn nobody() -> Access {
        let whose = Whose::Named { same_user: false, users: Vec::new(), groups: Vec::new() };
        Access::Rules(Rules(Arc::new(Parts { whose, program: None, conditions: Vec::new() })))
    }

    fn with(self, change: impl FnOnce(&mut Parts)) -> Access {
        let mut rules = match self {
            Access::Rules(Rules(parts)) => parts,
            Access::SameUser | Access::Anyone => {
                let named = || Whose::Named { same_user: true, users: Vec::new(), groups: Vec::new() };
                let whose = if self == Access::Anyone { Whose::Anyone } else { named() };
                Arc::new(Parts { whose, program: None, conditions: Vec::new() })
            }
        };
        change(Arc::make_mut(&mut rules));
        Access::Rules(Rules(rules))
    }

    fn rules(&self) -> Option<&Parts> {
        match self {
            Access::Rules(Rules(parts)) => Some(parts),
            Access::SameUser | Access::Anyone => None,
        }
    }

    /// Whether it can only be kept where the kernel vouches for the peer.
    pub(crate) fn needs_credentials(&self) -> bool {
        match self {
            Access::SameUser => true,
            Access::Anyone => false,
            Access::Rules(Rules(parts)) => parts.whose != Whose::Anyone || parts.program.is_some(),
        }
    }

    /// Whether everybody may reach the endpoint, and which users and groups may who are named.
    pub(crate) fn reach(&self) -> (bool, Vec<User>, Vec<Group>) {
        match self.rules().map(|parts| &parts.whose) {
            None => (*self == Access::Anyone, Vec::new(), Vec::new()),
            Some(Whose::Anyone) => (true, Vec::new(), Vec::new()),
            Some(Whose::Named { users, groups, .. }) => (false, users.clone(), groups.clone()),
        }
    }

    /// Whether others than our own user, root and SYSTEM may be among those who come.
    pub(crate) fn lets_in_others(&self) -> bool {
        match self.rules().map(|parts| &parts.whose) {
            None => *self == Access::Anyone,
            Some(Whose::Anyone) => true,
            Some(Whose::Named { users, groups, .. }) => !users.is_empty() || !groups.is_empty(),
        }
    }

    /// Why it can't be kept at an endpoint of this kind, whoever comes there.
    pub(crate) fn objection(&self, endpoint: &Endpoint) -> Option<&'static str> {
        let parts = self.rules()?;
        let names_groups = matches!(&parts.whose, Whose::Named { groups, .. } if !groups.is_empty());
        match endpoint {
            Endpoint::Mailslot(_) if parts.program.is_some() || !parts.conditions.is_empty() => {
                Some("nobody tells who writes into a mailslot, so that nothing can be asked of them")
            }
            Endpoint::Mailslot(_) => None,
            _ if endpoint.kind() != EndpointKind::Stream && (names_groups || parts.program.is_some()) => {
                Some("of datagrams nobody tells their sender's groups, nor its program")
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.name).finish()
    }
}

/// What a closure does can't be compared: the same one is equal to itself.
impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.holds, &other.holds)
    }
}

impl Eq for Condition {}

/// As one phrase: `access for the same user, uid 998 and gid 27 that runs /usr/bin/editor, if awake`.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::SameUser => f.write_str("access for the same user"),
            Access::Anyone => f.write_str("access for anyone"),
            Access::Rules(Rules(parts)) => parts.fmt(f),
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match &self.whose {
            Whose::Anyone => vec!["anyone".to_owned()],
            Whose::Named { same_user, users, groups } => {
                let own = same_user.then(|| "the same user".to_owned());
                let users = users.iter().map(ToString::to_string);
                own.into_iter().chain(users).chain(groups.iter().map(ToString::to_string)).collect()
            }
        };
        write!(f, "access for {}", names.join(" or "))?;
        match &self.program {
            None => {}
            Some(Program::Own) => f.write_str(" that runs our own program")?,
            Some(Program::At(path)) => write!(f, " that runs {path:?}")?,
        }
        self.conditions.iter().try_for_each(|condition| write!(f, ", if {}", condition.name.escape_debug()))
    }
}
