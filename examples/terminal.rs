//! A server that prints what its clients type, and a client to type at.
//!
//!     terminal serve [ENDPOINT] [--record N] [--greeting TEXT]
//!     terminal connect [ENDPOINT]
//!
//! The server greets each client, never answers after that, and prints its messages, each of which
//! ends at a newline or a NUL. Older clients send records of a fixed size instead, their whole
//! `char buf[50]`: the text ends at the first NUL, and what stands behind it is not meant for
//! anybody. `--record 50` is for them.

mod support;

use std::collections::HashMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, Read, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{
    Access, Closed, Connect, ConnectionId, Endpoint, Listen, Peer, RawStream, Server, Session, StreamHandler,
};
use support::{Printer, complain, finish, print};

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "tcp:127.0.0.1:9100";
const GREETING: &str = "hello \n";
const PROMPT: &str = "send: ";
/// How long the text of a record waits for the record's other half before it is printed.
const HOLD: Duration = Duration::from_millis(50);
/// A message that is longer than this many bytes is printed in pieces.
const LONGEST: usize = 1 << 20;
/// How long the client, when it leaves, listens to what the server still has to say.
const LAST_WORDS: Duration = Duration::from_millis(500);

const USAGE: &str = r"usage: terminal serve [ENDPOINT] [--record N] [--greeting TEXT]
       terminal connect [ENDPOINT]

ENDPOINT is local:NAME, unix:/PATH, abstract:NAME, pipe:NAME or tcp:HOST:PORT
(default tcp:127.0.0.1:9100)
--record N       clients send records of N bytes: text, a NUL, and a rest that is not printed
--greeting TEXT  what each client is sent first, as it is (default 'hello \n')

Commands of connect: exit, an empty line, or the end of the input.";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", options) => parse(options).map(|options| serve(&options)),
        ("connect", []) => Some(connect(OsStr::new(DEFAULT))),
        ("connect", [endpoint]) => Some(connect(endpoint)),
        _ => None,
    };
    finish("terminal", USAGE, result)
}

/// What `serve` is told.
struct Options<'a> {
    endpoint: &'a OsStr,
    greeting: &'a OsStr,
    record: Option<NonZeroUsize>,
}

/// `None`: nonsense.
fn parse(args: &[OsString]) -> Option<Options<'_>> {
    let (mut endpoint, mut greeting, mut record) = (None, OsStr::new(GREETING), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--record") => record = Some(args.next()?.to_str()?.parse().ok()?),
            Some("--greeting") => greeting = args.next()?,
            Some(text) if text.starts_with('-') => return None,
            _ if endpoint.is_some() => return None,
            _ => endpoint = Some(arg.as_os_str()),
        }
    }
    Some(Options { endpoint: endpoint.unwrap_or(OsStr::new(DEFAULT)), greeting, record })
}

fn serve(options: &Options<'_>) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(options.endpoint)?;
    let mut server = Server::new(Terminal {
        greeting: options.greeting.as_encoded_bytes().to_vec(),
        record: options.record,
        printer: Printer::new()?,
        clients: HashMap::new(),
    });
    // Ctrl-C ends the loop; dropping the server then removes its socket files.
    server.stop_on_signals()?;
    // The same user's processes only, wherever the system can tell users apart.
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    let bound = server.listen_raw(Listen::from(endpoint).access(access), Events)?;
    server.state().printer.print(format!("listening {bound}\n"));
    // A loop of our own in place of `run`, because there are things to do when time has passed.
    while server.turn(server.state().patience())? {
        server.state_mut().print_what_is_due();
    }
    Ok(())
}

/// The server's state.
struct Terminal {
    greeting: Vec<u8>,
    /// Bytes in each record of a client. `None`: there are no records.
    record: Option<NonZeroUsize>,
    printer: Printer,
    clients: HashMap<ConnectionId, Client>,
}

impl Terminal {
    /// How long to wait for something to happen before it is time to print.
    fn patience(&self) -> Option<Duration> {
        let oldest = self.clients.values().filter_map(|client| client.held_since).min();
        oldest.map(|since| (since + HOLD).saturating_duration_since(Instant::now()))
    }

    fn print_what_is_due(&mut self) {
        let is_due = |client: &&mut Client| client.held_since.is_some_and(|since| since.elapsed() >= HOLD);
        let Terminal { clients, printer, .. } = self;
        clients.values_mut().filter(is_due).for_each(|client| client.print_text(printer, false));
    }
}

/// What happens to a connection, handed to the client that it concerns.
struct Events;

impl StreamHandler<Terminal> for Events {
    fn opened(&mut self, terminal: &mut Terminal, session: &mut Session<'_>) {
        let client = Client { name: who(session.peer()), ..Client::default() };
        terminal.printer.print(format!("client login. {}\n", client.name));
        session.write(&terminal.greeting);
        terminal.clients.insert(session.id(), client);
    }

    fn data(&mut self, terminal: &mut Terminal, session: &mut Session<'_>, bytes: &[u8]) {
        let Some(client) = terminal.clients.get_mut(&session.id()) else { return };
        // On a Windows pipe it is known only now.
        client.name = who(session.peer());
        client.take(bytes, terminal.record, &terminal.printer);
    }

