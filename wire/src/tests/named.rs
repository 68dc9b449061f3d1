//! What frames name, and whoever gets them fetches.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{GENEROUS, Side, frames, hello, raw_frame, request, settings};
use crate::connection::Connection;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{Kind, TAKEN, flags};
use crate::hello::Allowance;
use crate::parcel::{Fetch, Parcel};
use crate::rc::ResultCode;
use crate::settings::{Attachments, Settings};

/// What one side has, by the names that its frames use: a process and its handles.
#[derive(Clone, Debug, Default)]
struct Table(Arc<Mutex<BTreeMap<u32, Arc<()>>>>);

impl Table {
    /// Opens so many things, which are closed with the parcel.
    fn open(&self, count: u32) -> Parcel {
        let mut table = self.0.lock().expect("a table");
        let first = table.keys().last().map_or(4, |last| last + 4);
        let names: Vec<u32> = (0..count).map(|index| first + 4 * index).collect();
        table.extend(names.iter().map(|name| (*name, Arc::new(()))));
        drop(table);
        Parcel::named(names.clone(), Lent { names, table: self.clone() })
    }

    fn count(&self) -> usize {
        self.0.lock().expect("a table").len()
    }
}

struct Lent {
    names: Vec<u32>,
    table: Table,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut table = self.table.0.lock().expect("a table");
        self.names.iter().for_each(|name| drop(table.remove(name)));
    }
}

impl Fetch for Table {
    fn fetch(&self, names: &[u32]) -> Option<Parcel> {
        let table = self.0.lock().expect("a table");
        let things = names.iter().map(|name| table.get(name).cloned()).collect::<Option<Vec<_>>>()?;
        Some(Parcel::new(things.len() as u8, things))
    }
}

fn willing() -> Arc<Settings> {
    settings(|settings| settings.attachments = Attachments::Named)
}

/// A responder behind the hello of a peer that offers this, and has that.
fn open_to(settings: Arc<Settings>, offered: u8, theirs: &Table) -> Side {
    let mut side = Side::responder(settings);
    side.connection.fetch_with(Box::new(theirs.clone()));
    let mut said = hello(Allowance { max_payload: 16 << 20, ..GENEROUS });
    said[8] = offered;
    side.feed(&said);
    side.sent();
    side
}

fn open(theirs: &Table) -> Side {
    let side = open_to(willing(), 8, theirs);
    assert!(side.connection.attaches() && !side.connection.is_accompanied());
    side
}

/// The payload of a frame that names these, and says `hello`.
fn naming(names: &[u32]) -> Vec<u8> {
    let value: Vec<u8> = names.iter().flat_map(|name| name.to_le_bytes()).collect();
    blocks(&[(0x8002, &value)])
}

