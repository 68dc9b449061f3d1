//! Who has to prove that he knows a token, and what becomes of those who do not.

use std::sync::Arc;
use std::time::Duration;

use super::{GENEROUS, Kind, Seen, Side, answer, defaults, frame, frames, hello, request, settings};
use crate::error::ProtocolError;
use crate::frame::push_tlv;
use crate::hello::Hello;
use crate::layout::Layout;
use crate::rc::ResultCode;
use crate::settings::Settings;
use crate::task::{Task, Tasks};
use crate::token::{PROOF_LEN, Token};

/// Proofs that hang on every byte of the key and of what they are of; no more is asked of them here.
#[derive(Debug)]
struct Toy(u64);

impl Token for Toy {
    fn prove(&self, pieces: &[&[u8]]) -> [u8; PROOF_LEN] {
        let bytes = pieces.iter().copied().flatten();
        let mut sum = bytes.fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        std::array::from_fn(|_| {
            sum = sum.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (sum >> 56) as u8
        })
    }

    fn is_same(&self, ours: &[u8; PROOF_LEN], theirs: &[u8; PROOF_LEN]) -> bool {
        ours == theirs
    }
}

fn knowing(key: u64) -> Arc<Settings> {
    knowing_and(key, |_| ())
}

fn knowing_and(key: u64, change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    settings(|settings| {
        settings.token = Some(Arc::new(Toy(key)));
        settings.nonce = || [2; 16];
        change(settings);
    })
}

/// Both, when each has said what it can.
fn met(client: Arc<Settings>, server: Arc<Settings>) -> (Side, Side) {
    let (mut client, mut server) = (Side::initiator(client), Side::responder(server));
    server.feed(&client.sent());
    client.feed(&server.sent());
    (client, server)
}

/// One that has our hello, and waits for the proof; and that proof.
fn asking() -> (Side, Vec<u8>) {
    let (mut client, server) = met(knowing(1), knowing(1));
    (server, client.sent())
}

/// PROTOCOL W1, W3, W4
#[test]
fn both_prove_it_before_anything_is_executed() {
    let (mut client, mut server) = met(knowing(1), knowing(1));
    assert_eq!(client.seen(), [Seen::Opened]);
    client.call(4, b"hello");
    let bytes = client.sent();
    let proof = frames(&bytes[..48]).remove(0);
    assert_eq!((proof.kind, proof.payload.len()), (Kind::Auth as u8, 32));
    server.feed(&bytes);
    assert_eq!(server.seen(), [Seen::Request { msg_type: 4, payload: b"hello".to_vec() }]);
    client.feed(&server.sent());
    assert_eq!(client.seen(), [Seen::Reply { id: 1, rc: 0, is_text: false, payload: b"hello".to_vec() }]);
    assert_eq!(server.connection.next_deadline(), None, "no time limit is left over");
}

/// PROTOCOL W2
#[test]
fn a_server_that_does_not_know_it_is_told_nothing() {
    for (server, error) in [(knowing(2), ProtocolError::WrongProof), (defaults(), ProtocolError::NoProof)] {
        let (mut client, _) = met(knowing(1), server);
        assert_eq!(*client.failure(), error);
        assert_eq!((client.seen(), client.sent()), (vec![], vec![]));
        assert!(client.connection.is_finished());
    }
}

/// PROTOCOL W5
#[test]
fn a_client_without_one_learns_that_it_needs_one() {
    let (mut client, _) = met(defaults(), knowing(1));
    assert_eq!(*client.failure(), ProtocolError::TokenNeeded);
    assert_eq!(client.sent(), []);
}

/// PROTOCOL W4
#[test]
fn whatever_comes_in_place_of_the_proof_ends_it_and_nothing_is_executed() {
    let (_, right) = asking();
    let mut wrong = right.clone();
    wrong[47] ^= 1;
    let mut flagged = right.clone();
    flagged[5] = 4;
    let others = [
        wrong,
        flagged,
        frame(Kind::Auth, 0, 0, 0, 0, &right[16..47]),
        frame(Kind::Auth, 0, 0, 0, 0, &[&right[16..], b"."].concat()),
        frame(Kind::Auth, 0, 0, 0, 0, b""),
        request(1, 4, &right[16..]),
        request(1, 4, &[0; 5000]),
        frame(Kind::Notify, 0, 2, 0, 0, b"set"),
        frame(Kind::Ping, 0, 0, 7, 0, b""),
        frame(Kind::Goodbye, 0, 0, 0, 0, b""),
        super::raw_frame(200, 0, 0, 0, 0, b""),
        super::raw_frame(100, 0, 0, 0, 0, b""),
        vec![0xFF; 64],
    ];
    for bytes in others {
        let (mut server, _) = asking();
        server.feed(&[bytes, request(1, 4, b"behind")].concat());
        assert_eq!(*server.failure(), ProtocolError::Unproven);
        assert_eq!(server.seen(), []);
        server.assert_fatal(ResultCode::NOT_PERMITTED, 0);
    }
}

/// PROTOCOL W1a
#[test]
fn a_proof_is_of_this_conversation_and_of_this_side() {
    // Of another conversation, by the same server: its nonce is another one.
    let (_, of_another) = {
        let (mut client, server) = met(knowing(1), knowing_and(1, |settings| settings.nonce = || [3; 16]));
        (server, client.sent())
    };
    let (mut server, _) = asking();
    server.feed(&of_another);
    assert_eq!(*server.failure(), ProtocolError::Unproven);
    // What the server has proved is no proof of its client.
    let mut server = Side::responder(knowing(1));
    server.feed(&hello(GENEROUS));
    let (_, answer) = Hello::decode_answer(&server.sent()).expect("a hello");
    server.feed(&frame(Kind::Auth, 0, 0, 0, 0, &answer.proof.expect("a proof")));
    assert_eq!(*server.failure(), ProtocolError::Unproven);
}

