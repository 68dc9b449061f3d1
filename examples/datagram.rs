//! Datagrams without frames: a server that prints them, and may send them back.
//!
//!     datagram serve [ENDPOINT] [--echo]
//!     datagram send [ENDPOINT]
//!
//! A datagram's text ends at its first NUL. It is printed behind its sender: `ip: A , port: P`, or
//! the name of a Unix socket (`unnamed` if it has none). Who writes to a mailslot nobody knows.

mod support;

use std::convert::Infallible;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Access, Address, Connect, Endpoint, EndpointKind, Listen, RawDatagrams, Server};
use support::{Printer, complain, finish, print};

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "udp:127.0.0.1:1235";
const PROMPT: &str = "send: ";
/// Bytes of one datagram's text that are printed.
const PRINTED: usize = 1_000;
/// Room for an answer: as large as Unix sockets carry them.
const LARGEST: usize = 256 << 10;
/// How long a server that takes no more may keep us from going on.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after the last datagram an answer is waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

const USAGE: &str = "usage: datagram serve [ENDPOINT] [--echo]
       datagram send [ENDPOINT]

ENDPOINT is udp:HOST:PORT, unixgram:/PATH, abstractgram:NAME or mailslot:NAME
(default udp:127.0.0.1:1235)
--echo  sends every datagram back as it came

Commands of send: exit, an empty line, or the end of the input.";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let default = OsStr::new(DEFAULT);
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(default, false),
        ("serve", [option]) if *option == "--echo" => serve(default, true),
        ("serve", [endpoint]) => serve(endpoint, false),
        ("serve", [option, endpoint] | [endpoint, option]) if *option == "--echo" => serve(endpoint, true),
        ("send", []) => send(default),
        ("send", [endpoint]) => send(endpoint),
        _ => return finish("datagram", USAGE, None),
    };
    finish("datagram", USAGE, Some(result))
}

fn serve(at: &OsStr, echo: bool) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(at)?;
    // The same user's processes only, wherever the system can tell users apart.
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    let mut server = Server::new(Printer::new()?);
    // Ctrl-C ends the loop; dropping the server then removes its socket file.
    server.stop_on_signals()?;
    let listen = Listen::from(endpoint).access(access);
    let bound = server.listen_messages(listen, move |printer: &mut Printer, message, reply| {
        let text = printable(message.bytes());
        match message.endpoint() {
            Endpoint::Mailslot(_) => printer.print(format!("{text}\n")),
            _ => printer.print(format!("{}: {text}\n", who(message.sender()))),
        }
        if echo {
            reply.send(message.bytes());
        }
    })?;
    server.state().print(format!("listening {bound}\n"));
    server.run()?;
    Ok(())
}

/// A sender's address.
fn who(sender: Option<&Address>) -> String {
    match sender {
        Some(Address::Inet(address)) => format!("ip: {} , port: {}", address.ip(), address.port()),
        Some(name) => printable(name.to_string().as_bytes()),
        None => "unnamed".to_owned(),
    }
}

/// The text up to its first NUL: UTF-8 as it is, except what could drive a terminal, control
/// characters and other bytes. What is very long is cut.
fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    // Not in the middle of a character.
    let starts = |&at: &usize| text.get(at).is_none_or(|byte| byte & 0xC0 != 0x80);
    let cut = (PRINTED - 3..=PRINTED).rev().find(starts).unwrap_or(PRINTED);
    let (shown, more) = text.split_at(cut.min(text.len()));
    let mut line = String::new();
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => line.extend(character.escape_default()),
                false => line.push(character),
            }
        }
        line.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    if !more.is_empty() {
        line += &format!(" (and {} bytes more)", more.len());
    }
    line
}

/// This thread sends what is typed, another one prints what comes back.
fn send(at: &OsStr) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let connect = Connect::to(&endpoint)?.access(access).call_timeout(Some(PATIENCE));
    let server = Arc::new(connect.open_messages()?);
    // Nothing comes back from a mailslot, which has no address to answer to either.
    let is_answered = endpoint.kind() == EndpointKind::Datagram;
    if is_answered {
        let server = Arc::clone(&server);
        thread::spawn(move || match print_answers(&server) {
            Ok(never) => match never {},
            // Typing goes on: a server that has gone may come again.
            Err(error) => complain(format_args!("\ndatagram: {error}")),
        });
    }
    if let Some(last) = send_lines(&server, is_answered)?.filter(|_| is_answered) {
        thread::sleep(LAST_WORDS.saturating_sub(last.elapsed()));
    }
    Ok(())
}

/// Sends each line until there is nothing more to say. Says when the last one was sent.
fn send_lines(server: &RawDatagrams, has_address: bool) -> Result<Option<Instant>, Box<dyn Error>> {
    let mut input = io::stdin().lock();
    let mut last = None;
    loop {
        print(PROMPT)?;
        let mut line = Vec::new();
        // No more than shows that it is too large; the rest of such a line is passed over.
        let length = input.by_ref().take(LARGEST as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            print("\n")?;
        } else if length > LARGEST && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            complain(format_args!("datagram: a line of over {LARGEST} bytes is too large"));
            continue;
        }
        line.pop_if(|last| *last == b'\n');
        line.pop_if(|last| *last == b'\r');
        if line.is_empty() || line == b"exit" {
            return Ok(last);
        }
        match server.send(&line) {
            Err(error) if error.is_invalid_input() => {
                // Too large; the next one may not be.
                complain(format_args!("datagram: {error}"));
                continue;
            }
            result => result?,
        }
        if last.replace(Instant::now()).is_none() && has_address {
            print(format!("sent from {}\n", who(Some(&server.local_address()?))))?;
        }
    }
}

/// Prints what the server sends, for as long as the program runs.
fn print_answers(server: &RawDatagrams) -> Result<Infallible, Box<dyn Error>> {
    let mut buffer = vec![0; LARGEST];
    loop {
        match server.receive(&mut buffer) {
            // On a line of its own, and then the prompt again.
            Ok(length) => print(format!("\n{}\n{PROMPT}", printable(&buffer[..length])))?,
            Err(error) if error.is_timeout() => {}
            // UDP says so when nobody was there. Somebody may come.
            Err(error) if error.is_not_listening() => {
                complain(format_args!("\ndatagram: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
