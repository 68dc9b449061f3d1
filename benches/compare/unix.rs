//! Client and servers are pinned to one processor, the repeatable placement; the client sends
//! prepared v1 requests and counts bytes, the same for both servers. Each figure is the median of
//! interleaved rounds, and only the ratio means something elsewhere.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sidewire::{Client, Endpoint};

/// Rounds of each measurement, one server after the other.
const ROUNDS: usize = 7;
/// A v1 request of type 4, echo: 16 bytes of header, 64 of payload.
const SMALL: usize = 64;
const LARGE: usize = 1 << 20;

/// Takes one measurement of a server.
type Measure = fn(&Peer) -> f64;

/// A server process, ended when dropped.
struct Peer {
    name: &'static str,
    child: Child,
    path: PathBuf,
    /// Whether it wants a hello first.
    shakes_hands: bool,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn run() {
    // `cargo test --benches` passes no argument of cargo bench's.
    if !std::env::args().any(|arg| arg == "--bench") {
        return println!("run me with cargo bench");
    }
    pin_to_one_processor();
    let folder = tempfile::tempdir().expect("a folder");
    let c = start_c(folder.path());
    let ours = start_ours(folder.path());
    let measurements: [(&str, &str, Measure); 4] = [
        ("1 connection, one after the other", "µs", sequential),
        ("1 connection, 64 at a time", "requests/s", |peer| window(peer, 64)),
        ("64 connections, one each", "requests/s", |peer| connections(peer, 64)),
        ("1 MiB echo", "MB/s", large),
    ];
    println!("{:<36} {:>12} {:>12}   ours/C", "", c.name, ours.name);
    for (what, unit, measure) in measurements {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            figures[0].push(measure(&c));
            figures[1].push(measure(&ours));
        }
        let [c, ours] = figures.map(median);
        println!("{what:<36} {c:>12.1} {ours:>12.1}   {:.2}   {unit}", ours / c);
    }
    let client = (0..ROUNDS).map(|_| library_client(&ours)).collect();
    println!("{:<36} {:>12} {:>12.1}          µs", "the same with the library's client", "", median(client));
}

/// Runs itself again under `taskset`, once.
fn pin_to_one_processor() {
    if std::env::var_os("SIDEWIRE_BENCH_PINNED").is_some() {
        return;
    }
    let me = std::env::current_exe().expect("my own path");
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(me).arg("--bench").env("SIDEWIRE_BENCH_PINNED", "1");
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => println!("not pinned, so expect a wide spread: taskset: {error}"),
    }
}

fn start_c(folder: &Path) -> Peer {
    let (program, path) = (folder.join("echo"), folder.join("c.sock"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/echo.c");
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).status().expect("cc");
    assert!(status.success(), "cc failed");
    let child = Command::new(program).arg(&path).stdout(Stdio::piped()).spawn().expect("the C server");
    ready(Peer { name: "C", child, path, shakes_hands: false })
}

fn start_ours(folder: &Path) -> Peer {
    let path = folder.join("ours.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidewire"));
    command.arg("serve").arg(format!("unix:{}", path.display())).stdout(Stdio::piped());
    ready(Peer { name: "sidewire", child: command.spawn().expect("our server"), path, shakes_hands: true })
}

/// Waits for the first byte of its output.
fn ready(mut peer: Peer) -> Peer {
    let mut out = peer.child.stdout.take().expect("its output");
    out.read_exact(&mut [0]).expect("a sign of life");
    peer
}

fn connect(peer: &Peer) -> UnixStream {
    let mut stream = UnixStream::connect(&peer.path).expect("connect");
    if peer.shakes_hands {
        let mut hello = vec![0xD1, 0x53, 0x57, 0xD1, 48, 0, 1, 1];
        for number in [0u32, 0, 16 << 20, 4096, 64 << 20, 0, 0, 0, 0, 0] {
            hello.extend_from_slice(&number.to_le_bytes());
        }
        stream.write_all(&hello).expect("hello");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("hello");
        let rest = usize::from(u16::from_le_bytes([answer[4], answer[5]])) - answer.len();
        stream.read_exact(&mut vec![0; rest]).expect("hello");
    }
    stream
}

/// Prepared requests with these ids.
fn requests(first: u32, count: u32, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count as usize * (16 + size));
    for id in first..first + count {
        bytes.extend_from_slice(&(size as u32).to_le_bytes());
        bytes.extend_from_slice(&[1, 0, 4, 0]);
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.resize(bytes.len() + size, 0x2e);
    }
    bytes
}

fn sequential(peer: &Peer) -> f64 {
    let mut stream = connect(peer);
    let mut times = Vec::new();
    let mut answer = [0; 16 + SMALL];
    for id in 1..=5_000 {
        let request = requests(id, 1, SMALL);
        let start = Instant::now();
        stream.write_all(&request).expect("write");
        stream.read_exact(&mut answer).expect("read");
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    median(times)
}

fn window(peer: &Peer, width: u32) -> f64 {
    let mut stream = connect(peer);
    let turns = 1_000;
    let mut answers = vec![0; width as usize * (16 + SMALL)];
    let batches: Vec<_> = (0..turns).map(|turn| requests(1 + turn * width, width, SMALL)).collect();
    let start = Instant::now();
    for batch in &batches {
        stream.write_all(batch).expect("write");
        stream.read_exact(&mut answers).expect("read");
    }
    f64::from(turns * width) / start.elapsed().as_secs_f64()
}

fn connections(peer: &Peer, count: usize) -> f64 {
    let mut streams: Vec<_> = (0..count).map(|_| connect(peer)).collect();
    let turns = 200;
    let mut answer = [0; 16 + SMALL];
    let start = Instant::now();
    for id in 1..=turns {
        let request = requests(id, 1, SMALL);
        for stream in &mut streams {
            stream.write_all(&request).expect("write");
        }
        for stream in &mut streams {
            stream.read_exact(&mut answer).expect("read");
        }
    }
    f64::from(turns) * count as f64 / start.elapsed().as_secs_f64()
}

/// Bytes that went one way, by a second; a thread writes while this one reads.
fn large(peer: &Peer) -> f64 {
    let mut stream = connect(peer);
    let mut writer = stream.try_clone().expect("a second handle");
    let turns = 100u32;
    let mut answer = vec![0; 16 + LARGE];
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (go, next) = std::sync::mpsc::channel::<u32>();
        scope.spawn(move || {
            for id in next {
                writer.write_all(&requests(id, 1, LARGE)).expect("write");
            }
        });
        for id in 1..=turns {
            go.send(id).expect("the writer lives");
            stream.read_exact(&mut answer).expect("read");
        }
    });
    f64::from(turns) * LARGE as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn library_client(peer: &Peer) -> f64 {
    let client = Client::connect(Endpoint::Unix(peer.path.clone())).expect("connect");
    let mut times = Vec::new();
    for _ in 0..5_000 {
        let start = Instant::now();
        client.call(4, [0x2e; SMALL]).expect("call");
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    median(times)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
