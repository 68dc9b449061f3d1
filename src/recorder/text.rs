//! What a recording says of its server: a line for each thing, `pid 4711`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use sidewire_platform::Endpoint;

/// Bytes of one name that are kept.
const NAME: usize = 512;

/// Who recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) pid: u32,
    pub(super) program: String,
    /// When its loop was made.
    pub(super) started: SystemTime,
    pub(super) endpoints: Vec<String>,
}

impl Server {
    /// What stands in the file; of more endpoints than it has room for the last ones do not.
    pub(super) fn write(&self) -> String {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut text =
            format!("pid {}\nstarted {}\nprogram {}\n", self.pid, started.as_nanos(), self.program);
        for endpoint in &self.endpoints {
            let _ = writeln!(text, "endpoint {endpoint}");
        }
        text
    }

    /// Out of what stands there, whoever has written it. `None`: it says too little.
    pub(super) fn read(bytes: &[u8]) -> Option<Server> {
        let text = bytes.split(|byte| *byte == 0).next()?;
        let text = String::from_utf8_lossy(text);
        let (mut pid, mut started, mut program, mut endpoints) = (None, None, String::new(), Vec::new());
        // A line that was cut is none.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            match line.split_once(' ') {
                Some(("pid", number)) => pid = number.parse().ok(),
                Some(("started", nanos)) => started = nanos.parse().ok().map(Duration::from_nanos),
                Some(("program", name)) => program = plain(name),
                Some(("endpoint", name)) => endpoints.push(plain(name)),
                _ => {}
            }
        }
        let started = SystemTime::UNIX_EPOCH.checked_add(started?)?;
        Some(Server { pid: pid?, program, started, endpoints })
    }
}

/// As an endpoint stands there.
pub(super) fn named(endpoint: &Endpoint) -> String {
    plain(&endpoint.to_string())
}

/// One line, and no more of it than is kept; what is so already stays as it is.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            '"' | '\'' | '\\' => plain.push(letter),
            letter => plain.extend(letter.escape_debug()),
        }
        if plain.len() >= NAME {
            plain.push('…');
            break;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let started = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_764_000_000_123_456_789);
        let endpoints = vec!["local:app".to_owned(), "unix:/tmp/a b".to_owned()];
        let server = Server { pid: 7, program: "app".into(), started, endpoints };
        let mut bytes = server.write().into_bytes();
        bytes.resize(4000, 0);
        assert_eq!(Server::read(&bytes), Some(server));
    }

    #[test]
    fn whoever_has_written_it_drives_nothing() {
        for bytes in [
            &b""[..],
            b"pid 7\n",
            b"started 1\n",
            b"pid -1\nstarted 1\n",
            b"pid 1\nstarted 99999999999999999999\n",
        ] {
            assert_eq!(Server::read(bytes), None, "{bytes:?}");
        }
        let mut hostile =
            b"pid 1\nstarted 18446744073709551615\nprogram \x1b[2J\xff\xe2\x80\xae\nendpoint ".to_vec();
        hostile.extend([b'\x07'; 3000]);
        hostile.extend(b"\nendpoint cut off");
        let read = Server::read(&hostile).expect("it says enough");
        assert_eq!((&*read.program, read.endpoints.len()), ("\\u{1b}[2J\u{fffd}\\u{202e}", 1));
        assert!(read.endpoints[0].len() < NAME + 20 && !read.endpoints[0].contains(char::is_control));
    }
}
