//! `PROTOCOL.md`, held to what the server does: its conversations are played against a real
//! server byte for byte, its tables are compared with the code's numbers, its programs are run.

#[path = "util/mod.rs"]
mod util;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use sidewire::{Endpoint, Failure, Limits, ResultCode, Running, Server};
use sidewire_platform::Channel;

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn conversations_over_unix_sockets() {
    if sidewire_platform::stream_schemes().contains(&"unix") {
        play_all("unix");
    }
}

#[test]
fn conversations_over_tcp() {
    play_all("tcp");
}

#[test]
fn conversations_over_udp() {
    play_all("udp");
}

/// Plays every conversation with a server of its own. Says of all that differ where they do.
fn play_all(scheme: &str) {
    let _watchdog = util::watchdog(90);
    let mut differences = String::new();
    for conversation in conversations() {
        // The classic dumps, and refusals in that layout, are those of a little-endian machine.
        let foreign = cfg!(target_endian = "big") && !conversation.name.contains("v1");
        if foreign || !conversation.is_for(scheme) {
            continue;
        }
        let played = match scheme {
            "udp" => conversation.play_datagrams(),
            _ => conversation.play(scheme),
        };
        if let Err(difference) = played {
            let _ = write!(differences, "\n{} over {scheme}: {difference}", conversation.name);
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// One fenced block of the document whose info string begins with `conversation`.
struct Conversation {
    name: &'static str,
    settings: Vec<(&'static str, &'static str)>,
    /// Each with its line's number.
    steps: Vec<(usize, Step)>,
}

#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    SendEnd,
    /// `None` is any byte.
    Expect(Vec<Option<u8>>),
    ExpectEnd,
    StopServer,
}

fn conversations() -> Vec<Conversation> {
    let mut found: Vec<Conversation> = Vec::new();
    let mut inside = false;
    for (index, line) in DOCUMENT.lines().enumerate() {
        let number = index + 1;
        if let Some(info) = line.strip_prefix("```conversation ") {
            let mut words = info.split_whitespace();
            let name = words.next().expect("a conversation has a name");
            let settings = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
            found.push(Conversation { name, settings, steps: Vec::new() });
            inside = true;
        } else if line.starts_with("```") {
            inside = false;
        } else if inside {
            let steps = &mut found.last_mut().expect("it was pushed above").steps;
            match (steps.last_mut(), Step::parse(line).unwrap_or_else(|why| panic!("line {number}: {why}"))) {
                (Some((_, Step::Send(earlier))), Step::Send(bytes)) => earlier.extend(bytes),
                (_, step) => steps.push((number, step)),
            }
        }
    }
    found
}

impl Step {
    fn parse(line: &str) -> Result<Step, String> {
        let said = line.split(';').next().unwrap_or_default().trim();
        let (who, what) = said.split_once(' ').ok_or("expected '> ', '< ' or '! '")?;
        match (who, what.trim()) {
            (">", "end") => Ok(Step::SendEnd),
            ("<", "end") => Ok(Step::ExpectEnd),
            ("!", "stop") => Ok(Step::StopServer),
            (">", bytes) => bytes.split(' ').map(byte).collect::<Result<_, _>>().map(Step::Send),
            ("<", bytes) => {
                let any_or_byte = |word| if word == ".." { Ok(None) } else { byte(word).map(Some) };
                bytes.split(' ').map(any_or_byte).collect::<Result<_, _>>().map(Step::Expect)
            }
            _ => Err(format!("'{said}' is no step")),
        }
    }
}

fn byte(word: &str) -> Result<u8, String> {
    match u8::from_str_radix(word, 16) {
        Ok(byte) if word.len() == 2 => Ok(byte),
        _ => Err(format!("'{word}' is no byte")),
    }
}

impl Conversation {
    fn setting(&self, name: &str) -> Option<&'static str> {
        self.settings.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Streams are all alike unless the block says otherwise.
    fn is_for(&self, scheme: &str) -> bool {
        self.setting("only").map_or(scheme != "udp", |only| only == scheme)
    }

    /// Starts the server that the block asks for.
    fn serve(&self, endpoint: &Endpoint) -> (Running<Vec<u8>>, Endpoint) {
        let mut limits = Limits::default();
        let mut listen = util::usual(endpoint);
        for (key, value) in &self.settings {
            let number = || value.parse::<u32>().expect("a number");
            let time = || {
                Duration::from_millis(
                    value.strip_suffix("ms").and_then(|ms| ms.parse().ok()).expect("a time"),
                )
            };
            match *key {
                "classic_max" => listen = listen.classic_max(number()),
                "classic_fixed" => listen = listen.classic_fixed(number()),
                "without_classic" => listen = listen.without_classic(),
                "max_connections" => limits.max_connections = number() as usize,
                "max_in_flight_bytes" => limits.max_in_flight_bytes = number(),
                "hello_timeout" => limits.hello_timeout = time(),
                "partial_frame_timeout" => limits.partial_frame_timeout = time(),
                "only" => {}
                _ => panic!("{}: unknown setting {key}", self.name),
            }
        }
        let (running, mut bound) = util::start(util::store_with(limits), [listen]);
        (running, bound.remove(0))
    }

    fn play(&self, scheme: &str) -> Result<(), String> {
        let (running, endpoint) = self.serve(&util::fresh(scheme));
        let channel = Channel::connect(&endpoint, Some(PATIENCE)).map_err(|error| error.to_string())?;
        for (line, step) in &self.steps {
            let at = |difference| format!("line {line}: {difference}");
            match step {
                Step::Send(bytes) => send(&channel, bytes).map_err(at)?,
                Step::SendEnd => channel.shutdown_write().map_err(|error| at(error.to_string()))?,
                Step::Expect(expected) => expect(&channel, expected).map_err(at)?,
                Step::ExpectEnd => expect_end(&channel).map_err(at)?,
                // It waits for the client to leave; that has its own time limits.
                Step::StopServer => {
                    running.remote().stop_within(2 * PATIENCE).map_err(|error| at(error.to_string()))?;
                }
            }
        }
        drop(channel);
        running.stop().map(drop).map_err(|error| error.to_string())
    }
}

impl Conversation {
    /// The same where everything that one side says in a row is one datagram.
    fn play_datagrams(&self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let (running, endpoint) = self.serve(&"udp:127.0.0.1:0".parse().expect("an endpoint"));
        let Endpoint::Udp { host, port } = endpoint else { unreachable!("it was udp when it was bound") };
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
        socket.connect((host.as_str(), port)).map_err(text)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let mut steps = self.steps.iter().peekable();
        while let Some((line, step)) = steps.next() {
            match step {
                Step::Send(bytes) => socket.send(bytes).map(drop).map_err(text)?,
                Step::Expect(first) => {
                    let mut expected = first.clone();
                    while let Some((_, Step::Expect(more))) = steps.peek() {
                        expected.extend(more);
                        steps.next();
                    }
                    let mut bytes = [0; 65536];
                    let count = socket.recv(&mut bytes).map_err(|error| format!("line {line}: {error}"))?;
                    compare(&bytes[..count], &expected).map_err(|why| format!("line {line}: {why}"))?;
                }
                step => return Err(format!("line {line}: datagrams have no {step:?}")),
            }
        }
        running.stop().map(drop).map_err(|error| error.to_string())
    }
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

#[test]
fn conversations_are_complete() {
    let all = conversations();
    let names: BTreeSet<_> = all.iter().map(|conversation| conversation.name).collect();
    assert_eq!(names.len(), all.len(), "each name is used once");
    for name in ["classic-short", "classic-fixed", "v1-session", "v1-refused-version", "v1-oversized"] {
        assert!(names.contains(name), "{name}");
    }
    for Conversation { name, steps, .. } in all.iter().filter(|conversation| !conversation.is_for("udp")) {
        let last = steps.last().map(|(_, step)| step);
        assert!(matches!(last, Some(Step::ExpectEnd)), "{name} ends with '< end', not with {last:?}");
    }
}

/// The rows of the table whose header begins with these cells, without the markup of code.
fn table(header: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines =
        DOCUMENT.lines().skip_while(|line| !line.starts_with('|') || !cells(line).starts_with_strs(header));
    assert!(lines.next().is_some(), "there is no table with the header {header:?}");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

trait StartsWithStrs {
    fn starts_with_strs(&self, other: &[&str]) -> bool;
}

impl StartsWithStrs for Vec<String> {
    fn starts_with_strs(&self, other: &[&str]) -> bool {
        self.len() >= other.len() && self.iter().zip(other).all(|(mine, other)| mine == other)
    }
}

#[test]
fn the_table_of_result_codes_is_the_code_s() {
    let mut listed = BTreeSet::new();
    for row in table(&["code", "name"]) {
        let code: i32 = row[0].parse().expect("a code");
        assert_eq!(ResultCode::new(code).to_string(), format!("{} ({code})", row[1]));
        assert!(listed.insert(code), "{code} stands there once");
    }
    let named = (-999..=0).filter(|&code| !ResultCode::new(code).to_string().starts_with("reserved"));
    assert_eq!(listed, named.collect());
    let constants = [
        (ResultCode::OK, 0),
        (ResultCode::UNKNOWN_TYPE, -1),
        (ResultCode::NO_HANDLER, -2),
        (ResultCode::TOO_LARGE, -3),
        (ResultCode::MALFORMED, -4),
        (ResultCode::NOT_PERMITTED, -5),
        (ResultCode::BUSY, -6),
        (ResultCode::TIMED_OUT, -7),
        (ResultCode::CANCELLED, -8),
        (ResultCode::SHUTTING_DOWN, -9),
        (ResultCode::HANDLER_FAILED, -10),
        (ResultCode::NO_COMMON_VERSION, -11),
        (ResultCode::FEATURE_MISSING, -12),
    ];
    assert_eq!(constants.len(), listed.len());
    assert!(constants.iter().all(|(constant, code)| constant.code() == *code));
}

/// Wherever the document says `name (-N)`, name and number belong together.
#[test]
fn codes_go_by_their_names_everywhere() {
    let mut count = 0;
    for (at, _) in DOCUMENT.match_indices("(-") {
        let number = DOCUMENT[at + 1..].split(')').next().unwrap_or_default();
        let Ok(code) = number.parse::<i32>() else { continue };
        let full = ResultCode::new(code).to_string();
        let name = full.split(" (").next().unwrap_or_default();
        let before = &DOCUMENT[..at];
        let line = before.lines().count();
        assert!(before.trim_end().ends_with(name), "line {line}: ({code}) is '{name}'");
        count += 1;
    }
    assert!(count > 30, "only {count} were found");
}

#[test]
fn the_table_of_limits_is_the_code_s() {
    // Limits is not exhaustive for others: its Debug form names all fields.
    let shown = format!("{:?}", Limits::default());
    let fields = shown.strip_prefix("Limits { ").and_then(|rest| rest.strip_suffix(" }")).expect("a struct");
    let fields: Vec<_> = fields.split(", ").filter_map(|field| field.split_once(": ")).collect();
    let written = table(&["limit", "default"]);
    let plain = |value: &str| value.trim_end_matches(" bytes").replace([',', ' '], "").to_lowercase();
    let written: Vec<_> = written.iter().map(|row| (row[0].clone(), plain(&row[1]))).collect();
    let coded: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), plain(value))).collect();
    assert_eq!(written, coded);
}

/// A number of the table of those that can't be set.
fn number(name: &str) -> usize {
    let rows = table(&["number", "value"]);
    let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("there is no row '{name}'"));
    let digits: String = row[1].chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn numbers_of_classic_listeners_hold() {
    let _watchdog = util::watchdog(30);
    let server = Server::new(());
    let types = number("types in a dispatch table") as i32;
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let peer = util::Raw::connect(&bound[0]);
    for (msg_type, rc) in [(types - 1, ResultCode::NO_HANDLER), (types, ResultCode::UNKNOWN_TYPE)] {
        peer.send(&util::classic(msg_type, 0, b""));
        assert_eq!(peer.receive_classic(), (msg_type, rc.code(), Vec::new()));
    }
    let most = number("classic maximum");
    for (length, rc) in [(most, ResultCode::UNKNOWN_TYPE), (most + 1, ResultCode::TOO_LARGE)] {
        peer.send(&util::classic(types, 0, &vec![0; length]));
        assert_eq!(peer.receive_classic().1, rc.code());
    }
}

#[test]
fn the_longest_hello_and_the_longest_text_hold() {
    let _watchdog = util::watchdog(30);
    let mut server = Server::new(());
    server.on(0, |_, _, _| Err(Failure::new(ResultCode::new(7), "x".repeat(100_000))));
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let most = number("longest hello");
    for (length, status) in [(most, ResultCode::OK), (most + 1, ResultCode::MALFORMED)] {
        let peer = util::Raw::connect(&bound[0]);
        let mut hello = util::hello(1, 1);
        // A TLV that nobody knows fills it up.
        hello.extend([9, 0]);
        hello.extend(((length - hello.len() - 2) as u16).to_le_bytes());
        hello.resize(length, 0);
        hello[4..6].copy_from_slice(&(length as u16).to_le_bytes());
        peer.send(&hello);
        let answer = peer.receive(52);
        assert_eq!(answer[48..52], status.code().to_le_bytes());
    }
    let peer = util::Raw::connect(&bound[0]);
    peer.shake_hands();
    peer.send(&util::frame(1, 0, 1, 0, b""));
    let reply = peer.receive_frame();
    assert_eq!((reply.kind, reply.flags, reply.rc), (2, 4, 7));
    assert_eq!(reply.payload.len(), number("longest text in a reply"));
}

#[test]
fn so_many_are_refused_at_a_time_and_for_so_long() {
    let _watchdog = util::watchdog(30);
    let mut limits = Limits::default();
    limits.max_connections = 0;
    let server = Server::with_limits((), 0, limits);
    let (_running, bound) = util::start(server, [util::usual(&util::fresh("tcp"))]);
    let begin = Instant::now();
    let connect = |_| util::Raw::connect(&bound[0]);
    let waiting: Vec<_> = (0..number("refused connections at a time")).map(connect).collect();
    let dropped = connect(0);
    assert_eq!(dropped.receive_to_end(), b"");
    let wait = Duration::from_secs(number("wait for the four bytes of a refused connection") as u64);
    // A slow machine proves nothing.
    if begin.elapsed() < wait / 2 {
        waiting[0].send(&7i32.to_ne_bytes());
        assert_eq!(waiting[0].receive_classic(), (7, ResultCode::BUSY.code(), Vec::new()));
    }
    assert_eq!(waiting[1].receive_to_end(), b"");
    assert!(begin.elapsed() >= wait, "{:?}", begin.elapsed());
}

#[test]
fn a_server_that_stops_gives_its_clients_so_long() {
    let _watchdog = util::watchdog(30);
    let (running, bound) = util::start(util::store(), [util::usual(&util::fresh("tcp"))]);
    let peer = util::Raw::connect(&bound[0]);
    peer.shake_hands();
    let begin = Instant::now();
    running.stop().expect("stop");
    let grace = Duration::from_millis(number("time for clients to leave a server that stops") as u64);
    assert!(begin.elapsed() >= grace, "{:?}", begin.elapsed());
    let goodbye = peer.receive_frame();
    assert_eq!((goodbye.kind, goodbye.rc), (12, ResultCode::SHUTTING_DOWN.code()));
}

/// `ci/windows` builds it, and a test under `tests/windows` runs it.
#[test]
fn the_program_for_windows_is_the_one_that_is_tested() {
    let (_, rest) = DOCUMENT.split_once("```c windows\n").expect("a program");
    assert_eq!(rest.split("```").next(), Some(include_str!("windows/pipe_sample.c")));
}

/// The document's programs really speak to a server.
#[cfg(unix)]
mod programs {
    use std::process::Command;

    use super::{DOCUMENT, util};

    #[test]
    fn the_c_program_works() {
        let _watchdog = util::watchdog(60);
        let folder = tempfile::tempdir().expect("a folder");
        let (source, program) = (folder.path().join("client.c"), folder.path().join("client"));
        std::fs::write(&source, block("c")).expect("write");
        let Ok(compiler) = Command::new("cc").arg(&source).arg("-o").arg(&program).output() else {
            return eprintln!("there is no C compiler here: not tried");
        };
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
        ask(Command::new(program));
    }

    #[test]
    fn the_python_program_works() {
        let _watchdog = util::watchdog(60);
        if Command::new("python3").arg("--version").output().is_err() {
            return eprintln!("there is no Python here: not tried");
        }
        let mut python = Command::new("python3");
        python.arg("-c").arg(block("python"));
        ask(python);
    }

    /// Which need not be text.
    #[test]
    fn the_python_program_prints_any_value() {
        let _watchdog = util::watchdog(60);
        let (_running, bound) = util::start(util::store(), [util::usual(&util::fresh("unix"))]);
        let client = sidewire::Client::connect(&bound[0]).expect("connect");
        client.call(2, b"\xff\0\n\x80").expect("set");
        let mut python = Command::new("python3");
        let Ok(output) = python
            .arg("-c")
            .arg(block("python"))
            .arg(bound[0].to_string().trim_start_matches("unix:"))
            .output()
        else {
            return eprintln!("there is no Python here: not tried");
        };
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"rc 0: \xff\0\n\x80\n"[..]),
            "{output:?}"
        );
    }

    /// The only fenced block in this language.
    fn block(language: &str) -> &'static str {
        let (_, rest) = DOCUMENT.split_once(&format!("```{language}\n")).expect("a program");
        rest.split("```").next().unwrap_or_default()
    }

    fn ask(mut client: Command) {
        let (_running, bound) = util::start(util::store(), [util::usual(&util::fresh("unix"))]);
        let path = bound[0].to_string();
        let output = client.arg(path.trim_start_matches("unix:")).output().expect("run");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "rc 0: hello, this is server!\n");
    }
}
