//! The application, as its hello names it.

use std::fmt;

use crate::excerpt::Excerpt;
use crate::limits::Contradiction;

/// What an application says of itself in its hello, beside what the toolkit says of itself: its name, its
/// version, and a hash of the contract that it keeps to. Nothing here is checked by anybody; it is for logs,
/// and for peers that want to know whether they are of the same build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    name: String,
    version: String,
    contract: Option<[u8; 32]>,
}

/// Most bytes of the name, and of the version.
const MAX_TEXT: usize = 128;

impl App {
    /// Name and version, of at most 128 bytes each; one that is empty is not sent.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> App {
        App { name: name.into(), version: version.into(), contract: None }
    }

    /// Also a hash of what the two sides have agreed on: their message types, their payloads. How it is made is
    /// their business.
    #[must_use]
    pub fn contract(mut self, hash: [u8; 32]) -> App {
        self.contract = Some(hash);
        self
    }

    /// The name; of a peer that did not tell, empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version; of a peer that did not tell, empty.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The contract's hash, if it has one.
    #[must_use]
    pub fn contract_hash(&self) -> Option<[u8; 32]> {
        self.contract
    }

    /// Whether it fits into a hello.
    ///
    /// # Errors
    /// If the name or the version has more than 128 bytes.
    pub fn check(&self) -> Result<(), Contradiction> {
        for (what, text) in [("name", &self.name), ("version", &self.version)] {
            if text.len() > MAX_TEXT {
                let length = text.len();
                let text = format!("the app's {what} has {length} bytes, and a hello takes {MAX_TEXT}");
                return Err(Contradiction::new(text));
            }
        }
        Ok(())
    }

    pub(crate) fn set_name(&mut self, bytes: &[u8]) {
        self.name = text(bytes);
    }

    pub(crate) fn set_version(&mut self, bytes: &[u8]) {
        self.version = text(bytes);
    }

    pub(crate) fn set_contract(&mut self, hash: [u8; 32]) {
        self.contract = Some(hash);
    }
}

/// What a peer says, as far as it may say anything.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]);
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// For log lines: name and version.
impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.name, &*self.version) {
            ("", "") => f.write_str("no name"),
            (name, "") => Excerpt::new(name).fmt(f),
            (name, version) => write!(f, "{} {}", Excerpt::new(name), Excerpt::new(version)),
        }
    }
}
