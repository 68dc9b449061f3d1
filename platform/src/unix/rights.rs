//! Who may reach a socket in the file system: its mode, and whose group it is.

use rustix::fs::Mode;

use super::identity::euid;
use crate::BindOptions;
use crate::peer::{Group, User};

/// For its owner alone.
pub(super) const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// Who may connect or send, as far as a file can say it. Root always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Owner,
    /// The members of this group as well.
    Group(u32),
    /// Everybody: also where only some are meant, who can't be listed. Who it is, is then to be asked for.
    Everyone,
}

impl Rights {
    /// The least that lets in all whom the options name.
    pub(super) fn of(options: &BindOptions) -> Rights {
        let is_other = |user: &User| matches!(user, User::Uid(uid) if *uid != euid() && *uid != 0);
        let mut groups = options.groups.iter().filter_map(|group| match group {
            Group::Gid(gid) => Some(*gid),
            Group::Sid(_) => None,
        });
        match (options.anyone || options.users.iter().any(is_other), groups.next(), groups.next()) {
            (false, None, _) => Rights::Owner,
            (false, Some(gid), None) => Rights::Group(gid),
            _ => Rights::Everyone,
        }
    }

    pub(super) fn mode(self) -> Mode {
        match self {
            Rights::Owner => PRIVATE,
            Rights::Group(_) => Mode::from_raw_mode(0o660),
            Rights::Everyone => Mode::from_raw_mode(0o666),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Sid;

    #[test]
    fn as_little_as_will_do() {
        let of = |anyone, users: &[u32], groups: &[u32]| {
            let users = users.iter().map(|&uid| User::Uid(uid)).collect();
            let groups = groups.iter().map(|&gid| Group::Gid(gid)).collect();
            Rights::of(&BindOptions { anyone, users, groups, ..BindOptions::default() })
        };
        assert_eq!(of(false, &[], &[]), Rights::Owner);
        assert_eq!(of(false, &[euid(), 0], &[]), Rights::Owner);
        assert_eq!(of(false, &[], &[7]), Rights::Group(7));
        assert_eq!(of(false, &[euid() + 1], &[]), Rights::Everyone);
        assert_eq!(
            (of(false, &[euid() + 1], &[7]), of(false, &[], &[7, 8])),
            (Rights::Everyone, Rights::Everyone)
        );
        assert_eq!(of(true, &[], &[7]), Rights::Everyone);
        // What is named on another system is nobody here.
        let users = vec![User::Sid(Sid::new(5, &[18]).unwrap())];
        let groups = vec![Group::Sid(Sid::new(5, &[4]).unwrap())];
        assert_eq!(Rights::of(&BindOptions { users, groups, ..BindOptions::default() }), Rights::Owner);
    }
}
