//! Plays the conversations of the files with real servers.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::time::Duration;

use sidewire::{Endpoint, Limits, Running};
use sidewire_platform::Channel;

use crate::tool;
use crate::util::{self, Conversation, Process, Step, conversations};

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn conversations_over_every_stream() {
    let schemes = sidewire_platform::stream_schemes();
    std::thread::scope(|scope| {
        schemes.iter().for_each(|scheme| drop(scope.spawn(|| play_all(scheme))));
    });
}

#[test]
fn conversations_over_udp() {
    play_all("udp");
}

/// Plays every conversation with a server of its own, all at the same time: some mostly wait. Says of
/// all that differ where they do.
fn play_all(scheme: &str) {
    let _watchdog = util::watchdog(90);
    let conversations = conversations();
    let differences: String = std::thread::scope(|scope| {
        let play = |conversation| {
            scope.spawn(move || match scheme {
                "udp" => play_datagrams(conversation),
                _ => play(conversation, scheme),
            })
        };
        let theirs = conversations.iter().filter(|conversation| conversation.is_for(scheme));
        let playing: Vec<_> = theirs.map(|conversation| (&conversation.name, play(conversation))).collect();
        playing.into_iter().fold(String::new(), |mut differences, (name, thread)| {
            if let Err(difference) = thread.join().expect("a player") {
                let _ = write!(differences, "\n{name} over {scheme}: {difference}");
            }
            differences
        })
    });
    assert!(differences.is_empty(), "{differences}");
}

/// Starts the server that a conversation asks for.
pub(crate) fn serve(conversation: &Conversation, endpoint: &Endpoint) -> (Running<Vec<u8>>, Endpoint) {
    let mut limits = Limits::default();
    let mut listen = util::usual(endpoint);
    for (key, value) in &conversation.settings {
        let number = || value.parse::<u32>().expect("a number");
        let time = || {
            Duration::from_millis(value.strip_suffix("ms").and_then(|ms| ms.parse().ok()).expect("a time"))
        };
        match &key[..] {
            "classic_max" => listen = listen.classic_max(number()),
            "classic_fixed" => listen = listen.classic_fixed(number()),
            "without_classic" => listen = listen.without_classic(),
            "max_connections" => limits.listener.max_connections = number() as usize,
            "max_payload" => limits.listener.connection.max_payload = number(),
            "max_in_flight_bytes" => limits.listener.connection.max_in_flight_bytes = number(),
            "hello_timeout" => limits.listener.connection.hello_timeout = time(),
            "partial_frame_timeout" => limits.listener.connection.partial_frame_timeout = time(),
            "only" | "tool" => {}
            _ => panic!("{}: unknown setting {key}", conversation.name),
        }
    }
    let (running, mut bound) = util::start(util::store_with(limits), [listen]);
    (running, bound.remove(0))
}

/// Who plays the server's part.
enum Host {
    Own(Running<Vec<u8>>),
    /// Whose store has more than that of the tests.
    Tool(#[expect(dead_code, reason = "it is killed when it is dropped")] Process),
}

impl Host {
    /// `None`: nobody can.
    fn start(conversation: &Conversation, endpoint: &Endpoint) -> Option<(Host, Endpoint)> {
        if conversation.setting("tool").is_none() {
            let (running, bound) = serve(conversation, endpoint);
            return Some((Host::Own(running), bound));
        }
        let mut process = tool::serve(endpoint, tool::options(conversation)?)?;
        let bound = process.endpoints.remove(0);
        Some((Host::Tool(process), bound))
    }

