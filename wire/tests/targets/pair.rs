//! Two that keep to the rules, and what lies between them: bytes that come late, in any pieces, or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_wire::{Classic, Connection, ConnectionLimits, Settings};

use super::Choices;
use super::owner::Owner;

/// What is under way to one side.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    /// Nothing more passes, and the end has been told.
    is_cut: bool,
}

/// Two owners who do anything that one may do. Neither is accused of anything; what is asked is answered right; and in
/// the end, if nobody has left and nothing was cut, each call had exactly one outcome.
pub(crate) fn pair(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let settings = patient(choices.byte());
    let sides =
        [Connection::initiator(Arc::clone(&settings), [1; 16], now), Connection::responder(settings, now)];
    let mut sides = sides.map(|connection| Owner::new(connection, true, now));
    let mut wires = [Wire::default(), Wire::default()];
    while !choices.0.is_empty() {
        let what = choices.byte();
        let side = usize::from(what & 1);
        match what >> 1 {
            0..40 => deliver(&mut sides, &mut wires, side, choices.byte().into()),
            40 if choices.byte() > 250 => {
                wires[side].is_cut = true;
                sides[side].end();
            }
            _ => sides[side].act(&mut choices),
        }
        let (a, b) = (sides[0].now, sides[1].now);
        sides[0].now = a.max(b);
        sides[1].now = a.max(b);
    }
    settle(&mut sides, &mut wires);
    if sides.iter().all(|side| !side.leaves) && wires.iter().all(|wire| !wire.is_cut) {
        for side in &sides {
            assert!(side.is_quits(), "somebody waits for an answer that nobody owes: {}", side.account());
            assert!(!side.connection.is_finishing(), "it ends for no reason");
        }
    }
    for wire in wires.iter_mut() {
        wire.is_cut = true;
    }
    sides.iter_mut().for_each(Owner::end);
    sides.iter_mut().for_each(Owner::answer_all);
}

/// Of those who wait as long as it takes, and can't be run over: what is left is what is wrong.
fn patient(how: u8) -> Arc<Settings> {
    let long = Duration::from_secs(1 << 20);
    let mut limits = ConnectionLimits::default();
    (limits.max_payload, limits.max_in_flight, limits.max_in_flight_bytes) = (4096, 8, 16 << 10);
    (limits.outbox_soft, limits.outbox_hard) = (if how & 1 == 0 { 64 } else { 4096 }, 3 << 20);
    limits.stream_credit = u32::from(how) * 4;
    (limits.hello_timeout, limits.partial_frame_timeout, limits.write_stall_timeout) = (long, long, long);
    Arc::new(Settings::new(limits, Classic::Refused))
}

/// Lets so much leave the other side, and so much arrive at this one.
fn deliver(sides: &mut [Owner; 2], wires: &mut [Wire; 2], side: usize, most: usize) {
    let sent = sides[1 - side].send(most);
    let wire = &mut wires[side];
    if wire.is_cut {
        return;
    }
    wire.bytes.extend(sent);
    let later = wire.bytes.split_off(most.min(wire.bytes.len()));
    let now = std::mem::replace(&mut wire.bytes, later);
    sides[side].receive(&now);
}

/// Everything is answered and arrives.
fn settle(sides: &mut [Owner; 2], wires: &mut [Wire; 2]) {
    for _ in 0..10 {
        for side in [0, 1] {
            deliver(sides, wires, side, usize::MAX);
            sides[side].answer_all();
        }
    }
}
