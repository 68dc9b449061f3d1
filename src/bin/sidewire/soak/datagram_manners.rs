//! What clients of bad manners do over datagrams. Each is a function over a bare socket that has an address of its own.

use std::io;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use sidewire_platform::{Address, DatagramChannel};

use super::crowd::Manner;
use super::manners::Then::{self, Leaves, Stays, Wronged};
use super::manners::{CANCEL, PING, REPLY, REQUEST, SUBSCRIBE, classic, frame};
use crate::sleep::SLEEP;
use crate::store::{CHANGED, ECHO, GET, SET};

/// All of them, by the names that the report has.
pub(super) const MANNERS: [(&str, Manner<DatagramChannel>); 16] = [
    ("silent", |_, _| Ok(Stays)),
    ("leaves at once", |_, _| Ok(Leaves)),
    ("garbage", garbage),
    ("nothing in it", nothing),
    ("half a frame", half_a_frame),
    ("length that lies", lying_length),
    ("as large as can be", huge),
    ("flood", flood),
    ("classic flood", classic_flood),
    ("reads nothing", reads_nothing),
    ("asks and vanishes", vanishes),
    ("later version", later_version),
    ("cancels", cancels),
    ("pings", pings),
    ("breaks rules", breaks_rules),
    ("slow reader", slow_reader),
];

/// How long one may be held up by a server whose queue is full.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long one waits for an answer that it is owed.
const OWED: Duration = Duration::from_secs(30);
/// What comes within so long of the one before has come at once.
const AT_ONCE: Duration = Duration::from_millis(5);
/// What comes before the frame.
const PREFIX: [u8; 8] = [0xD1, 0x53, 0x57, 0xD1, 1, 0, 0, 0];
/// More than any datagram takes.
const TOO_MUCH: usize = 256 << 10;

fn v1(kind: u8, msg_type: u16, id: u32, payload: &[u8]) -> Vec<u8> {
    [&PREFIX[..], &frame(kind, msg_type, id, payload)].concat()
}

fn echo(id: u32, payload: &[u8]) -> Vec<u8> {
    v1(REQUEST, ECHO, id, payload)
}

/// That the server takes no more in time, or has no room for as much, is what one of these has to expect.
fn send(socket: &DatagramChannel, bytes: &[u8]) -> io::Result<()> {
    socket.send(bytes, Some(PATIENCE))
}

fn send_all(socket: &DatagramChannel, datagrams: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    datagrams.into_iter().try_for_each(|bytes| send(socket, &bytes))
}

/// Some go, and what they have not read goes with them. Some stay, and have read what came at once: what stays unread
/// takes room from the answers of all, and only some are here for that.
fn either(socket: &DatagramChannel, random: &mut Rng) -> Then {
    if random.bool() {
        return Leaves;
    }
    let mut bytes = [0; 1024];
    while socket.receive(&mut bytes, Some(AT_ONCE)).is_ok() {}
    Stays
}

fn garbage(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    for _ in 0..random.usize(1..20) {
        let mut bytes = vec![0; random.usize(1..5000)];
        random.fill(&mut bytes);
        if random.bool() {
            // So that it is looked at for longer.
            let known = random.usize(1..=PREFIX.len()).min(bytes.len());
            bytes[..known].copy_from_slice(&PREFIX[..known]);
        }
        send(socket, &bytes)?;
    }
    Ok(either(socket, random))
}

fn nothing(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    for _ in 0..random.usize(1..50) {
        send(socket, b"")?;
    }
    Ok(either(socket, random))
}

/// Whose value would be none that a probe has set, if half of it were executed.
fn half_a_frame(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let text = b"cut off in the middle";
    for whole in [v1(REQUEST, SET, 1, text), classic(SET.into(), text.len() as i32, text)] {
        send(socket, &whole[..random.usize(1..whole.len())])?;
    }
    Ok(either(socket, random))
}

fn lying_length(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let text = b"of another length";
    let mut request = v1(REQUEST, SET, 1, text);
    let length = *random.choice(&[0, 1, 16, 18, 1 << 20, u32::MAX]).unwrap_or(&0);
    request[PREFIX.len()..PREFIX.len() + 4].copy_from_slice(&length.to_le_bytes());
    send(socket, &request)?;
    let length = *random.choice(&[-1, i32::MIN, i32::MAX, 18, 1025]).unwrap_or(&-1);
    send(socket, &classic(SET.into(), length, text))?;
    Ok(either(socket, random))
}

