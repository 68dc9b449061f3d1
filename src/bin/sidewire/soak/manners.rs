//! What clients of bad manners do over streams. Each is a function over a bare channel: no library stands between it and the server.

use std::io::{self, ErrorKind};
use std::time::Duration;

use fastrand::Rng;
use sidewire_platform::Channel;

use super::crowd::Manner;
use crate::call_back::CALL_ME_BACK;
use crate::count::COUNT;
use crate::sleep::SLEEP;
use crate::store::{CHANGED, ECHO, GET, SET};

/// What a client did, and what is to become of it.
pub(super) enum Then {
    /// It goes at once, without a goodbye; what it has not read becomes a reset where there are resets.
    Leaves,
    /// It stays connected and does nothing more, until others take its place.
    Stays,
    /// It was owed an answer, and got another one, or none.
    Wronged(String),
}

use Then::{Leaves, Stays, Wronged};

/// All of them, by the names that the report has.
pub(super) const MANNERS: [(&str, Manner<Channel>); 19] = [
    ("silent", |_, _| Ok(Stays)),
    ("leaves at once", |_, _| Ok(Leaves)),
    ("half a hello", half_a_hello),
    ("hello that lies", lying_hello),
    ("half a frame", half_a_frame),
    ("garbage", garbage),
    ("too large a length", oversized),
    ("reads nothing", reads_nothing),
    ("a part and no more", one_part),
    ("byte by byte", byte_by_byte),
    ("flood", flood),
    ("classic flood", classic_flood),
    ("cancels", cancels),
    ("pings", pings),
    ("unread events", unread_events),
    ("too many calls", too_many),
    ("breaks rules", breaks_rules),
    ("goodbye and goes on", goes_on),
    ("no answer when asked", no_answer),
];

/// How long one may be held up by a server that does not read, or does not answer.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long one waits for an answer that it is owed.
const OWED: Duration = Duration::from_secs(30);

pub(super) const REQUEST: u8 = 1;
pub(super) const REPLY: u8 = 2;
pub(super) const SUBSCRIBE: u8 = 5;
pub(super) const CANCEL: u8 = 7;
const CREDIT: u8 = 8;
pub(super) const PING: u8 = 9;
const GOODBYE: u8 = 12;

/// The bytes of a hello that is right, with this credit for replies in parts.
fn hello(credit: u32) -> Vec<u8> {
    let mut bytes = vec![0xD1, 0x53, 0x57, 0xD1, 48, 0, 1, 1];
    for number in [0, 0, 16 << 20, 4096, 64 << 20, credit] {
        bytes.extend_from_slice(&u32::to_le_bytes(number));
    }
    bytes.extend_from_slice(&[7; 16]);
    bytes
}

pub(super) fn frame(kind: u8, msg_type: u16, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(payload.len() as u32, kind, msg_type, id);
    bytes.extend_from_slice(payload);
    bytes
}

fn header(length: u32, kind: u8, msg_type: u16, id: u32) -> Vec<u8> {
    let [low, high] = msg_type.to_le_bytes();
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, 0, low, high]);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

pub(super) fn classic(msg_type: i32, length: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [msg_type, 0, length].map(i32::to_ne_bytes).concat();
    bytes.extend_from_slice(payload);
    bytes
}

/// As many of the bytes as the server takes in time. That it took no more, or has closed, is what one of these has to
/// expect.
fn send(channel: &Channel, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[channel.send(bytes, Some(PATIENCE))?..];
    }
    Ok(())
}

fn receive(channel: &Channel, bytes: &mut [u8]) -> io::Result<()> {
    let mut have = 0;
    while have < bytes.len() {
        match channel.recv(&mut bytes[have..], Some(OWED))? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => have += count,
        }
    }
    Ok(())
}

/// Shakes hands as one should, and reads the server's hello.
fn shake_hands(channel: &Channel) -> io::Result<()> {
    send(channel, &hello(256 << 10))?;
    let mut head = [0; 6];
    receive(channel, &mut head)?;
    let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
    receive(channel, &mut vec![0; length.saturating_sub(head.len())])
}

/// Some go, some stay.
fn either(random: &mut Rng) -> Then {
    if random.bool() { Stays } else { Leaves }
}

fn half_a_hello(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    send(channel, &hello(0)[..random.usize(1..48)])?;
    Ok(either(random))
}

fn lying_hello(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    let mut bytes = hello(random.u32(..));
    for _ in 0..random.usize(1..6) {
        let at = random.usize(4..bytes.len());
        bytes[at] = random.u8(..);
    }
    send(channel, &bytes)?;
    send(channel, &frame(REQUEST, GET, 1, b""))?;
    Ok(either(random))
}

fn half_a_frame(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    // What it announces is not what it costs.
    let mut bytes = header(random.u32(1..=16 << 20), REQUEST, ECHO, 1);
    bytes.truncate(random.usize(1..=16));
    if bytes.len() == 16 {
        bytes.resize(16 + random.usize(..1000), b'x');
    }
    send(channel, &bytes)?;
    Ok(either(random))
}