fn blocks(tlvs: &[(u16, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (tag, value) in tlvs {
        block.extend(tag.to_le_bytes());
        block.extend((value.len() as u16).to_le_bytes());
        block.extend(*value);
    }
    [&(block.len() as u16).to_le_bytes()[..], &block, b"hello"].concat()
}

fn asking(id: u32, payload: &[u8]) -> Vec<u8> {
    raw_frame(Kind::Request as u8, flags::EXT, 1, id, 0, payload)
}

fn taken(count: u32) -> Vec<u8> {
    raw_frame(TAKEN, 0, 0, count, 0, b"")
}

/// Feeds it and says with how many things each event came, and what the frames told.
fn show(side: &mut Side, bytes: &[u8]) -> Vec<usize> {
    let mut seen = Vec::new();
    side.connection.receive(bytes, &Cell::new(usize::MAX), &mut |connection, event| {
        let (event, count) = match event {
            Event::Attached { parcel, then: Some(event) } => {
                (*event, parcel.take::<Vec<Arc<()>>>().expect("things").len())
            }
            event => (event, 0),
        };
        match event {
            Event::Request { ticket, payload } => {
                assert_eq!(payload, b"hello");
                connection.begin_reply(ticket).finish(ResultCode::OK);
                seen.push(count);
            }
            Event::Notify { .. } => seen.push(count),
            _ => {}
        }
    });
    side.connection.received(side.now);
    seen
}

/// Answers with what the other table has.
fn back(own: &Table) -> impl FnMut(&mut Connection, Event<'_>) {
    move |connection, event| {
        let Event::Attached { parcel, then: Some(event) } = event else { return };
        let Event::Request { ticket, payload } = *event else { return };
        let came = parcel.take::<Vec<Arc<()>>>().expect("things");
        let mut reply = connection.begin_reply(ticket);
        reply.write(payload);
        let parcel = own.open(came.len() as u32);
        let (rc, frame_len) = reply.complete_attached(ResultCode::OK, &parcel);
        assert!(rc.is_ok());
        drop(reply);
        connection.attach(frame_len.expect("there is room"), parcel);
    }
}

/// Moves at most so many bytes.
fn carry(
    from: &mut Connection,
    to: &mut Connection,
    most: usize,
    each: &mut impl FnMut(&mut Connection, Event<'_>),
) {
    let now = Instant::now();
    assert!(from.next_parcel().is_none(), "nothing goes beside the bytes");
    let unsent = from.unsent();
    let bytes = unsent[..unsent.len().min(most)].to_vec();
    from.mark_sent(bytes.len(), now);
    to.receive(&bytes, &Cell::new(usize::MAX), each);
    to.received(now);
}

/// PROTOCOL F30, F31, F32, F33
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_a_frame_names_is_fetched_and_kept_for_so_long() {
    let (ours, theirs) = (Table::default(), Table::default());
    let now = Instant::now();
    let mut client = Connection::initiator(willing(), [1; 16], now);
    let mut server = Connection::responder(willing(), now);
    client.fetch_with(Box::new(theirs.clone()));
    server.fetch_with(Box::new(ours.clone()));
    carry(&mut client, &mut server, usize::MAX, &mut |_, _| {});
    carry(&mut server, &mut client, usize::MAX, &mut |_, _| {});
    assert!(client.attaches() && server.attaches() && client.may_attach(16));
    assert!(!client.may_attach(0) && !client.may_attach(17));
    for (round, count) in [1, 2, 16].into_iter().cycle().take(50).enumerate() {
        client.push_request_attached(1, b"hello", 0, ours.open(count)).expect("memory");
        assert_eq!(ours.count(), count as usize, "they are kept");
        let (mut arrived, most) = (None, 1 + round * 3);
        for _ in 0..300 {
            carry(&mut client, &mut server, most, &mut back(&theirs));
            carry(&mut server, &mut client, most, &mut |_, event| {
                let Event::Attached { parcel, then: Some(event) } = event else { return };
                let Event::Reply { payload, .. } = *event else { panic!("a reply") };
                assert_eq!(payload, b"hello");
                arrived = parcel.take::<Vec<Arc<()>>>();
            });
        }
        assert_eq!(arrived.map(|things| things.len()), Some(count as usize));
        assert_eq!((ours.count(), theirs.count()), (0, 0), "both have heard that they were taken");
    }
    client.push_notify_attached(1, b"", ours.open(3)).expect("memory");
    carry(&mut client, &mut server, usize::MAX, &mut |_, _| {});
    carry(&mut server, &mut client, usize::MAX, &mut |_, _| {});
    assert_eq!(ours.count(), 0);
    assert_eq!((client.flow().failure(), server.flow().failure()), (None, None));
}

/// PROTOCOL F34
#[test]
fn names_of_nothing_are_fatal() {
    let lent = Table::default();
    let parcel = lent.open(16);
    let first = parcel.names()[0];
    let pseudo = [-1i32, -2, -3, -4, -5, -6, i32::MIN].map(i32::cast_unsigned);
    let misnamed = pseudo.into_iter().chain([0]).map(|name| naming(&[first, name]));
    let unfetched = [naming(&[first, 0x7fff_fffc]), naming(&[9999])];
    let name = first.to_le_bytes();
    let malformed = [
        naming(&[]),
        naming(&[first; 17]),
        blocks(&[(0x8002, &name[..3])]),
        blocks(&[(0x8002, &[0; 5])]),
        blocks(&[(0x8002, &name), (0x8002, &name)]),
    ];
    for payload in misnamed.chain(unfetched).chain(malformed) {
        let mut side = open(&lent);
        assert!(show(&mut side, &asking(1, &payload)).is_empty(), "it is not handled");
        assert!(matches!(side.failure(), ProtocolError::BadAttachments(_)), "{payload:x?}");
        side.assert_fatal(ResultCode::MALFORMED, 0);
    }
    let mut side = open(&lent);
    assert_eq!(show(&mut side, &asking(1, &naming(parcel.names()))), [16]);
    assert_eq!(lent.count(), 16, "nothing was taken from whoever has them");
}

/// PROTOCOL F33
#[test]
fn one_that_is_refused_for_something_else_counts_as_taken() {
    let lent = Table::default();
    let parcel = lent.open(1);
    let name = parcel.names()[0].to_le_bytes();
    let mut side = open(&lent);
    let payload = blocks(&[(0x8002, &name), (0x8777, b"")]);
    assert!(show(&mut side, &asking(1, &payload)).is_empty());
    assert_eq!(show(&mut side, &asking(2, &blocks(&[(0x8002, &name), (7, b"")]))), [1]);
    let sent: Vec<_> = side.frames().iter().map(|frame| (frame.kind, frame.id, frame.rc)).collect();
    assert_eq!(sent, [(TAKEN, 1, 0), (2, 1, -12), (TAKEN, 2, 0), (2, 2, 0)]);
}

/// PROTOCOL F35
#[test]
fn what_was_never_sent_is_not_taken() {
    for (sent, count) in [(0, 1), (1, 2), (1, u32::MAX), (2, 3), (2, u32::MAX)] {
        let own = Table::default();
        let mut side = open(&Table::default());
        for _ in 0..sent {
            side.connection.push_notify_attached(1, b"", own.open(1)).expect("memory");
        }
        side.sent();
        side.feed(&taken(count));
        assert!(matches!(side.failure(), ProtocolError::BadAttachments(_)), "{count} of {sent}");
        side.assert_fatal(ResultCode::MALFORMED, 0);
        drop(side);
        assert_eq!(own.count(), 0);
    }
    // That is the last word, and leaves whole, however little of it leaves at a time.
    let mut side = open(&Table::default());
    side.feed(&taken(1));
    for _ in 0..side.connection.unsent().len() {
        assert!(side.connection.has_unsent());
        side.connection.mark_sent(1, side.now);
    }
    assert!(!side.connection.has_unsent());
    // What has not left yet was not sent, and its names may be others' by then.
    let own = Table::default();
    let mut side = open(&Table::default());
    side.connection.push_notify_attached(1, b"", own.open(1)).expect("memory");
    side.feed(&taken(1));
    assert!(matches!(side.failure(), ProtocolError::BadAttachments(_)));
    // Twice the same is nothing new.
    let mut side = open(&Table::default());
    side.connection.push_notify_attached(1, b"", own.open(1)).expect("memory");
    side.sent();
    (0..3).for_each(|_| side.feed(&taken(1)));
    side.feed(&taken(0));
    side.assert_fatal(ResultCode::MALFORMED, 0);
}

/// A thread that sends without the lock has not noted that its frames left when another one hears that they arrived.
/// PROTOCOL F35
#[test]
fn what_is_just_being_sent_may_be_taken() {
    for (left, told) in [(2, 1), (2, 2), (1, 2)] {
        let own = Table::default();
        let mut side = open(&Table::default());
        for _ in 0..2 {
            side.connection.push_notify_attached(1, b"", own.open(1)).expect("memory");
        }
        let whole = side.connection.unsent().len();
        side.connection.begin_write();
        side.feed(&taken(told));
        assert!(side.connection.flow().failure().is_none());
        assert_eq!(own.count(), 2, "they stay until it is known that their frames have left");
        side.connection.mark_sent(whole * left / 2, side.now);
        if left >= told as usize {
            assert!(side.connection.flow().failure().is_none());
            assert_eq!(own.count(), 2 - told as usize);
            side.feed(&taken(2));
            assert_eq!(own.count(), 0);
            side.feed(&taken(3));
        }
        assert!(matches!(side.failure(), ProtocolError::BadAttachments(_)), "{told} of {left}");
    }
    // More than there is, and fewer than before, are wrong at once.
    for said in [[1, 2], [1, 0]] {
        let own = Table::default();
        let mut side = open(&Table::default());
        side.connection.push_notify_attached(1, b"", own.open(1)).expect("memory");
        side.connection.begin_write();
        said.iter().for_each(|count| side.feed(&taken(*count)));
        assert!(matches!(side.failure(), ProtocolError::BadAttachments(_)), "{said:?}");
    }
}

/// PROTOCOL F23, F30, F36
#[test]
fn both_must_want_them_and_be_able_to_fetch() {
    let lent = Table::default();
    let parcel = lent.open(1);
    let carried = || settings(|settings| settings.attachments = Attachments::Carried);
    for (ours, offered) in [(willing(), 0), (willing(), 4), (carried(), 8), (super::defaults(), 8)] {
        let mut side = open_to(ours, offered, &lent);
        assert!(!side.connection.attaches() && !side.connection.may_attach(1));
        assert!(show(&mut side, &asking(1, &naming(parcel.names()))).is_empty());
        side.feed(&taken(1));
        let replies = side.frames();
        assert_eq!((replies.len(), replies[0].rc), (1, ResultCode::FEATURE_MISSING.code()));
        assert!(side.connection.flow().failure().is_none(), "a frame that is skipped");
    }
    // One that can't reach its peer's process does not say that it wants any.
    let mut side = Side::responder(willing());
    let mut said = hello(GENEROUS);
    said[8] = 8;
    side.feed(&said);
    assert_eq!(side.sent()[8], 0);
    assert!(!side.connection.attaches());
    // The form of other transports is one that must be understood, and is not.
    let mut side = open(&lent);
    assert!(show(&mut side, &asking(1, &blocks(&[(0x8001, &[1])]))).is_empty());
    assert_eq!(side.frames()[0].rc, ResultCode::FEATURE_MISSING.code());
}

/// PROTOCOL F37
#[test]
fn for_one_who_takes_nothing_only_so_many_are_kept() {
    let own = Table::default();
    let mut side = open(&Table::default());
    for _ in 0..16 {
        assert!(side.connection.may_attach(16));
        side.connection.push_notify_attached(1, b"", own.open(16)).expect("memory");
        side.sent();
    }
    assert!(!side.connection.may_attach(1));
    assert_eq!(own.count(), 256);
    side.feed(&taken(1));
    assert!(side.connection.may_attach(16) && own.count() == 240);
    side.feed(&taken(16));
    assert_eq!(own.count(), 0);
    side.connection.push_notify_attached(1, b"", own.open(16)).expect("memory");
    side.sent();
    // It dies.
    side.connection.end_of_input();
    assert_eq!(own.count(), 0);
    // Or can't be reached any more.
    let mut side = open(&Table::default());
    side.connection.push_notify_attached(1, b"", own.open(16)).expect("memory");
    side.connection.discard_output();
    assert_eq!(own.count(), 0);
}

/// PROTOCOL L7a, F29
#[test]
fn no_more_are_fetched_than_may_wait() {
    let lent = Table::default();
    let parcel = lent.open(16);
    let mut settings = Settings::clone(&willing());
    settings.limits.max_attachments = 20;
    let mut side = open_to(Arc::new(settings), 8, &lent);
    let mut kept = Vec::new();
    for id in 1..4 {
        let bytes = asking(id, &naming(parcel.names()));
        side.connection.receive(&bytes, &Cell::new(9), &mut |connection, event| {
            let Event::Attached { parcel, then: Some(event) } = event else { panic!("attached") };
            let Event::Request { ticket, .. } = *event else { panic!("a request") };
            connection.begin_reply(ticket).finish(ResultCode::OK);
            kept.push(parcel);
        });
        // Of the first those that came are taken.
        assert!(id > 1 || kept[0].take::<Vec<Arc<()>>>().is_some());
    }
    assert_eq!(kept.len(), 2);
    assert!(side.failure().to_string().contains("more than 20 attachments"), "{}", side.failure());
}

/// One who names things, and reads nothing of what that is answered with.
#[test]
fn one_that_reads_nothing_is_given_up() {
    let lent = Table::default();
    let parcel = lent.open(1);
    let mut settings = Settings::clone(&willing());
    (settings.limits.outbox_soft, settings.limits.outbox_hard) = (100, 1000);
    let mut side = open_to(Arc::new(settings), 8, &lent);
    let notify = raw_frame(Kind::Notify as u8, flags::EXT, 1, 0, 0, &naming(parcel.names()));
    let handled = (0..1000).filter(|_| show(&mut side, &notify) == [1]).count();
    assert!((60..70).contains(&handled), "{handled}");
    assert!(matches!(side.failure(), ProtocolError::OutboxFull(_)));
}

/// A frame in pieces, and one that never ends.
#[test]
fn a_frame_that_is_cut_names_nothing() {
    let lent = Table::default();
    let parcel = lent.open(2);
    let bytes = asking(1, &naming(parcel.names()));
    for cut in 1..bytes.len() {
        let mut side = open(&lent);
        assert!(show(&mut side, &bytes[..cut]).is_empty());
        assert!(side.frames().is_empty(), "nothing was fetched");
        assert_eq!(show(&mut side, &bytes[cut..]), [2]);
        let mut side = open(&lent);
        show(&mut side, &bytes[..cut]);
        side.connection.end_of_input();
        assert!(frames(&side.sent()).is_empty());
    }
    let mut side = open(&lent);
    assert_eq!(show(&mut side, &request(1, 1, b"hello")), [0], "others name none");
}
