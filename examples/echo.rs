//! A server that sends every byte back, and a client for it.
//!
//!     echo serve [ENDPOINT]...
//!     echo send [ENDPOINT] [TEXT|-]
//!
//! The server shows what a stream without frames is: it is told when a client comes, what the
//! client sends, and when and why the client has gone. It never has more waiting for a client than
//! `Limits::outbox_soft`: while that much is not read, the client is not read from.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;

use sidewire::{
    Access, Closed, Connect, Endpoint, Listen, Peer, RawStream, Server, Session, SessionId, StreamHandler,
};

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "tcp:127.0.0.1:27015";

const USAGE: &str = "usage: echo serve [ENDPOINT]...
       echo send [ENDPOINT] [TEXT|-]       (- is standard input, and the default)

ENDPOINT is local:NAME, unix:/PATH, abstract:NAME, pipe:NAME or tcp:HOST:PORT
(default tcp:127.0.0.1:27015)";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["serve"] => serve(&[DEFAULT]),
        ["serve", ref endpoints @ ..] => serve(endpoints),
        ["send"] => send(DEFAULT, "-"),
        ["send", endpoint] if endpoint.parse::<Endpoint>().is_ok() => send(endpoint, "-"),
        ["send", text] => send(DEFAULT, text),
        ["send", endpoint, text] => send(endpoint, text),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(endpoints: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(());
    // Ctrl-C ends the loop; dropping the server then removes its socket files.
    let remote = server.remote()?;
    ctrlc::set_handler(move || {
        if let Err(error) = remote.stop() {
            eprintln!("echo: {error}");
        }
    })?;
    for endpoint in endpoints {
        let endpoint: Endpoint = endpoint.parse()?;
        // The same user's processes only, wherever the system can tell users apart.
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        server.listen_raw(Listen::from(endpoint).access(access), Echo::default())?;
    }
    for endpoint in server.endpoints() {
        say(&format!("listening {endpoint}"));
    }
    server.run()?;
    Ok(())
}

/// The clients of one endpoint, each with the number of bytes that it has sent.
#[derive(Default)]
struct Echo {
    clients: HashMap<SessionId, (String, u64)>,
}

impl StreamHandler<()> for Echo {
    fn opened(&mut self, (): &mut (), session: &mut Session<'_>) {
        self.clients.insert(session.id(), (who(session.peer()), 0));
    }

    fn data(&mut self, (): &mut (), session: &mut Session<'_>, bytes: &[u8]) {
        session.write(bytes);
        if let Some((name, count)) = self.clients.get_mut(&session.id()) {
            // On a Windows pipe it is known only now.
            *name = who(session.peer());
            *count += bytes.len() as u64;
        }
    }

    // Nothing is to be done when a client has no more to say (`half_closed`): what waits for it
    // still reaches it, and then the connection is closed.

    fn closed(&mut self, (): &mut (), id: SessionId, why: &Closed) {
        if let Some((name, count)) = self.clients.remove(&id) {
            say(&format!("{count} bytes from {name}: {why}"));
        }
    }
}

/// `ip: A , port: P`. Whoever has no such address, as on Unix sockets and pipes, is `ip: local`
/// with its process id for a port, or with 0 while the system does not tell that either.
fn who(peer: &Peer) -> String {
    let pid = peer.credentials.as_ref().and_then(|credentials| credentials.pid);
    match &peer.inet {
        Some(address) => format!("ip: {} , port: {}", address.ip(), address.port()),
        None => format!("ip: local , port: {}", pid.unwrap_or(0)),
    }
}

/// Prints a line at once, into pipes and files too.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // That nobody reads it any more is no reason not to serve.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Sends a text, or standard input as it is, and prints what comes back.
fn send(endpoint: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = endpoint.parse()?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let server = Connect::to(endpoint)?.access(access).open_raw()?;
    let mut stdout = io::stdout().lock();
    if text == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        exchange(&server, &bytes, &mut stdout)?;
    } else {
        exchange(&server, text.as_bytes(), &mut stdout)?;
        writeln!(stdout)?;
    }
    stdout.flush()?;
    Ok(())
}

/// Sends on one thread and receives on the other: were all sent before anything is received, both
/// sides could end up waiting for each other.
fn exchange(mut server: &RawStream, bytes: &[u8], answer: &mut impl Write) -> io::Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            server.write_all(bytes)?;
            match server.shutdown_write() {
                // A Windows pipe: the server can't be told that this was all.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
                result => result.map(|()| true),
            }
        });
        // As much as was sent; and then the end, if the server knows that it is the end.
        io::copy(&mut server.take(bytes.len() as u64), answer)?;
        let server_knows = sending.join().expect("the sending thread does not panic")?;
        if server_knows {
            io::copy(&mut server, answer)?;
        }
        Ok(())
    })
}
