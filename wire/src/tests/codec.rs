//! What is encoded decodes to the same.

use proptest::prelude::*;

use crate::app::App;
use crate::frame::{self, Kind, Tlvs, push_tlv};
use crate::hello::{Allowance, Answer, Hello};
use crate::rc::ResultCode;
use crate::{classic, hello};

fn allowances() -> impl Strategy<Value = Allowance> {
    any::<[u32; 4]>().prop_map(|[max_payload, max_in_flight, max_in_flight_bytes, stream_credit]| Allowance {
        max_payload,
        max_in_flight,
        max_in_flight_bytes,
        stream_credit,
    })
}

/// Apps that say something of themselves.
fn apps() -> impl Strategy<Value = App> {
    ("\\PC{1,32}", "\\PC{0,32}", any::<Option<[u8; 32]>>()).prop_map(|(name, version, contract)| {
        let app = App::new(name, version);
        contract.into_iter().fold(app, App::contract)
    })
}

fn hellos() -> impl Strategy<Value = Hello> {
    let app = prop::option::of(apps());
    (0..=1u8, 1..=u8::MAX, any::<[u32; 2]>(), allowances(), any::<[u8; 16]>(), "\\PC{0,40}", app).prop_map(
        |(lowest, highest, [offered, required], allowance, nonce, software, app)| Hello {
            versions: (lowest, highest),
            offered,
            required,
            allowance,
            nonce,
            software,
            app,
            instance: None,
            unknown_tag: None,
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> {
    (any::<i32>(), any::<u8>(), any::<[u8; 16]>(), "\\PC{0,40}", any::<Option<[u8; 32]>>()).prop_map(
        |(status, version, instance, text, proof)| Answer {
            status: ResultCode::new(status),
            version,
            instance,
            text,
            proof,
        },
    )
}

proptest! {
    #[test]
    fn v1_headers(
        length: u32, kind: u8, flags: u8, msg_type: u16, id: u32, rc: i32,
    ) {
        let header = frame::Header { length, kind, flags, msg_type, id, rc };
        prop_assert_eq!(frame::Header::decode(&header.encode()), header);
    }

    #[test]
    fn classic_headers(msg_type: i32, rc: i32, length: i32) {
        let header = classic::Header { msg_type, rc, length };
        let bytes = header.encode();
        prop_assert_eq!(classic::Header::decode(&bytes), header);
        prop_assert_eq!(classic::msg_type(bytes.first_chunk().unwrap()), msg_type);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn initiator_hellos(ours in hellos()) {
        let mut bytes = vec![0xEE];
        ours.encode(None, &mut bytes);
        let bytes = &bytes[1..];
        prop_assert_eq!(hello::length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
        prop_assert_eq!(Hello::decode(bytes), Ok(ours));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn responder_hellos(ours in hellos(), answer in answers()) {
        let mut bytes = Vec::new();
        ours.encode(Some(&answer), &mut bytes);
        prop_assert_eq!(hello::length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
        prop_assert_eq!(Hello::decode_answer(&bytes), Ok((ours, answer)));
    }

    #[test]
    fn any_bytes_are_a_hello_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Hello::decode(&bytes), Hello::decode_answer(&bytes));
        if bytes.len() >= 8 {
            bytes[6..8].copy_from_slice(&[1, 1]);
            let _ = (Hello::decode(&bytes), Hello::decode_answer(&bytes));
        }
    }

    #[test]
    fn tlvs(list in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..20)), 0..10)) {
        let mut bytes = Vec::new();
        for (tag, value) in &list {
            push_tlv(&mut bytes, *tag, value);
        }
        let read: Vec<_> = Tlvs(&bytes).map(|tlv| tlv.unwrap()).map(|(tag, value)| (tag, value.to_vec())).collect();
        prop_assert_eq!(read, list);
        // Cut anywhere, what is left is a shorter list or is known to be broken; it always ends.
        for end in 0..bytes.len() {
            prop_assert!(Tlvs(&bytes[..end]).count() <= 11);
        }
    }
}

#[test]
fn kinds_are_their_numbers() {
    for byte in 0..=u8::MAX {
        assert!(Kind::from_byte(byte).is_none_or(|kind| kind as u8 == byte));
        assert_eq!(Kind::from_byte(byte).is_some(), (1..=12).contains(&byte));
    }
}
