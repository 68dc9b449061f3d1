//! Who we are, and how people call a user.

use std::{fs, io};

use crate::peer::User;

/// The user whose rights this process has.
///
/// # Errors
///
/// None on Unix; elsewhere what the system says.
///
/// # Platform-specific behavior
///
/// Unix: the effective user id (geteuid(2)), which is also what peers see. Windows: the SID of
/// the process's token.
pub fn current_user() -> io::Result<User> {
    Ok(User::Uid(euid()))
}

/// The mandatory integrity level of this process.
///
/// # Platform-specific behavior
///
/// `None` on Unix, which has no such thing.
#[must_use]
pub fn current_integrity() -> Option<u32> {
    None
}

/// Which id stands for all that have no mapping into this user namespace: `overflowuid` or `overflowgid` of
/// `/proc/sys/kernel` (proc_sys_kernel(5)). `None` where that can't be read.
pub(crate) fn overflow_id(file: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/kernel/{file}")).ok()?.trim_end().parse().ok()
}

/// What people call a user, for logs and never for decisions. `None` if the system knows no name.
///
/// # Platform-specific behavior
///
/// Unix: `root`, from `/etc/passwd` (passwd(5)) alone: users of a directory service have no
/// name here, and no network is asked. Windows: `DOMAIN\anna`.
#[must_use]
pub fn user_name(user: &User) -> Option<String> {
    let User::Uid(uid) = user else { return None };
    let passwd = fs::read("/etc/passwd").ok()?;
    name_in(&String::from_utf8_lossy(&passwd), *uid)
}

pub(super) fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Looks a user up in the text of passwd(5): `name:password:uid:…`, one user a line.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_whole_lines_only() {
        let passwd =
            "\n# comment\nbroken\n:x:7:\nroot:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:\n";
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("anna"));
        assert_eq!(name_in(passwd, 7), None);
        assert_eq!(name_in(passwd, 100), None);
    }

    #[test]
    fn we_are_our_effective_user() {
        assert_eq!(current_user().unwrap(), User::Uid(rustix::process::geteuid().as_raw()));
        assert_eq!(current_integrity(), None);
    }
}
