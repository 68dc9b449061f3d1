//! Commands as endpoints of clients: `exec:COMMAND`, and `ssh:HOST ENDPOINT`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process::Command;
use std::str::FromStr;

use super::ssh::Destination;
use super::{Endpoint, EndpointError, quoted, shown};

/// A program that a client starts, and whose standard input and output are the connection. It is no [`Endpoint`]: who
/// takes such a text from others lets them run what they like.
///
/// - `exec:COMMAND` starts a program. Its words are parted by spaces. Within `'…'` all stands for itself; within
///   `"…"`, too, but `\"` is a quotation mark and `\\` a backslash. Elsewhere a backslash is a character like others.
///   There is no shell: nothing is expanded. That is the same on every system.
/// - `ssh:HOST ENDPOINT` starts the system's `ssh`, which runs `sidewire relay ENDPOINT` on that machine.
///   HOST is `HOST`, `USER@HOST`, `HOST:PORT` or `USER@HOST:PORT`, with letters and digits of ASCII, `.`, `_`, `-` (and
///   `+` in USER), but no `-` in front: a name, an alias of ssh's configuration, an IPv4 address, or `[IPv6]`.
///   There are no passwords and no questions (`BatchMode`): keys and host keys are ssh's. The user's shell over there is
///   a POSIX shell or fish, for which ENDPOINT is quoted. `cmd.exe`, which Windows' sshd starts, knows no such quotes: there it
///   does not work, and would act on signs as `&` in ENDPOINT.
///
/// ```
/// # extern crate sidewire_platform as sidewire;
/// use sidewire::CommandEndpoint;
///
/// let endpoint: CommandEndpoint = "exec:my-server --name 'a b'".parse()?;
/// assert_eq!(endpoint.command().get_args().count(), 2);
/// let endpoint: CommandEndpoint = "ssh:ada@build.example:2222 unix:/run/app.sock".parse()?;
/// assert_eq!(endpoint.command().get_program(), "ssh");
/// # Ok::<(), sidewire::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CommandEndpoint(Way);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Way {
    Exec { program: String, arguments: Vec<String> },
    Ssh { destination: Destination, endpoint: Endpoint },
}

impl CommandEndpoint {
    /// What is started.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.0 {
            Way::Exec { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Way::Ssh { destination, endpoint } => destination.relay(endpoint),
        }
    }
}

fn parse(text: &str) -> Result<CommandEndpoint, String> {
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    if !matches!(scheme, "exec" | "ssh") {
        return Err("expected exec:COMMAND or ssh:HOST ENDPOINT".into());
    }
    if let Some(odd) = rest.chars().find(|c| !quoted::is_visible(*c)) {
        return Err(format!("'{}' can't stand in a command's text", odd.escape_default()));
    }
    if scheme == "exec" {
        let mut words = words(rest)?.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program =
            program.ok_or("it names no program; write exec:PROGRAM, and its arguments behind it")?;
        return Ok(CommandEndpoint(Way::Exec { program, arguments: words.collect() }));
    }
    let Some((host, endpoint)) = rest.trim_start_matches(' ').split_once(' ') else {
        return Err("write ssh:HOST ENDPOINT, as in ssh:build.example unix:/run/app.sock".into());
    };
    let endpoint = endpoint.trim_start_matches(' ').parse().map_err(|error: EndpointError| error.to_string());
    Ok(CommandEndpoint(Way::Ssh { destination: Destination::parse(host)?, endpoint: endpoint? }))
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == ' ' {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        if !matches!(c, '\'' | '"') {
            word.push(c);
            continue;
        }
        loop {
            match rest.next() {
                None => return Err(format!("its {c} has no end")),
                Some(end) if end == c => break,
                Some('\\') if c == '"' => {
                    word.push(rest.next_if(|c| matches!(c, '"' | '\\')).unwrap_or('\\'))
                }
                Some(other) => word.push(other),
            }
        }
    }
    words.extend(word);
    Ok(words)
}

