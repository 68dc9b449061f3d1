//! Whom `ssh` connects to, and with which words.

use std::fmt;
use std::net::Ipv6Addr;
use std::process::Command;

use super::{Endpoint, shown};

/// `[USER@]HOST[:PORT]`.
///
/// What may stand there is narrow, since it gets further than to ssh: into commands of its configuration, where a shell
/// may read it (`ProxyCommand`, `Match exec`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    user: Option<String>,
    /// IPv6 without brackets.
    host: String,
    port: Option<u16>,
}

impl Destination {
    pub(super) fn parse(text: &str) -> Result<Destination, String> {
        let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
        if let Some(user) = user {
            check("user", user, "._-+")?;
        }
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                let host: Ipv6Addr =
                    host.parse().map_err(|_| "within the brackets stands an IPv6 address")?;
                match rest.strip_prefix(':') {
                    None if !rest.is_empty() => {
                        return Err("behind the brackets stands :PORT or nothing".into());
                    }
                    port => (host.to_string(), port),
                }
            }
            None if place.matches(':').count() > 1 => {
                return Err("an IPv6 address needs brackets, as in ssh:[::1]:22".into());
            }
            None => {
                let (host, port) =
                    place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
                check("host", host, "._-")?;
                (host.to_owned(), port)
            }
        };
        let port = port.map(read_port).transpose()?;
        Ok(Destination { user: user.map(str::to_owned), host, port })
    }

    /// The system's ssh, which copies its standard streams to that endpoint there and back.
    pub(super) fn relay(&self, endpoint: &Endpoint) -> Command {
        let mut command = Command::new("ssh");
        // No terminal, agent, display, escape character, question or forwarding.
        command.args([
            "-T",
            "-a",
            "-x",
            "-e",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "ClearAllForwardings=yes",
        ]);
        if let Some(port) = self.port {
            command.arg("-p").arg(port.to_string());
        }
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        // ssh joins the words behind the host by spaces, and the user's shell there reads them.
        let remote = format!("sidewire relay {}", quoted_for_shell(&endpoint.to_string()));
        command.args(["--", &format!("{user}{}", self.host), &remote]);
        command
    }
}

fn check(what: &str, name: &str, besides: &str) -> Result<(), String> {
    const MOST: usize = 255;
    if name.starts_with('-') {
        return Err(format!("the {what} '{}' begins with '-', as an option of ssh does", shown(name)));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !besides.contains(*c)) {
        Some(odd) => Err(format!("'{}' can't stand in the {what}", odd.escape_default())),
        None if name.is_empty() || name.len() > MOST => Err(format!("the {what} has 1 to {MOST} characters")),
        None => Ok(()),
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if is_number { text.parse().ok().filter(|port| *port != 0) } else { None };
    port.ok_or_else(|| format!("'{}' is no port; there are 1 to 65535", shown(text)))
}

/// One word of a POSIX shell, and of fish. That reads backslashes within single quotes, too, so they stand outside.
fn quoted_for_shell(text: &str) -> String {
    let mut quoted = String::from("'");
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str(r"'\''"),
            '\\' => quoted.push_str(r"'\\'"),
            other => quoted.push(other),
        }
    }
    quoted + "'"
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_written_as_they_are_read() {
        for text in [
            "build",
            "build.example:22",
            "ada@build",
            "a+b_c-d.e@[::1]",
            "ada@[2001:db8::1]:2222",
            "10.0.0.1:65535",
        ] {
            assert_eq!(Destination::parse(text).map(|read| read.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Destination::parse("a:022").unwrap().to_string(), "a:22");
    }

    #[test]
    fn what_ssh_or_a_shell_could_take_for_more_is_refused() {
        for (text, word) in [
            ("-oProxyCommand=x", "begins with '-'"),
            ("-x@host", "begins with '-'"),
            ("user@-x", "begins with '-'"),
            ("", "1 to 255"),
            ("@host", "1 to 255"),
            ("user@", "1 to 255"),
            ("a`b`", "can't stand"),
            ("$(x)", "can't stand"),
            ("a;b", "can't stand"),
            ("us'er@host", "can't stand"),
            ("u@v@host", "can't stand"),
            ("a%h", "can't stand"),
            ("häuser", "can't stand"),
            ("::1", "brackets"),
            ("[::1", "brackets"),
            ("[x]", "IPv6"),
            ("[::1]22", ":PORT"),
            ("a:", "no port"),
            ("a:0", "no port"),
            ("a:+22", "no port"),
            ("a:65536", "no port"),
            ("a:b:1", "brackets"),
        ] {
            match Destination::parse(text) {
                Ok(read) => panic!("{text} was read as {read}"),
                Err(why) => assert!(why.contains(word), "{text}: {why}"),
            }
        }
    }

    #[test]
    fn options_end_before_the_host_and_the_endpoint_is_one_word_there() {
        let destination = Destination::parse("ada@build:2222").unwrap();
        let endpoint = "unix:/run/it's $(x).sock".parse().unwrap();
        let command = destination.relay(&endpoint);
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        let end = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[end - 2..end], ["-p", "2222"]);
        assert_eq!(words[end + 1..], ["ada@build", r"sidewire relay 'unix:/run/it'\''s $(x).sock'"]);
    }

    /// What a shell makes of words in quotes and escapes. In fish backslashes within quotes escape a quote and a backslash.
    fn as_read(text: &str, is_fish: bool) -> Vec<String> {
        let (mut words, mut is_quoted) = (vec![String::new()], false);
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            let is_escape = match character {
                '\\' if is_quoted => is_fish && matches!(rest.peek(), Some('\'' | '\\')),
                other => other == '\\',
            };
            match character {
                _ if is_escape => words.last_mut().unwrap().extend(rest.next()),
                '\'' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        assert!(!is_quoted, "{text} goes on");
        words
    }

    #[test]
    fn no_shell_reads_more_than_one_word() {
        for text in
            ["", "plain", "it's", r"a\b", r"\", r"\\", r"'\'", r"unix:/x\' ; touch hit #", r"\\' ; hit '\"]
        {
            let quoted = quoted_for_shell(text);
            assert_eq!(as_read(&quoted, false), [text], "a POSIX shell, of {quoted}");
            assert_eq!(as_read(&quoted, true), [text], "fish, of {quoted}");
        }
    }
}