/// PROTOCOL W4, H16
#[test]
fn the_proof_comes_in_pieces_or_too_late() {
    let (mut server, proof) = asking();
    for byte in &proof {
        assert!(!server.connection.has_opened_v1() || server.connection.next_deadline().is_some());
        server.feed(&[*byte]);
    }
    assert_eq!(server.ask(&request(1, 4, b"x")).len(), 1);
    for some in [0, 1, 47] {
        let (mut server, proof) = asking();
        server.feed(&proof[..some]);
        server.pass(Duration::from_secs(5));
        assert_eq!(*server.failure(), ProtocolError::TimedOut("hello"));
        assert_eq!(server.seen(), []);
    }
}

/// PROTOCOL W4
#[test]
fn no_more_than_a_kibibyte_is_taken_before_the_proof() {
    for (length, is_fine) in [(976, true), (977, false), (1024, false)] {
        let mut bytes = hello(GENEROUS);
        let room = length - bytes.len() - 4;
        push_tlv(&mut bytes, 0x77, &vec![0; room]);
        bytes[4..6].copy_from_slice(&(length as u16).to_le_bytes());
        let mut server = Side::responder(knowing(1));
        server.feed(&bytes);
        let (_, answer) = Hello::decode_answer(&server.sent()).expect("a hello");
        assert_eq!(answer.status.is_ok(), is_fine, "{length}");
        assert_eq!(answer.proof.is_some(), is_fine);
    }
}

/// PROTOCOL W6
#[test]
fn nobody_administers_where_a_token_is_asked_for() {
    let mut server = Side::responder(knowing_and(1, |settings| {
        settings.grants = Tasks::default().and(Task::Stop);
    }));
    let mut bytes = hello(GENEROUS);
    bytes[12] = Task::Stop.bit() as u8;
    server.feed(&bytes);
    let (_, answer) = Hello::decode_answer(&server.sent()).expect("a hello");
    assert_eq!((answer.status, answer.proof), (ResultCode::NOT_PERMITTED, None));
    assert_eq!(server.seen(), []);
}

/// PROTOCOL W2
#[test]
fn the_last_proof_of_a_hello_counts_and_has_a_length() {
    let (mut client, _) = met(knowing(1), defaults());
    assert_eq!(*client.failure(), ProtocolError::NoProof);
    for (first, is_read) in [(31, false), (33, false), (32, true)] {
        client = Side::initiator(knowing(1));
        client.sent();
        let mut bytes = answer(GENEROUS);
        push_tlv(&mut bytes, 1, &vec![7; first]);
        push_tlv(&mut bytes, 1, &[8; 32]);
        let length = (bytes.len() as u16).to_le_bytes();
        bytes[4..6].copy_from_slice(&length);
        client.feed(&bytes);
        let is_judged = *client.failure() == ProtocolError::WrongProof;
        assert_eq!(is_judged, is_read, "{:?}", client.failure());
    }
}

/// PROTOCOL H23
#[test]
fn a_proof_that_nobody_asked_for_is_skipped() {
    let mut server = Side::responder(defaults());
    server.feed(&hello(GENEROUS));
    server.sent();
    let answers = server.ask(&[frame(Kind::Auth, 0, 0, 0, 0, &[1; 32]), request(1, 4, b"x")].concat());
    assert_eq!(answers.len(), 1);
    assert_eq!(server.connection.layout(), Some(Layout::V1));
}

/// What is behind the proof, and what may be attached to that, is read apart from it.
#[test]
fn no_more_is_read_in_place_than_the_proof() {
    let (mut server, proof) = asking();
    for (have, until) in [(0, 1), (1, 20), (20, 47), (47, 48)] {
        let (mut partial, missing) = server.connection.take_large_partial(1 << 16).expect("the rest of it");
        assert_eq!((partial.len(), missing), (have, 48 - have));
        partial.extend_from_slice(&proof[have..until]);
        server.connection.put_back(partial);
        server.receive(&[]);
    }
    assert!(server.connection.take_large_partial(1 << 16).is_none());
    assert_eq!(server.ask(&request(1, 4, b"x")).len(), 1);
}

/// It may have sent requests behind its proof.
#[test]
fn who_has_not_proved_it_yet_is_told_of_the_end() {
    for close in [false, true] {
        let (mut server, _) = asking();
        match close {
            true => server.connection.close(),
            false => server.connection.goodbye(ResultCode::SHUTTING_DOWN),
        }
        let frames = server.frames();
        assert_eq!((frames.len(), frames[0].kind, frames[0].id), (1, Kind::Goodbye as u8, 0));
        assert!(server.connection.is_finished());
    }
}

/// PROTOCOL W6
#[test]
fn the_classic_layout_is_refused_whatever_else_is_set() {
    let mut server = Side::responder(knowing(1));
    server.feed(&super::classic_request(4, b"hello"));
    assert_eq!((server.seen(), server.failure()), (vec![], &ProtocolError::ClassicRefused));
}

#[test]
fn without_random_numbers_nobody_is_served() {
    let (client, server) = met(knowing(1), knowing_and(1, |settings| settings.nonce = || [0; 16]));
    assert_eq!(*server.failure(), ProtocolError::NoRandomness);
    assert_eq!(client.failure().rc(), ResultCode::BUSY);
}
