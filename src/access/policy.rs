//! An access with all that it takes to judge by it.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use sidewire_platform::{
    Channel, Credentials, Executable, Group, Peer, Stream, User, current_integrity, current_user,
};

use sidewire_wire::Excerpt;

use super::{Access, Condition, Denied, Parts, Program, Whose};

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
    pub(crate) fn of(user: User, integrity: Option<u32>) -> OwnIdentity {
        OwnIdentity { user, integrity }
    }

    /// Whether that is our own user, and nobody else.
    pub(crate) fn is(&self, user: &User) -> bool {
        user.is_known() && *user == self.user
    }

    /// Whether that is our own user, or root or SYSTEM.
    pub(crate) fn is_one_of_us(&self, user: &User) -> bool {
        user.is_known() && (*user == self.user || user.is_superuser())
    }

    /// Whether a client is one of us ([`Access::SameUser`]).
    pub(crate) fn admits_client(&self, client: &Peer, lower_integrity: bool) -> Result<(), Denied> {
        match known_user(client) {
            Some(user) if self.is_one_of_us(user) => self.admits_integrity(client, lower_integrity),
            Some(user) => Err(Denied::OtherUser(user.clone())),
            None => Err(Denied::Unknown),
        }
    }

    /// Whether a server is one of us. A process of the same user with a lower integrity may have set up its pipe where
    /// ours was expected.
    pub(crate) fn admits_server(&self, server: &Peer, lower_integrity: bool) -> Result<(), Denied> {
        self.admits_client(server, lower_integrity || is_superuser(server))
    }

    fn admits_integrity(&self, peer: &Peer, lower: bool) -> Result<(), Denied> {
        let (Some(ours), false) = (self.integrity, lower) else { return Ok(()) };
        let theirs = peer.credentials().and_then(Credentials::integrity);
        if theirs.is_some_and(|theirs| theirs >= ours) {
            Ok(())
        } else {
            Err(Denied::LowerIntegrity { theirs, ours })
        }
    }
}

/// Its user, if the system names a certain one.
fn known_user(peer: &Peer) -> Option<&User> {
    peer.credentials().map(Credentials::user).filter(|user| user.is_known())
}

fn is_superuser(peer: &Peer) -> bool {
    known_user(peer).is_some_and(User::is_superuser)
}

/// What the system tells of a peer when it is asked: it takes it longer than [`Peer`] does.
pub(crate) trait Asked {
    fn is_member(&self, groups: &[Group]) -> io::Result<bool>;
    fn executable(&self) -> io::Result<Executable>;
}

impl Asked for Stream {
    fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        Stream::is_member(self, groups)
    }

    fn executable(&self) -> io::Result<Executable> {
        Stream::executable(self)
    }
}

impl Asked for Channel {
    fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        Channel::is_member(self, groups)
    }

    fn executable(&self) -> io::Result<Executable> {
        Channel::executable(self)
    }
}

/// Somebody of whom nothing more can be asked.
pub(crate) struct NotAsked;

impl Asked for NotAsked {
    fn is_member(&self, _groups: &[Group]) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn executable(&self) -> io::Result<Executable> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An access with all that it takes to judge by it.
#[derive(Debug)]
pub(crate) struct Policy {
    access: Access,
    us: OwnIdentity,
    lower_integrity: bool,
    program: Option<Wanted>,
}

/// A program that is to be run.
#[derive(Debug)]
struct Wanted {
    path: PathBuf,
    /// What was there when it was first looked for.
    first: Executable,
}

impl Policy {
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the access can't be meant so, [`io::ErrorKind::Unsupported`] if this system can't
    /// keep it; what the system says.
    pub(crate) fn set_up(access: &Access, lower_integrity: bool) -> io::Result<Policy> {
        Policy::of(access, OwnIdentity::look_up()?, lower_integrity)
    }

