//! Datagrams without frames: a server that prints them, and may send them back.
//!
//!     datagram serve [ENDPOINT] [--echo]     (default endpoint: udp:127.0.0.1:1235)
//!     datagram send [ENDPOINT]               (reads lines at a prompt)
//!
//! A datagram's text ends at its first NUL. Each is printed behind its sender: `ip: A , port: P`,
//! or the name of a Unix socket (`unnamed` if it has none); a mailslot's writers are not known.

use std::error::Error;
use std::io::{BufRead, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use sidewire::{Access, Address, Connect, Endpoint, EndpointKind, Listen, RawDatagrams, Server};

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "udp:127.0.0.1:1235";

/// Bytes of one datagram's text that are printed.
const PRINTED: usize = 1_000;

const USAGE: &str = "usage: datagram serve [ENDPOINT] [--echo]
       datagram send [ENDPOINT]

ENDPOINT is udp:HOST:PORT (default udp:127.0.0.1:1235), unixgram:/PATH, abstractgram:NAME or mailslot:NAME";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["serve"] => serve(DEFAULT, false),
        ["serve", "--echo"] => serve(DEFAULT, true),
        ["serve", endpoint] => serve(endpoint, false),
        ["serve", endpoint, "--echo"] | ["serve", "--echo", endpoint] => serve(endpoint, true),
        ["send"] => send(DEFAULT),
        ["send", endpoint] => send(endpoint),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("datagram: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(endpoint: &str, echo: bool) -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = endpoint.parse()?;
    // The same user's processes only, wherever the system can tell users apart.
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    let mut server = Server::new(());
    let bound =
        server.listen_messages(Listen::from(endpoint).access(access), move |(), message, reply| {
            let sender = match message.endpoint() {
                Endpoint::Mailslot(_) => String::new(),
                _ => format!("{}  ", describe(message.sender())),
            };
            say(&format!("{sender}{}", printable(message.bytes())));
            if echo {
                reply.send(message.bytes());
            }
        })?;
    let remote = server.remote()?;
    ctrlc::set_handler(move || {
        if let Err(error) = remote.stop() {
            eprintln!("datagram: {error}");
        }
    })?;
    say(&format!("listening {bound}"));
    server.run()?;
    Ok(())
}

/// Who sent it.
fn describe(sender: Option<&Address>) -> String {
    match sender {
        Some(Address::Inet(address)) => format!("ip: {} , port: {}", address.ip(), address.port()),
        Some(address) => address.to_string().escape_debug().to_string(),
        None => "unnamed".to_owned(),
    }
}

/// The text of a datagram: up to its first NUL, with control characters escaped, so that no peer
/// drives the terminal.
fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let cut = text.len().min(PRINTED);
    let shown = String::from_utf8_lossy(&text[..cut]);
    let escaped: String = shown
        .chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect();
    match text.len() - cut {
        0 => escaped,
        more => format!("{escaped} (and {more} bytes more)"),
    }
}

/// Prints a line. That nobody reads it is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Reads lines at a prompt and sends each as a datagram, until `exit`, an empty line, or the end.
fn send(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = endpoint.parse()?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let answers = endpoint.kind() == EndpointKind::Datagram;
    let connect = Connect::to(&endpoint)?.access(access).call_timeout(Some(Duration::from_millis(100)));
    let socket = connect.open_messages()?;
    std::thread::scope(|scope| {
        let (is_over, over) = std::sync::mpsc::channel::<()>();
        if answers {
            scope.spawn(|| print_answers(&socket, over));
        }
        let result = prompt(&socket, answers);
        drop(is_over);
        result
    })
}

fn prompt(socket: &RawDatagrams, has_address: bool) -> Result<(), Box<dyn Error>> {
    let mut is_first = true;
    let mut line = String::new();
    loop {
        print!("send: ");
        std::io::stdout().flush()?;
        line.clear();
        std::io::stdin().lock().read_line(&mut line)?;
        let text = line.trim_end_matches(['\n', '\r']);
        if text.is_empty() || text == "exit" {
            return Ok(());
        }
        socket.send(text)?;
        if std::mem::take(&mut is_first) && has_address {
            say(&format!("sent from {}", describe(Some(&socket.local_address()?))));
        }
    }
}

/// Prints what the server sends back, until the prompt is over.
fn print_answers(socket: &RawDatagrams, over: std::sync::mpsc::Receiver<()>) {
    let mut buffer = vec![0; 128 << 10];
    while over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
        match socket.receive(&mut buffer) {
            Ok(length) => say(&format!("answer: {}", printable(&buffer[..length]))),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return eprintln!("datagram: {error}"),
        }
    }
}
