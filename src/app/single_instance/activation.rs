//! What a process was started with, and how it is told the one that runs.
//!
//! The payload: u8 version (1); u32 number of arguments, and each; u8 whether there is a working folder, and that;
//! u32 number of variables, and each with its name and its value. A text is a u32 length in bytes, and these:
//! what the platform's `encode_text` makes of it. Numbers are little-endian. What follows is skipped, so that
//! later ones can say more.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use sidewire_platform::{decode_text, encode_text};

use super::SingleInstanceBuilder;

/// Most bytes of an activation's payload.
pub(super) const MAX_BYTES: usize = 1 << 20;

const VERSION: u8 = 1;

/// What another process of the app was started with; see [`SingleInstance`](super::SingleInstance).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    arguments: Vec<OsString>,
    folder: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    pid: Option<u32>,
}

impl Activation {
    /// Its arguments, without the program's name.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Its working folder, to which relative paths among the arguments are relative. `None` if it has none, since that was
    /// removed for instance.
    #[must_use]
    pub fn working_folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// A variable of its environment, if it was [asked for](SingleInstanceBuilder::environment) and set.
    #[must_use]
    pub fn environment(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.environment.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_os_str())
    }

    /// Which process it was, where the system tells.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What this process was started with, as the options have it.
    pub(super) fn of_this_process(options: &SingleInstanceBuilder) -> Activation {
        let arguments = options.arguments.clone().unwrap_or_else(|| env::args_os().skip(1).collect());
        let value = |name: &OsString| Some((name.clone(), env::var_os(name)?));
        let environment = options.environment.iter().filter_map(value).collect();
        Activation { arguments, folder: env::current_dir().ok(), environment, pid: None }
    }

    /// As bytes, however many.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = vec![VERSION];
        put_number(&mut payload, self.arguments.len());
        self.arguments.iter().for_each(|argument| put_text(&mut payload, argument));
        payload.push(u8::from(self.folder.is_some()));
        self.folder.iter().for_each(|folder| put_text(&mut payload, folder.as_os_str()));
        put_number(&mut payload, self.environment.len());
        for (name, value) in &self.environment {
            put_text(&mut payload, name);
            put_text(&mut payload, value);
        }
        payload
    }

    /// How many bytes it has in memory, about: a text has some, even an empty one.
    pub(super) fn memory(&self) -> usize {
        let pairs = self.environment.iter().flat_map(|(name, value)| [name, value]);
        let texts = self.arguments.iter().chain(pairs).map(|text| size_of::<OsString>() + text.len());
        let folder = self.folder.as_ref().map_or(0, |folder| folder.as_os_str().len());
        size_of::<Activation>() + folder + texts.sum::<usize>()
    }

    /// What such bytes say that came from this process.
    pub(super) fn decode(payload: &[u8], pid: Option<u32>) -> Result<Activation, Malformed> {
        let mut rest = Rest(payload);
        match rest.byte()? {
            VERSION => {}
            version => return Err(Malformed::Version(version)),
        }
        let arguments = rest.list(Rest::text)?;
        let folder = match rest.byte()? {
            0 => None,
            1 => Some(rest.text()?.into()),
            _ => return Err(Malformed::Bytes),
        };
        let environment = rest.list(|rest| Ok((rest.text()?, rest.text()?)))?;
        Ok(Activation { arguments, folder, environment, pid })
    }
}

/// A payload that is no activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It is one of another version.
    Version(u8),
    Bytes,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Version(version) => {
                write!(f, "an activation of version {version}; this instance knows {VERSION}")
            }
            Malformed::Bytes => f.write_str("the payload is no activation"),
        }
    }
}

/// Nothing that could be sent has as many as a u32 can't say: a longer one is refused for its length.
fn put_number(payload: &mut Vec<u8>, number: usize) {
    payload.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(payload: &mut Vec<u8>, text: &OsStr) {
    let bytes = encode_text(text);
    put_number(payload, bytes.len());
    payload.extend(bytes);
}

/// What was not read yet.
struct Rest<'p>(&'p [u8]);

impl<'p> Rest<'p> {
    fn bytes(&mut self, count: usize) -> Result<&'p [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed::Bytes)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    fn number(&mut self) -> Result<usize, Malformed> {
        let (number, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed::Bytes)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*number) as usize)
    }

    fn text(&mut self) -> Result<OsString, Malformed> {
        let length = self.number()?;
        decode_text(self.bytes(length)?).ok_or(Malformed::Bytes)
    }

    /// As many as the number in front says. Each takes bytes, so no number makes more of them than came.
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        (0..self.number()?).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Activation {
        Activation {
            arguments: ["--open", "", "caf\u{e9} \u{1f980}.txt"].map(OsString::from).into(),
            folder: Some("/home/anna".into()),
            environment: vec![("DISPLAY".into(), ":0".into()), ("EMPTY".into(), "".into())],
            pid: Some(4711),
        }
    }

    #[test]
    fn what_is_sent_is_what_comes() {
        let sent = sample();
        assert_eq!(Activation::decode(&sent.encode(), Some(4711)), Ok(sent.clone()));
        assert_eq!(sent.environment("DISPLAY"), Some(OsStr::new(":0")));
        assert_eq!(sent.environment("EMPTY"), Some(OsStr::new("")));
        assert_eq!(sent.environment("HOME"), None);
        let bare = Activation { arguments: vec![], folder: None, environment: vec![], pid: None };
        assert_eq!(bare.encode(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Activation::decode(&bare.encode(), None), Ok(bare));
    }

    #[test]
    fn later_ones_may_say_more() {
        let payload = [sample().encode(), b"more".to_vec()].concat();
        assert_eq!(Activation::decode(&payload, Some(4711)), Ok(sample()));
        assert_eq!(Activation::decode(&[2], None), Err(Malformed::Version(2)));
    }

    #[test]
    fn what_is_cut_off_or_lies_is_refused() {
        let payload = sample().encode();
        for length in 0..payload.len() {
            assert!(Activation::decode(&payload[..length], None).is_err(), "{length}");
        }
        for lie in [
            &[1, 0xff, 0xff, 0xff, 0xff][..],
            &[1, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0],
            &[1, 0, 0, 0, 0, 2, 0, 0, 0, 0],
        ] {
            assert_eq!(Activation::decode(lie, None), Err(Malformed::Bytes), "{lie:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Activation::decode(&payload, None);
            let _ = Activation::decode(&[&[VERSION], payload.as_slice()].concat(), None);
        }
    }
}
