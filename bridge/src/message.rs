//! What is on NATS: subjects, headers, words. The README's map in code.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_nats::header::HeaderMap;
use sidewire::App;

/// How long its caller waits, in ms.
pub(crate) const TIMEOUT: &str = "Sw-Timeout";
/// The bytes of parts that may come before more are asked for; 0 if the caller takes none. Without it there are no signs of
/// life, either: it is no bridge that asks.
pub(crate) const CREDIT: &str = "Sw-Credit";
/// The caller's application, and its version; escaped.
pub(crate) const APP: &str = "Sw-App";
pub(crate) const APP_VERSION: &str = "Sw-App-Version";
/// The result code of a final reply; 0 where it is not there.
pub(crate) const RC: &str = "Sw-Rc";
/// The payload is a text that explains the result code.
pub(crate) const TEXT: &str = "Sw-Text";
/// The number of a part, from 0 on; of a final reply behind parts, and of a sign of life, how many there were before it.
pub(crate) const PART: &str = "Sw-Part";
/// A sign of life: the line on which whoever has the call hears words about it. It is `INSTANCE.TOKEN`, and the message's
/// own reply subject, too: where nobody waits any more the broker says so there.
pub(crate) const TAKEN: &str = "Sw-Taken";
/// An event's number among those of one instance and topic, from 1 on; how many were dropped before it; whose it is.
pub(crate) const SEQUENCE: &str = "Sw-Sequence";
pub(crate) const DROPPED: &str = "Sw-Dropped";
pub(crate) const INSTANCE: &str = "Sw-Instance";

/// A sign of life comes so long after a call was taken, if no answer came, and then every so often.
pub(crate) const FIRST_SIGN: Duration = Duration::from_millis(50);
pub(crate) const SIGN: Duration = Duration::from_secs(2);

/// What a part of a reply spends of its call's credit, at least: what it takes to keep track of one, however small it is.
/// Parts that are sent ahead so are no more than whoever waits for them has room for.
const LEAST_COST: u32 = 256;

/// What a part of so many bytes spends of its call's credit.
pub(crate) fn cost(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX).max(LEAST_COST)
}

/// The subjects of one app.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    app: String,
}

impl Subjects {
    pub(crate) fn of(app: &str) -> Subjects {
        Subjects { app: app.to_owned() }
    }

    pub(crate) fn calls(&self) -> String {
        format!("sw.{}.*", self.app)
    }

    pub(crate) fn call(&self, msg_type: u16) -> String {
        format!("sw.{}.{msg_type}", self.app)
    }

    pub(crate) fn events(&self) -> String {
        format!("sw.{}.ev.*", self.app)
    }

    pub(crate) fn event(&self, topic: u16) -> String {
        format!("sw.{}.ev.{topic}", self.app)
    }

    /// Words about all calls that one instance has.
    pub(crate) fn lines(&self, instance: &str) -> String {
        format!("sw.{}.at.{instance}.*", self.app)
    }

    /// Words about one call.
    pub(crate) fn line(&self, line: &str) -> String {
        format!("sw.{}.at.{line}", self.app)
    }

    /// Where those who serve agree on who does.
    pub(crate) fn owner(&self) -> String {
        format!("sw.{}.owner.claim", self.app)
    }
}

/// The number at the end of a subject.
pub(crate) fn number(subject: &str) -> Option<u16> {
    let token = subject.rsplit('.').next()?;
    // As we write it, and in no other way: one type has one subject.
    let is_ours = token == "0" || !token.starts_with(['0', '+']);
    token.parse().ok().filter(|_| is_ours)
}

/// Whether an answer may go there. A caller names the subject and we have more rights than it: none of ours is sent to subjects
/// that mean something, events and claims among them, nor to the broker's own.
pub(crate) fn is_answerable(reply: &str) -> bool {
    !reply.starts_with("sw.") && !reply.starts_with('$')
}

/// Whether this can be a line, which becomes a part of a subject.
pub(crate) fn is_line(text: &str) -> bool {
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 128
        && text.split_once('.').is_some_and(|(instance, token)| is_token(instance) && is_token(token))
}

/// Headers in the making. Most messages have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(HeaderMap);

