//! Which process is *the* instance of an app, as far as the system decides it.

use crate::os::InstanceLock;
use crate::peer::User;

/// What came of asking to be the one instance of an app: see [`InstanceLock::claim`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Claim {
    /// Nobody else is, until this is dropped or the process ends.
    Ours(InstanceLock),
    /// Another process is.
    Taken,
    /// Another process is, and it lets us not even look.
    OutOfReach(Holder),
}

/// Who holds what we can't reach.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A process of our own user that runs at this integrity level, which is above ours.
    Elevated(u32),
    /// A process of another user, whom the system may not name to us.
    OtherUser(Option<User>),
}
