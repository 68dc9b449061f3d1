//! The application, as its hello names it.

use std::cmp::Ordering;
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

    /// How its version stands to this one: dotted numbers, compared number by number, where one that is missing is 0:
    /// `1.10` is newer than `1.9`, and `2` is `2.0.0`. What follows a `-` makes a version older than the same without
    /// it, and is compared as text: `2.0-beta` is older than `2.0` and newer than `2.0-alpha`. What follows a `+` means
    /// nothing. `None`: one of the two is no such version.
    ///
    /// ```
    /// use std::cmp::Ordering;
    /// use sidewire_wire::App;
    ///
    /// let app = App::new("com.example.app", "1.10.2");
    /// assert_eq!(app.compare_version("1.9"), Some(Ordering::Greater));
    /// assert_eq!(app.compare_version("as of May"), None);
    /// ```
    #[must_use]
    pub fn compare_version(&self, other: &str) -> Option<Ordering> {
        let ((ours, our_stage), (theirs, their_stage)) = (parts(&self.version)?, parts(other)?);
        let numbers = |at: usize| {
            let zero = |numbers: &[&str]| numbers.get(at).copied().unwrap_or_default().to_owned();
            (zero(&ours), zero(&theirs))
        };
        let differs = (0..ours.len().max(theirs.len())).map(numbers).map(|(ours, theirs)| {
            // Of any size: one of more digits is larger.
            (ours.len(), ours).cmp(&(theirs.len(), theirs))
        });
        let by_numbers = differs.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
        Some(by_numbers.then_with(|| match (our_stage, their_stage) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(ours), Some(theirs)) => ours.cmp(theirs),
        }))
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

/// The numbers of a version, without zeros at their beginning, and what follows a `-`.
fn parts(version: &str) -> Option<(Vec<&str>, Option<&str>)> {
    let version = version.split_once('+').map_or(version, |(version, _build)| version);
    let (numbers, stage) = match version.split_once('-') {
        Some((numbers, stage)) => (numbers, Some(stage)),
        None => (version, None),
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part| is_number(part).then(|| part.trim_start_matches('0'));
    Some((numbers.split('.').map(number).collect::<Option<_>>()?, stage))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        let in_order = [
            "0",
            "0.9",
            "1.0-alpha",
            "1.0-beta",
            "1",
            "1.2",
            "1.10",
            "1.10.1",
            "2.0",
            "123456789012345678901",
        ];
        for (at, version) in in_order.iter().enumerate() {
            for (other_at, other) in in_order.iter().enumerate() {
                let order = App::new("", *version).compare_version(other);
                assert_eq!(order, Some(at.cmp(&other_at)), "{version} {other}");
            }
        }
        for (version, same) in [("1", "1.0.0"), ("1.02", "1.2"), ("1.2+of-may", "1.2+of-june"), ("00", "0")] {
            assert_eq!(App::new("", version).compare_version(same), Some(Ordering::Equal), "{version}");
        }
        for none in ["", "1.", ".1", "1..2", "v1", "1.x", "-beta", "1,2", "１"] {
            assert_eq!(App::new("", none).compare_version("1"), None, "{none}");
            assert_eq!(App::new("", "1").compare_version(none), None, "{none}");
        }
    }
}