    pub(crate) fn of(access: &Access, us: OwnIdentity, lower_integrity: bool) -> io::Result<Policy> {
        let program = match access.rules() {
            None => None,
            Some(parts) => {
                check_names(&parts.whose, &us)?;
                parts.program.as_ref().map(Wanted::look_for).transpose()?
            }
        };
        Ok(Policy { access: access.clone(), us, lower_integrity, program })
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn us(&self) -> &OwnIdentity {
        &self.us
    }

    /// Whether `client` may talk to us.
    pub(crate) fn admits_client(&self, client: &Peer, more: &impl Asked) -> Result<(), Denied> {
        self.judge(client, more, self.lower_integrity)
    }

    /// Whether we may talk to `server`.
    pub(crate) fn admits_server(&self, server: &Peer, more: &impl Asked) -> Result<(), Denied> {
        // What belongs to the system was made by nobody below us, whatever its label lets in.
        self.judge(server, more, self.lower_integrity || is_superuser(server))
    }

    fn judge(&self, peer: &Peer, more: &impl Asked, lower: bool) -> Result<(), Denied> {
        let parts = match &self.access {
            Access::Anyone => return Ok(()),
            Access::SameUser => return self.us.admits_client(peer, lower),
            Access::Rules(rules) => &*rules.0,
        };
        let Parts { whose, conditions, .. } = parts;
        match whose {
            Whose::Anyone => Ok(()),
            Whose::Named { same_user: true, users, groups } => match self.us.admits_client(peer, lower) {
                Err(_) if !users.is_empty() || !groups.is_empty() => is_named(peer, users, groups, more),
                judged => judged,
            },
            Whose::Named { same_user: false, .. } if is_superuser(peer) => Ok(()),
            Whose::Named { same_user: false, users, groups } => is_named(peer, users, groups, more),
        }?;
        self.program.as_ref().map_or(Ok(()), |program| program.is_run_by(more))?;
        conditions.iter().try_for_each(|condition| condition.ask(peer))
    }
}

/// Whether these can be found at all, by someone who is us.
fn check_names(whose: &Whose, us: &OwnIdentity) -> io::Result<()> {
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let Whose::Named { same_user, users, groups } = whose else { return Ok(()) };
    // Of -1 the system means nobody (chown(2), and what it says of a peer that it does not know).
    let no_user = |user: &&User| !user.is_known() || **user == User::Uid(u32::MAX);
    if let Some(user) = users.iter().find(no_user) {
        return invalid(format!("{user} is no certain user, so that it can't be given access"));
    }
    let no_group = |group: &&Group| !group.is_known() || **group == Group::Gid(u32::MAX);
    if let Some(group) = groups.iter().find(no_group) {
        return invalid(format!("{group} is no certain group, so that it can't be given access"));
    }
    let is_unix = matches!(us.user, User::Uid(_));
    let is_here = users.iter().any(|user| matches!(user, User::Uid(_)) == is_unix)
        || groups.iter().any(|group| matches!(group, Group::Gid(_)) == is_unix);
    match (same_user, users.is_empty() && groups.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => invalid("access for nobody: no user and no group is named".into()),
        (false, false) if !is_here => invalid("none of those who are named is of this system".into()),
        (false, false) => Ok(()),
    }
}

fn is_named(peer: &Peer, users: &[User], groups: &[Group], more: &impl Asked) -> Result<(), Denied> {
    let user = known_user(peer).ok_or(Denied::Unknown)?;
    if users.contains(user) {
        return Ok(());
    }
    let silence = match groups.is_empty() {
        true => None,
        false => match more.is_member(groups) {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error.to_string()),
        },
    };
    Err(Denied::NotNamed { user: user.clone(), silence })
}

impl Wanted {
    fn look_for(program: &Program) -> io::Result<Wanted> {
        Executable::can_be_told()?;
        let (path, first) = match program {
            Program::Own => Executable::own().map(|own| (own.path().to_owned(), own)),
            Program::At(path) => Executable::at(path).map(|first| (path.clone(), first)),
        }
        .map_err(|error| {
            let what = match program {
                Program::Own => "our own program".to_owned(),
                Program::At(path) => format!("the program {path:?}"),
            };
            let text = format!("{what} can't be given access: {error}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        Ok(Wanted { path, first })
    }

    fn is_run_by(&self, peer: &impl Asked) -> Result<(), Denied> {
        let theirs = peer
            .executable()
            .map_err(|error| Denied::UnknownProgram(Excerpt::new(&error.to_string()).to_string()))?;
        // Another may have taken its place; then the path leads to that.
        let is_wanted = theirs.is_same(&self.first)
            || Executable::at(&self.path).is_ok_and(|present| theirs.is_same(&present));
        if is_wanted {
            return Ok(());
        }
        // Whoever connects chooses where it lies.
        let path = theirs.path().to_string_lossy().into_owned();
        Err(Denied::OtherProgram(format!("\"{}\"", Excerpt::new(&path))))
    }
}

impl Condition {
    fn ask(&self, peer: &Peer) -> Result<(), Denied> {
        let held = catch_unwind(AssertUnwindSafe(|| (self.holds)(peer)));
        match held {
            Ok(true) => Ok(()),
            held => {
                Err(Denied::Unmet { name: self.name.escape_debug().to_string(), panicked: held.is_err() })
            }
        }
    }
}
