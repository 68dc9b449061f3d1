//! The classic frame: 12 bytes of header in the machine's byte order, then the payload.
//!
//! It is what a C program gets that writes `struct { int type, rc, len; char buf[N]; }`.

use byteorder::{ByteOrder, NativeEndian as NE};

/// Bytes of a classic header.
pub const HEADER_LEN: usize = 12;

/// A classic header as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) msg_type: i32,
    pub(crate) rc: i32,
    pub(crate) length: i32,
}

impl Header {
    #[inline]
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        NE::write_i32(&mut bytes[0..], self.msg_type);
        NE::write_i32(&mut bytes[4..], self.rc);
        NE::write_i32(&mut bytes[8..], self.length);
        bytes
    }

    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Header {
        Header {
            msg_type: NE::read_i32(&bytes[0..]),
            rc: NE::read_i32(&bytes[4..]),
            length: NE::read_i32(&bytes[8..]),
        }
    }
}

/// Fills in what a reply's header says of its payload.
#[inline]
pub(crate) fn complete(head: &mut [u8; HEADER_LEN], rc: i32, length: i32) {
    NE::write_i32(&mut head[4..], rc);
    NE::write_i32(&mut head[8..], length);
}

/// The type of a frame of which only the first four bytes have come.
pub(crate) fn msg_type(first_four: &[u8; 4]) -> i32 {
    NE::read_i32(first_four)
}
