//! Files of tests/conversations/calls, read: README.md there says what their lines mean.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One line.
pub(crate) enum Step {
    /// Before all others.
    Serve(u16, Served),
    Call(Ask, Expected),
    Notify(u16, Vec<u8>),
    Start(String, Ask),
    Cancel(String),
    Wait(String, Expected),
    Parts(Ask, Vec<Vec<u8>>, Expected),
    Subscribe(u16, Expected),
    Unsubscribe(u16),
    Event(u16, Vec<u8>),
}

/// How one of the server's calls is answered.
#[derive(Clone)]
pub(crate) enum Served {
    Upper,
    Fail(i32, String),
}

pub(crate) struct Ask {
    pub msg_type: u16,
    pub payload: Vec<u8>,
    pub timeout: Duration,
}

/// What has to come; without a payload any does.
pub(crate) struct Expected {
    pub rc: i32,
    pub payload: Option<Vec<u8>>,
}

/// What has come.
pub(crate) type Outcome = (i32, Vec<u8>);

impl Expected {
    pub(crate) fn check(&self, outcome: &Outcome) -> Result<(), String> {
        let (rc, payload) = outcome;
        match *rc == self.rc && self.payload.as_ref().is_none_or(|expected| expected == payload) {
            true => Ok(()),
            false => Err(format!(
                "{rc}, {} bytes: {}",
                payload.len(),
                String::from_utf8_lossy(&payload[..payload.len().min(60)])
            )),
        }
    }
}

/// All files, in the order of their names.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations/calls");
    let files = fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "calls")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The steps of a file, each with the number of its line.
pub(crate) fn read(path: &Path) -> Vec<(usize, Step)> {
    let text = fs::read_to_string(path).expect("a file of calls");
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            let mut words = Words(line);
            let step = words.step().unwrap_or_else(|| panic!("{}:{}: {line}", path.display(), index + 1));
            assert_eq!(words.0.trim(), "", "{}:{}: what is this?", path.display(), index + 1);
            (index + 1, step)
        })
        .collect()
}

/// What is left of a line.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn step(&mut self) -> Option<Step> {
        Some(match self.word()?.as_str() {
            "serve" => Step::Serve(self.number()?, self.served()?),
            "call" => Step::Call(self.ask()?, self.expected("->")?),
            "notify" => Step::Notify(self.number()?, self.text()?),
            "start" => Step::Start(self.word()?, self.ask()?),
            "cancel" => Step::Cancel(self.word()?),
            "wait" => Step::Wait(self.word()?, self.expected("->")?),
            "parts" => {
                let ask = self.ask()?;
                self.skip("->").then_some(())?;
                let parts = std::iter::from_fn(|| self.text()).collect();
                Step::Parts(ask, parts, self.expected("then")?)
            }
            "subscribe" => Step::Subscribe(self.number()?, self.expected("->")?),
            "unsubscribe" => {
                let topic = self.number()?;
                (self.expected("->")?.rc == 0).then_some(Step::Unsubscribe(topic))?
            }
            "event" => Step::Event(self.number()?, self.text()?),
            _ => return None,
        })
    }

    fn served(&mut self) -> Option<Served> {
        match self.word()?.as_str() {
            "upper" => Some(Served::Upper),
            "fail" => Some(Served::Fail(self.number()?, String::from_utf8(self.text()?).ok()?)),
            _ => None,
        }
    }

    fn ask(&mut self) -> Option<Ask> {
        let (msg_type, payload) = (self.number()?, self.text()?);
        let ms = if self.skip("timeout") { self.number()? } else { 30_000 };
        Some(Ask { msg_type, payload, timeout: Duration::from_millis(ms) })
    }

    fn expected(&mut self, behind: &str) -> Option<Expected> {
        self.skip(behind).then_some(())?;
        Some(Expected { rc: self.number()?, payload: self.text() })
    }

    fn word(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
        self.0 = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }

    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.word()?.parse().ok()
    }

    fn skip(&mut self, word: &str) -> bool {
        match self.0.trim_start().strip_prefix(word) {
            Some(rest) => self.0 = rest,
            None => return false,
        }
        true
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let mut text = self.0.trim_start().strip_prefix('"')?.chars();
        let mut once = Vec::new();
        loop {
            let c = match text.next()? {
                '"' => break,
                '\\' => match text.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'x' => {
                        let digits: String = text.by_ref().take(2).collect();
                        once.push(u8::from_str_radix(&digits, 16).ok()?);
                        continue;
                    }
                    c => c,
                },
                c => c,
            };
            once.extend(c.encode_utf8(&mut [0; 4]).bytes());
        }
        self.0 = text.as_str();
        let Some(times) = self.0.strip_prefix('*') else { return Some(once) };
        self.0 = times;
        Some(once.repeat(self.number()?))
    }
}
