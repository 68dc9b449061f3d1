//! A server that sends every byte back, and a client for it.
//!
//!     echo serve [ENDPOINT]...
//!     echo send [ENDPOINT] [TEXT|-]
//!
//! The server shows what a stream without frames is: it is told when a client comes, what the
//! client sends, and when and why the client has gone. It never has more waiting for a client than
//! `ConnectionLimits::outbox_soft`: while that much is not read, the client is not read from.

mod support;

use std::collections::HashMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use sidewire::{
    Access, Closed, Connect, ConnectionId, Endpoint, Listen, Peer, RawStream, Server, Session, StreamHandler,
};
use support::{Printer, finish, print};

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "tcp:127.0.0.1:27015";

const USAGE: &str = "usage: echo serve [ENDPOINT]...
       echo send [ENDPOINT] [TEXT|-]       (- is standard input, and the default)

ENDPOINT is local:NAME, unix:/PATH, abstract:NAME, pipe:NAME or tcp:HOST:PORT
(default tcp:127.0.0.1:27015)";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let (default, input) = (OsStr::new(DEFAULT), OsStr::new("-"));
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(&[default.into()]),
        ("serve", endpoints) => serve(endpoints),
        ("send", []) => send(default, input),
        ("send", [at]) if Endpoint::try_from(at).is_ok() => send(at, input),
        ("send", [text]) => send(default, text),
        ("send", [endpoint, text]) => send(endpoint, text),
        _ => return finish("echo", USAGE, None),
    };
    finish("echo", USAGE, Some(result))
}

fn serve(endpoints: &[OsString]) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Printer::new()?);
    // Ctrl-C ends the loop; dropping the server then removes its socket files.
    server.stop_on_signals()?;
    for text in endpoints {
        let endpoint = Endpoint::try_from(text)?;
        // The same user's processes only, wherever the system can tell users apart.
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        server.listen_raw(Listen::from(endpoint).access(access), Echo::default())?;
    }
    for endpoint in server.endpoints() {
        server.state().print(format!("listening {endpoint}\n"));
    }
    server.run()?;
    Ok(())
}

/// The clients of one endpoint, each with the number of bytes that it has sent.
#[derive(Default)]
struct Echo {
    clients: HashMap<ConnectionId, (String, u64)>,
}

impl StreamHandler<Printer> for Echo {
    fn opened(&mut self, _: &mut Printer, session: &mut Session<'_>) {
        self.clients.insert(session.id(), (who(session.peer()), 0));
    }

    fn data(&mut self, _: &mut Printer, session: &mut Session<'_>, bytes: &[u8]) {
        session.write(bytes);
        if let Some((name, count)) = self.clients.get_mut(&session.id()) {
            // On a Windows pipe it is known only now.
            *name = who(session.peer());
            *count += bytes.len() as u64;
        }
    }

    // Nothing is to be done when a client has no more to say (`half_closed`): what waits for it
    // still reaches it, and then the connection is closed.

    fn closed(&mut self, printer: &mut Printer, id: ConnectionId, why: &Closed) {
        if let Some((name, count)) = self.clients.remove(&id) {
            printer.print(format!("{count} bytes from {name}: {why}\n"));
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

/// Sends a text, or standard input as it comes, and prints what comes back.
fn send(at: &OsStr, text: &OsStr) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let server = Arc::new(Connect::to(endpoint)?.access(access).open_raw()?);
    if text == "-" {
        return exchange(&server, io::stdin());
    }
    exchange(&server, io::Cursor::new(text.as_encoded_bytes().to_vec()))?;
    print("\n")
}

/// Sends on one thread and receives on the other: were all sent before anything is received, both
/// sides could end up waiting for each other.
fn exchange(server: &Arc<RawStream>, input: impl Read + Send + 'static) -> Result<(), Box<dyn Error>> {
    let (sender, sent) = mpsc::channel();
    let received = Arc::new(AtomicU64::new(0));
    let (to_server, has_come) = (Arc::clone(server), Arc::clone(&received));
    // It is not waited for: it may be reading an input that never ends.
    let sending = thread::spawn(move || send_all(&to_server, input, &sender, &has_come));
    let (mut from_server, mut chunk) = (&**server, vec![0; 64 << 10]);
    let end = loop {
        match from_server.read(&mut chunk) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                print(&chunk[..count])?;
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
            // The input takes its time.
            Err(error) if error.kind() == ErrorKind::TimedOut && !sending.is_finished() => {}
            Err(error) => break Err(error),
        }
    };
    match (sent.try_recv(), end) {
        // It has closed the connection.
        (Ok(Err(error)), _) => Err(error.into()),
        (Ok(Ok(count)), _) if received.load(Ordering::Relaxed) >= count => Ok(()),
        (_, Err(error)) => Err(error.into()),
        (_, Ok(())) => Err("the server has closed the connection before everything had come back".into()),
    }
}

/// Sends all of the input, says how much that was, and then tells the server that it was all.
fn send_all(
    mut server: &RawStream,
    mut input: impl Read,
    sender: &mpsc::Sender<io::Result<u64>>,
    received: &AtomicU64,
) {
    let sent = io::copy(&mut input, &mut server);
    let count = sent.as_ref().ok().copied();
    let _ = sender.send(sent);
    let Some(count) = count else { return server.shutdown() };
    if server.shutdown_write().is_err() {
        // A Windows pipe: the server can't be told. Once as much has come back we close it ourselves.
        while received.load(Ordering::Relaxed) < count {
            thread::sleep(Duration::from_millis(5));
        }
        server.shutdown();
    }
}