fn garbage(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    let mut bytes = vec![0; random.usize(1..5000)];
    random.fill(&mut bytes);
    match random.u8(..4) {
        0 => shake_hands(channel)?,
        1 => bytes[..4.min(random.usize(1..5))].fill(0), // as a classic header may begin
        2 => bytes = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        _ => {}
    }
    send(channel, &bytes)?;
    Ok(either(random))
}

fn oversized(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    if random.bool() {
        shake_hands(channel)?;
        send(channel, &header(random.u32((16 << 20) + 1..), REQUEST, ECHO, 1))?;
    } else {
        let length = *random.choice(&[-1, i32::MIN, i32::MAX, 1025]).unwrap_or(&-1);
        send(channel, &classic(ECHO.into(), length, b"x"))?;
    }
    Ok(either(random))
}

/// Half a MiB of answers, more than any socket keeps.
fn reads_nothing(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    let payload = vec![b'x'; 64 << 10];
    for id in 1..=8 {
        send(channel, &frame(REQUEST, ECHO, id, &payload))?;
    }
    Ok(either(random))
}

fn one_part(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    send(channel, &frame(REQUEST, COUNT, 1, b"1000000000"))?;
    receive(channel, &mut [0; 17])?;
    Ok(either(random))
}

/// Slow, but in its rights: it is answered like anybody else.
fn byte_by_byte(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    let text: Vec<u8> = (0..random.usize(..30)).map(|_| random.u8(..)).collect();
    for byte in hello(0) {
        send(channel, &[byte])?;
    }
    for byte in frame(REQUEST, ECHO, 1, &text) {
        send(channel, &[byte])?;
    }
    let owed = |error: io::Error| Wronged(format!("who writes byte by byte got no answer: {error}"));
    let mut head = [0; 6];
    let mut reply = vec![0; 16 + text.len()];
    let read = receive(channel, &mut head).and_then(|()| {
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        receive(channel, &mut vec![0; length.saturating_sub(head.len())])?;
        receive(channel, &mut reply)
    });
    Ok(match read {
        Err(error) => owed(error),
        Ok(()) if reply == frame(REPLY, ECHO, 1, &text) => Leaves,
        Ok(()) => Wronged(format!("who writes byte by byte got '{}'", reply.escape_ascii())),
    })
}

/// Requests without end, in one piece, of which no answer is read.
fn flood(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    let requests: Vec<u8> = (1..=4000).flat_map(|id| frame(REQUEST, ECHO, id, &[b'x'; 40])).collect();
    send(channel, &requests)?;
    Ok(either(random))
}

fn classic_flood(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    let one = classic(ECHO.into(), 500, &[b'x'; 500]);
    send(channel, &one.repeat(random.usize(1..2000)))?;
    Ok(either(random))
}

/// Calls that take a minute, given up at once, and some that were never made.
fn cancels(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    let mut bytes = Vec::new();
    for id in 1..=1000 {
        bytes.extend(frame(REQUEST, SLEEP, id, b"60000"));
        bytes.extend(frame(CANCEL, 0, id, b""));
        bytes.extend(frame(CANCEL, 0, random.u32(1..=id), b""));
    }
    send(channel, &bytes)?;
    Ok(either(random))
}

fn pings(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    send(channel, &(1..=5000).flat_map(|id| frame(PING, 0, id, b"")).collect::<Vec<_>>())?;
    Ok(either(random))
}

/// Stays in any case: each new value is an event that waits for it.
fn unread_events(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    for id in 1..=random.u32(1..20) {
        // All but the first are refused.
        send(channel, &frame(SUBSCRIBE, CHANGED, id, b""))?;
    }
    Ok(Stays)
}

/// More than the server's hello allows at a time.
fn too_many(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    send(channel, &(1..=5000).flat_map(|id| frame(REQUEST, SLEEP, id, b"60000")).collect::<Vec<_>>())?;
    Ok(either(random))
}

fn breaks_rules(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    let mut bytes = frame(REQUEST, GET, 7, b"");
    match random.u8(..6) {
        0 => bytes.extend(frame(REQUEST, GET, 7, b"")), // an id once more
        1 => bytes.extend(frame(REQUEST, GET, 0, b"")),
        2 => bytes.extend(frame(random.u8(13..128), GET, 8, b"")), // a kind that nobody knows
        3 => bytes[5] = 0xFF,                                      // flags that nobody knows
        4 => bytes.extend(frame(REPLY, GET, 9, b"nobody asked")),
        _ => bytes.extend(frame(CREDIT, 0, 7, &u32::MAX.to_le_bytes())),
    }
    send(channel, &bytes)?;
    Ok(either(random))
}

fn goes_on(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    send(channel, &frame(GOODBYE, 0, 0, b""))?;
    for id in 1..=random.u32(1..50) {
        send(channel, &frame(REQUEST, SET, id, b"said after goodbye"))?;
    }
    Ok(either(random))
}

/// Has the server call it, and does not answer.
fn no_answer(channel: &Channel, random: &mut Rng) -> io::Result<Then> {
    shake_hands(channel)?;
    send(channel, &frame(REQUEST, CALL_ME_BACK, 1, b"3"))?;
    Ok(either(random))
}
