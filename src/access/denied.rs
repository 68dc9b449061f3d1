//! Why somebody may not talk to us, and what would let them.

use std::fmt;

use sidewire_platform::User;

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
    /// Others are named.
    NotNamed {
        user: User,
        /// If it may be in a group that is named: why nobody knows.
        silence: Option<String>,
    },
    /// It runs this one.
    OtherProgram(String),
    /// It can't be told which one.
    UnknownProgram(String),
    /// What the app asks for, under this name.
    Unmet {
        name: String,
        panicked: bool,
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
            Denied::NotNamed { user, silence: None } => write!(f, "it belongs to {user}, who is not named"),
            Denied::NotNamed { user, silence: Some(why) } => {
                write!(f, "it belongs to {user}, who is not named, and of whose groups is not known: {why}")
            }
            Denied::OtherProgram(path) => write!(f, "it runs another program ({path})"),
            Denied::UnknownProgram(why) => write!(f, "which program it runs is not known: {why}"),
            Denied::Unmet { name, panicked: false } => write!(f, "the condition '{name}' does not hold"),
            Denied::Unmet { name, panicked: true } => write!(f, "the condition '{name}' panicked"),
        }
    }
}

impl Denied {
    /// What would let it in.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Denied::Unknown => "access for anyone would allow it".into(),
            Denied::OtherUser(user) | Denied::NotNamed { user, .. } => {
                format!("access for anyone would allow it, or for users with {user}")
            }
            Denied::LowerIntegrity { .. } => {
                "access for anyone would allow it; so would lower_integrity".into()
            }
            Denied::OtherProgram(path) => format!("access for the program {path} would allow it"),
            Denied::UnknownProgram(_) => "access that asks for no program would allow it".into(),
            Denied::Unmet { .. } => "access without that condition would allow it".into(),
        }
    }
}
