//! The whole of a connection: what a peer may send between what an owner may do, on either side.

use std::sync::Arc;
use std::time::Instant;

use sidewire_wire::{Attachments, Classic, Connection, Settings};

use super::owner::Owner;
use super::{Choices, opened, settings};

/// One connection between any owner and any peer.
pub(crate) fn operations(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let role = choices.byte();
    let mut owner = Owner::new(connection(role, now), false, now);
    let mut last = 0;
    while !choices.0.is_empty() && !owner.connection.is_finished() {
        match choices.byte() {
            0..60 => {
                let length = usize::from(choices.byte());
                owner.receive(choices.bytes(length));
            }
            60..140 => owner.receive(&frame(&mut choices, &mut last)),
            140..150 => drop(owner.send(choices.byte().into())),
            150 => owner.end(),
            151 => owner.connection.discard_output(),
            _ => owner.act(&mut choices),
        }
    }
    owner.send(usize::MAX);
    owner.end();
    owner.answer_all();
}

fn connection(role: u8, now: Instant) -> Connection {
    let fixed = || {
        let mut settings = Settings::clone(&settings(Attachments::Never));
        settings.classic = Classic::Fixed(20);
        Arc::new(settings)
    };
    match role % 6 {
        0 => Connection::responder(settings(Attachments::Never), now),
        1 => opened(settings(Attachments::Never), now).1,
        2 => opened(settings(Attachments::Never), now).0,
        3 => Connection::initiator(settings(Attachments::Never), [1; 16], now),
        4 => Connection::classic_initiator(settings(Attachments::Never), now),
        _ => Connection::responder(fixed(), now),
    }
}

/// A frame that may be right: its id usually follows the last one.
fn frame(choices: &mut Choices<'_>, last: &mut u32) -> Vec<u8> {
    let (kind, how, msg_type, rc) = (choices.byte(), choices.byte(), choices.byte(), choices.byte());
    let kind = if kind < 240 { 1 + kind % 12 } else { kind };
    let flags = if how < 200 { 0 } else { how % 8 };
    let id = match how % 4 {
        0 => u32::from(choices.byte()),
        step => *last + u32::from(step),
    };
    if matches!(kind, 1 | 5 | 6) {
        *last = (*last).max(id);
    }
    let length = choices.byte() % 48;
    let payload = choices.bytes(length.into());
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, flags, msg_type % 4, 0]);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&i32::from(rc as i8).max(-1).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