    fn closed(&mut self, terminal: &mut Terminal, id: ConnectionId, why: &Closed) {
        let Some(mut client) = terminal.clients.remove(&id) else { return };
        client.print_text(&terminal.printer, true);
        terminal.printer.print(format!("client logout. {}: {why}\n", client.name));
    }
}

/// One client of the server.
#[derive(Default)]
struct Client {
    name: String,
    /// What it has said and was not printed yet.
    text: Vec<u8>,
    /// Since when `text` waits for the rest of its record.
    held_since: Option<Instant>,
    /// How many bytes of the current record have come, and whether a NUL was among them.
    position: usize,
    is_junk: bool,
}

impl Client {
    fn take(&mut self, bytes: &[u8], record: Option<NonZeroUsize>, printer: &Printer) {
        for &byte in bytes {
            match byte {
                _ if self.is_junk => {}
                b'\n' => {
                    self.text.pop_if(|last| *last == b'\r');
                    self.print_text(printer, true);
                }
                0 => {
                    self.is_junk = record.is_some();
                    self.print_text(printer, record.is_none());
                }
                byte => self.text.push(byte),
            }
            let Some(size) = record else { continue };
            self.position = (self.position + 1) % size;
            if self.position == 0 {
                self.is_junk = false;
                self.print_text(printer, false);
            }
        }
        if self.text.len() > LONGEST {
            self.print_text(printer, false);
        }
        if record.is_some() && !self.text.is_empty() {
            self.held_since.get_or_insert_with(Instant::now);
        }
    }

    /// Prints a line. Unless it ends here for good, a last character that is cut through, as those
    /// old clients do where their record is full, waits for its other bytes.
    fn print_text(&mut self, printer: &Printer, is_end: bool) {
        self.held_since = None;
        let kept = if is_end { 0 } else { unfinished(&self.text) };
        let rest = self.text.split_off(self.text.len() - kept);
        let text = std::mem::replace(&mut self.text, rest);
        if !text.is_empty() {
            printer.print(format!("{}: {}\n", self.name, printable(&text)));
        }
    }
}

/// `ip: A , port: P`. Whoever has no such address, as on Unix sockets and pipes, is `ip: local`
/// with its process id for a port, or with 0 while the system does not tell that either.
fn who(peer: &Peer) -> String {
    let pid = peer.credentials().and_then(|credentials| credentials.pid());
    match peer.address() {
        Some(address) => format!("ip: {} , port: {}", address.ip(), address.port()),
        None => format!("ip: local , port: {}", pid.unwrap_or(0)),
    }
}

/// UTF-8 as it is, except what could drive a terminal: control characters and other bytes.
fn printable(text: &[u8]) -> String {
    let mut line = String::new();
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => line.extend(character.escape_default()),
                false => line.push(character),
            }
        }
        line.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    line
}

/// How many bytes at the end begin a character that more bytes would finish.
fn unfinished(text: &[u8]) -> usize {
    let end = text.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match str::from_utf8(end) {
        Err(error) if error.error_len().is_none() => end.len(),
        _ => 0,
    }
}

/// One thread sends what is typed, this one prints what the server says.
fn connect(at: &OsStr) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    // The server may be silent for as long as it likes: no time limit.
    let server = Arc::new(Connect::to(endpoint)?.access(access).call_timeout(None).open_raw()?);
    let typist = Arc::clone(&server);
    thread::spawn(move || {
        if let Err(error) = send_lines(&typist) {
            complain(format_args!("terminal: {error}"));
        }
        // The server now knows that this was all, and closes. On a Windows pipe it can't know, and
        // others may not care: then we close.
        let _ = typist.shutdown_write();
        thread::sleep(LAST_WORDS);
        typist.shutdown();
    });
    print_answers(&server)?;
    print("\nconnection closed\n")
}

/// Sends what is typed, line by line, until there is nothing more to say.
fn send_lines(mut server: &RawStream) -> Result<(), Box<dyn Error>> {
    let mut input = io::stdin().lock();
    loop {
        print(PROMPT)?;
        let mut line = Vec::new();
        // A line that is longer goes in pieces, and counts as several.
        input.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)?;
        line.pop_if(|last| *last == b'\n');
        line.pop_if(|last| *last == b'\r');
        if line.is_empty() || line == b"exit" {
            return Ok(());
        }
        line.push(b'\n');
        server.write_all(&line)?;
    }
}

/// Prints what the server says, until it has closed.
fn print_answers(mut server: &RawStream) -> Result<(), Box<dyn Error>> {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let count = server.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        text.extend_from_slice(&chunk[..count]);
        let rest = text.split_off(text.len() - unfinished(&text));
        let words = text.strip_suffix(b"\n").unwrap_or(&text);
        let lines: Vec<String> = words.split(|byte| *byte == b'\n').map(printable).collect();
        if !text.is_empty() {
            // On lines of its own, and then the prompt again.
            print(format!("\n{}\n{PROMPT}", lines.join("\n")))?;
        }
        text = rest;
    }
}