/// Down to what the system takes: UDP 65,507 bytes, Unix sockets as many as their buffers have room for.
fn huge(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let mut payload = vec![0; TOO_MUCH];
    random.fill(&mut payload);
    for length in [TOO_MUCH, 200_000, 150_000, 100_001, 65_507 - 24] {
        match send(socket, &echo(1, &payload[..length])) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            sent => sent?,
        }
    }
    Ok(either(socket, random))
}

/// Requests of which no answer is read, and which go with whoever has sent them.
fn flood(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let length = random.usize(..200);
    send_all(socket, (1..=random.u32(1..500)).map(|id| echo(id, &vec![b'x'; length])))?;
    Ok(Leaves)
}

fn classic_flood(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let one = classic(ECHO.into(), 500, &[b'x'; 500]);
    send_all(socket, std::iter::repeat_n(one, random.usize(1..300)))?;
    Ok(Leaves)
}

/// Most have a few answers coming and stay. Some have more coming than the server's send buffer has room for, and go
/// after a while: meanwhile nobody gets a second answer before he has read the first.
fn reads_nothing(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    if random.u8(..8) > 0 {
        send_all(socket, (1..=5).map(|id| echo(id, &[b'x'; 1000])))?;
        return Ok(Stays);
    }
    send_all(socket, (1..=200).map(|id| echo(id, &[b'x'; 10_000])))?;
    thread::sleep(PATIENCE);
    Ok(Leaves)
}

/// Its answers find nobody, some of them later.
fn vanishes(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    for id in 1..=random.u32(1..20) {
        send(socket, &echo(id, &[b'x'; 1000]))?;
        send(socket, &v1(REQUEST, SLEEP, 1000 + id, random.u32(..1000).to_string().as_bytes()))?;
    }
    Ok(Leaves)
}

fn later_version(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let mut request = v1(REQUEST, SET, 1, b"of a later version");
    let at = random.usize(4..PREFIX.len());
    request[at] = random.u8(2..);
    send(socket, &request)?;
    Ok(either(socket, random))
}

/// Calls that take a second, given up at once, and some that were never made.
fn cancels(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    for id in 1..=50 {
        send(socket, &v1(REQUEST, SLEEP, id, b"1000"))?;
        send(socket, &v1(CANCEL, 0, id, b""))?;
        send(socket, &v1(CANCEL, 0, random.u32(1..=id), b""))?;
    }
    Ok(Leaves)
}

fn pings(socket: &DatagramChannel, _random: &mut Rng) -> io::Result<Then> {
    send_all(socket, (1..=300).map(|id| v1(PING, 0, id, b"")))?;
    Ok(Leaves)
}

fn breaks_rules(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let mut flags = echo(1, b"flags that nobody knows");
    flags[PREFIX.len() + 5] = 0xFF;
    let mut twice = echo(2, b"two frames in one datagram");
    twice.extend_from_slice(&frame(REQUEST, SET, 3, b"the second of two frames"));
    let all = [
        flags,
        twice,
        v1(REQUEST, GET, 0, b""),
        v1(REPLY, GET, 4, b"nobody asked"),
        v1(SUBSCRIBE, CHANGED, 5, b""),
        v1(random.u8(13..), GET, 6, b"a kind that nobody knows"),
        v1(REQUEST, random.u16(100..), 7, b""),
    ];
    send_all(socket, all)?;
    Ok(either(socket, random))
}

/// Slow, but in its rights: what it was answered is right, and over Unix sockets nothing of it is missing.
fn slow_reader(socket: &DatagramChannel, random: &mut Rng) -> io::Result<Then> {
    let count = random.u32(1..20);
    let text = |id: u32| id.to_string().repeat(500);
    for id in 1..=count {
        // Nothing was owed yet to one that is kept waiting here.
        send(socket, &echo(id, text(id).as_bytes()))?;
    }
    let (may_lose, mut answer) = (matches!(socket.peer_address(), Ok(Address::Inet(_))), vec![0; 4096]);
    let patience = if may_lose { PATIENCE } else { OWED };
    let mut next = 1;
    while next <= count {
        thread::sleep(Duration::from_millis(random.u64(..3)));
        let length = match socket.receive(&mut answer, Some(patience)) {
            Ok(received) => received.length,
            Err(_) if may_lose => break,
            Err(error) => return Ok(Wronged(format!("answer {next} of {count} did not come: {error}"))),
        };
        let is_answer = |id: &u32| answer[..length] == v1(REPLY, ECHO, *id, text(*id).as_bytes());
        match (next..=count).find(is_answer) {
            Some(id) if id == next || may_lose => next = id + 1,
            _ => {
                return Ok(Wronged(format!(
                    "in place of answer {next} of {count} came {length} other bytes"
                )));
            }
        }
    }
    Ok(Leaves)
}