impl Headers {
    pub(crate) fn none() -> Headers {
        Headers::default()
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Headers {
        self.0.insert(name, value.to_string());
        self
    }

    /// Of an application that says who it is.
    pub(crate) fn with_app(self, app: Option<&App>) -> Headers {
        match app {
            Some(app) if !app.name().is_empty() || !app.version().is_empty() => {
                self.with(APP, escape(app.name())).with(APP_VERSION, escape(app.version()))
            }
            _ => self,
        }
    }

    pub(crate) fn into_map(self) -> Option<HeaderMap> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

/// Headers that came, of which nothing is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a>(pub(crate) Option<&'a HeaderMap>);

/// A header that is no number, or no text of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl<'a> Told<'a> {
    pub(crate) fn text(self, name: &'static str) -> Option<&'a str> {
        // Few are there, and to look a name up costs more than to compare them all.
        let (_, values) = self.0?.iter().find(|(other, _)| AsRef::<str>::as_ref(*other) == name)?;
        values.first().map(|value| value.as_str())
    }

    pub(crate) fn number<N: FromStr>(self, name: &'static str) -> Result<Option<N>, Malformed> {
        self.text(name).map(|text| text.trim().parse().map_err(|_| Malformed(name))).transpose()
    }

    /// Who the caller's application says it is.
    pub(crate) fn app(self) -> Result<Option<App>, Malformed> {
        let Some(name) = self.text(APP) else { return Ok(None) };
        let version = self.text(APP_VERSION).unwrap_or_default();
        let (name, version) = (unescape(name), unescape(version));
        let app = App::new(name.ok_or(Malformed(APP))?, version.ok_or(Malformed(APP_VERSION))?);
        app.check().map_err(|_| Malformed(APP))?;
        Ok(Some(app))
    }
}

/// Header values are lines: what would end one, and what might be trimmed, is `%` and two digits.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '%' | ' ' => escaped.push_str(&format!("%{:02x}", char as u32)),
            '\0'..='\x1f' | '\x7f' => escaped.push_str(&format!("%{:02x}", char as u32)),
            _ => escaped.push(char),
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut whole = parts.next()?.to_owned();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        whole.push(byte as char);
        whole.push_str(&part[2..]);
    }
    Some(whole)
}

/// What a caller's side tells the instance that has its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nobody needs the answer any more.
    Cancel,
    /// So many bytes of parts were taken, in all: as many may come again. Who misses one such word knows by the next.
    Credit(u64),
}

impl Word {
    pub(crate) fn parse(payload: &[u8]) -> Option<Word> {
        match std::str::from_utf8(payload).ok()?.split_once(' ') {
            None => (payload == b"cancel").then_some(Word::Cancel),
            Some(("credit", bytes)) => bytes.parse().ok().map(Word::Credit),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Cancel => f.write_str("cancel"),
            Word::Credit(bytes) => write!(f, "credit {bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_applications_are_lines() {
        for name in ["store", "a b", "100 %", "line\r\nSw-Rc: 0", "\u{7f}\0", "größer", ""] {
            let escaped = escape(name);
            assert!(!escaped.contains(['\r', '\n', ' ', '\0']), "{escaped:?}");
            assert_eq!(unescape(&escaped).as_deref(), Some(name));
        }
        for wrong in ["%", "%1", "%zz", "%ff", "%+1", "a%é"] {
            assert_eq!(unescape(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn one_type_has_one_subject() {
        let subjects = Subjects::of("store");
        assert_eq!(number(&subjects.call(7)), Some(7));
        assert_eq!(number(&subjects.event(65_535)), Some(65_535));
        for other in ["sw.store.07", "sw.store.+7", "sw.store.65536", "sw.store.owner", "sw.store."] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn answers_go_to_no_subject_that_means_something() {
        let subjects = Subjects::of("store");
        let ours = [subjects.call(1), subjects.event(1), subjects.line("a.b"), subjects.owner()];
        for reply in ours.iter().map(String::as_str).chain(["sw.other.1", "$SRV.PING", "$JS.API.INFO"]) {
            assert!(!is_answerable(reply), "{reply}");
        }
        assert!(is_answerable("_INBOX.abc.1") && is_answerable("swift"));
    }

    #[test]
    fn words_are_read_as_they_are_said() {
        for word in [Word::Cancel, Word::Credit(1), Word::Credit(u64::MAX)] {
            assert_eq!(Word::parse(word.to_string().as_bytes()), Some(word));
        }
        for wrong in
            [&b""[..], b"cancel ", b"credit", b"credit x", b"credit -1", b"\xff", b"stop", b"credit 1 2"]
        {
            assert_eq!(Word::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn small_parts_cost_what_keeping_track_of_them_does() {
        let parts = [(0, 256), (1, 256), (256, 256), (257, 257), (10_000, 10_000), (usize::MAX, u32::MAX)];
        parts.into_iter().for_each(|(length, spent)| assert_eq!(cost(length), spent, "{length}"));
    }

    #[test]
    fn a_line_is_two_tokens_and_no_wildcard() {
        assert!(is_line("Ab1.Zz9"));
        for wrong in [
            "",
            "a",
            "a.",
            ".b",
            "a.b.c",
            "*.b",
            "a.>",
            "a b.c",
            "a.b\r\n",
            &format!("a.{}", "b".repeat(130)),
        ] {
            assert!(!is_line(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_told_wrongly_is_named() {
        let mut map = HeaderMap::new();
        map.insert(TIMEOUT, "soon");
        map.insert(CREDIT, "65536");
        map.insert(APP, "x".repeat(200).as_str());
        let told = Told(Some(&map));
        assert_eq!(told.number::<u32>(TIMEOUT), Err(Malformed(TIMEOUT)));
        assert_eq!(told.number::<u32>(CREDIT), Ok(Some(65_536)));
        assert_eq!(told.number::<u32>(RC), Ok(None));
        assert!(told.app().is_err());
        assert!(Told(None).app().expect("none is fine").is_none());
    }
}