    fn stop(self) -> Result<(), String> {
        match self {
            Host::Own(running) => running.stop().map(drop).map_err(|error| error.to_string()),
            Host::Tool(_) => Ok(()),
        }
    }
}

fn play(conversation: &Conversation, scheme: &str) -> Result<(), String> {
    let Some((server, endpoint)) = Host::start(conversation, &util::fresh(scheme)) else {
        eprintln!("{}: the tool was not built: not tried", conversation.name);
        return Ok(());
    };
    let channel = Channel::connect(&endpoint, Some(PATIENCE)).map_err(|error| error.to_string())?;
    let halves = conversation.steps.iter().any(|(_, step)| matches!(step, Step::SendEnd));
    if halves && !channel.has_half_close() {
        return Ok(()); // A named pipe.
    }
    for (line, step) in &conversation.steps {
        let at = |difference| format!("line {line}: {difference}");
        match step {
            Step::Send(bytes) => send(&channel, bytes).map_err(at)?,
            Step::SendEnd => channel.shutdown_write().map_err(|error| at(error.to_string()))?,
            Step::Expect(expected) => expect(&channel, expected).map_err(at)?,
            Step::ExpectEnd => expect_end(&channel).map_err(at)?,
            // It waits for the client to leave; that has its own time limits.
            Step::StopServer => match &server {
                Host::Own(running) => {
                    running.remote().stop_within(2 * PATIENCE).map_err(|error| at(error.to_string()))?;
                }
                Host::Tool(_) => return Err(at("the tool can't be told to stop everywhere".into())),
            },
        }
    }
    drop(channel);
    server.stop()
}

/// The same where everything that one side says in a row is one datagram.
fn play_datagrams(conversation: &Conversation) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let Some((server, endpoint)) = Host::start(conversation, &util::fresh("udp")) else {
        eprintln!("{}: the tool was not built: not tried", conversation.name);
        return Ok(());
    };
    let Endpoint::Udp { host, port } = endpoint else { unreachable!("it was udp when it was bound") };
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
    socket.connect((host.as_str(), port)).map_err(text)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    for (line, step) in &conversation.steps {
        match step {
            Step::Send(bytes) => socket.send(bytes).map(drop).map_err(text)?,
            Step::Expect(expected) => {
                let mut bytes = [0; 65536];
                let count = socket.recv(&mut bytes).map_err(|error| format!("line {line}: {error}"))?;
                compare(&bytes[..count], expected).map_err(|why| format!("line {line}: {why}"))?;
            }
            step => return Err(format!("line {line}: datagrams have no {step:?}")),
        }
    }
    server.stop()
}

fn send(channel: &Channel, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let count = channel.send(bytes, Some(PATIENCE)).map_err(|error| format!("sending: {error}"))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Reads exactly as many bytes as are expected, and compares them.
fn expect(channel: &Channel, expected: &[Option<u8>]) -> Result<(), String> {
    let mut bytes = vec![0; expected.len()];
    let mut have = 0;
    let mut end = "";
    while have < bytes.len() && end.is_empty() {
        match channel.recv(&mut bytes[have..], Some(PATIENCE)) {
            Ok(0) => end = ", then the end",
            Ok(count) => have += count,
            Err(error) => return Err(format!("after {have} bytes of this line: {error}")),
        }
    }
    compare(&bytes[..have], expected).map_err(|difference| difference + end)
}

fn compare(bytes: &[u8], expected: &[Option<u8>]) -> Result<(), String> {
    let same = |(byte, expected): (&u8, &Option<u8>)| expected.is_none_or(|expected| expected == *byte);
    if bytes.len() == expected.len() && bytes.iter().zip(expected).all(same) {
        return Ok(());
    }
    let expected: Vec<_> =
        expected.iter().map(|byte| byte.map_or("..".into(), |byte| format!("{byte:02x}"))).collect();
    Err(format!("expected {}, got {}", expected.join(" "), hex(bytes)))
}

fn expect_end(channel: &Channel) -> Result<(), String> {
    let mut bytes = [0; 64];
    match channel.recv(&mut bytes, Some(PATIENCE)) {
        Ok(0) => Ok(()),
        Ok(count) => Err(format!("expected the end, got {}", hex(&bytes[..count]))),
        Err(error) => Err(format!("expected the end: {error}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
