//! Who we are, and how a user is called.

use std::io;
use std::os::windows::io::AsHandle;

use super::security;
use crate::User;

/// The user that this process runs as: the user SID of its primary token.
///
/// A thread that impersonates somebody else does not change the answer.
///
/// # Errors
///
/// When the process is not allowed to read its own token, which no ordinary process meets.
pub fn current_user() -> io::Result<User> {
    let token = security::process_token()?;
    security::token_user(token.as_handle()).map(User::Sid)
}

/// Which number stands for users that have none: users have no numbers.
pub(crate) fn overflow_id(_file: &str) -> Option<u32> {
    None
}

/// The mandatory integrity level that this process runs at: 0x1000 low, 0x2000 medium, 0x3000 high
/// (elevated), 0x4000 system. `None` if it can't be read.
///
/// See "Mandatory Integrity Control", learn.microsoft.com/windows/win32/secauthz/mandatory-integrity-control.
#[must_use]
pub fn current_integrity() -> Option<u32> {
    let token = security::process_token().ok()?;
    security::token_integrity(token.as_handle()).ok()
}

/// What a user is called, for people: `DOMAIN\anna`. `None` if nobody knows.
///
/// This may ask a domain controller over the network and take its time; never call it on a
/// thread that serves others.
#[must_use]
pub fn user_name(user: &User) -> Option<String> {
    match user {
        User::Sid(sid) => security::account_name(sid).ok(),
        User::Uid(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_somebody() {
        let user = current_user().unwrap();
        assert!(user.to_string().starts_with("S-1-5-"), "{user}");
        assert!(current_integrity().is_some());
        assert!(user_name(&user).unwrap().contains('\\'));
        assert_eq!(user_name(&User::Uid(0)), None);
    }
}