/// As it is read as one word again.
fn write_word(word: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match word {
        _ if !word.is_empty() && !word.contains([' ', '\'', '"']) => f.write_str(word),
        _ if !word.contains('\'') => write!(f, "'{word}'"),
        _ => write!(f, "\"{}\"", word.replace('\\', r"\\").replace('"', r#"\""#)),
    }
}

/// As it is parsed, with no more quotes than are needed.
impl fmt::Display for CommandEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Exec { program, arguments } => {
                f.write_str("exec:")?;
                write_word(program, f)?;
                arguments.iter().try_for_each(|word| {
                    f.write_str(" ")?;
                    write_word(word, f)
                })
            }
            Way::Ssh { destination, endpoint } => write!(f, "ssh:{destination} {endpoint}"),
        }
    }
}

/// The text form in quotes.
impl fmt::Debug for CommandEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl FromStr for CommandEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<CommandEndpoint, EndpointError> {
        parse(text).map_err(|why| EndpointError { text: text.to_owned(), why })
    }
}

impl TryFrom<&str> for CommandEndpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<CommandEndpoint, EndpointError> {
        text.parse()
    }
}

impl TryFrom<String> for CommandEndpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<CommandEndpoint, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&String> for CommandEndpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<CommandEndpoint, EndpointError> {
        text.parse()
    }
}

/// All of it has to be UTF-8.
impl TryFrom<OsString> for CommandEndpoint {
    type Error = EndpointError;

    fn try_from(text: OsString) -> Result<CommandEndpoint, EndpointError> {
        match text.to_str() {
            Some(text) => text.parse(),
            None => Err(not_unicode(&text)),
        }
    }
}

impl From<&CommandEndpoint> for CommandEndpoint {
    fn from(endpoint: &CommandEndpoint) -> CommandEndpoint {
        endpoint.clone()
    }
}

fn not_unicode(text: &OsStr) -> EndpointError {
    EndpointError { text: shown(&text.to_string_lossy()), why: "a command's text is UTF-8".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let command = text.parse::<CommandEndpoint>().unwrap().command();
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn words_are_parted_and_quoted_and_nothing_is_expanded() {
        for (text, words, written) in [
            ("exec:a", &["a"][..], "exec:a"),
            ("exec:  a   b ", &["a", "b"], "exec:a b"),
            (
                r"exec:C:\x\a.exe \ $HOME ~ *",
                &[r"C:\x\a.exe", r"\", "$HOME", "~", "*"],
                r"exec:C:\x\a.exe \ $HOME ~ *",
            ),
            (
                r#"exec:"C:\Program Files\a.exe" ''"#,
                &[r"C:\Program Files\a.exe", ""],
                r"exec:'C:\Program Files\a.exe' ''",
            ),
            (r#"exec:a'b c'"d"e"#, &["ab cde"], "exec:'ab cde'"),
            (
                r#"exec:a "it's \"\\\x\" '" '"'"#,
                &["a", r#"it's "\\x" '"#, "\""],
                r#"exec:a "it's \"\\\\x\" '" '"'"#,
            ),
            ("exec:sh -c 'a; b && c'", &["sh", "-c", "a; b && c"], "exec:sh -c 'a; b && c'"),
        ] {
            assert_eq!(parsed(text), words, "{text}");
            let endpoint = text.parse::<CommandEndpoint>().unwrap();
            assert_eq!(endpoint.to_string(), written);
            assert_eq!(written.parse::<CommandEndpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn bad_texts_say_why() {
        for (text, word) in [
            ("exec:", "names no program"),
            ("exec:  ", "names no program"),
            ("exec:'' a", "names no program"),
            ("exec:a 'b", "has no end"),
            (r#"exec:a "b\""#, "has no end"),
            ("exec:a\nb", r"'\n'"),
            ("exec:a\tb", r"'\t'"),
            ("exec:a\u{202e}b", "202e"),
            ("exec", "names no program"),
            ("unix:/x", "expected exec:"),
            ("ssh:host", "write ssh:HOST"),
            ("ssh:host nowhere", "expected SCHEME:REST"),
            ("ssh:host exec:a", "starts a program"),
            ("ssh:-oProxyCommand=x unix:/x", "begins with"),
        ] {
            let error = text.parse::<CommandEndpoint>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn they_are_no_endpoints() {
        for text in ["exec:a", "ssh:host unix:/x"] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("starts a program"), "{error}");
        }
    }
}
