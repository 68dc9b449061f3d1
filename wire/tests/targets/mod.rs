//! What strangers can send, to be tried with any bytes: each target takes some, and panics if something is wrong.
//!
//! `fuzz/` gives them to libFuzzer; the test beside them plays random ones.

mod operations;
mod owner;
mod pair;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use sidewire_wire::datagram;
use sidewire_wire::{
    Arrived, Attachments, Classic, Connection, ConnectionLimits, Cut, Event, Fetch, Layout, Parcel, Plain,
    ResultCode, Settings,
};

pub(crate) use operations::operations;
pub(crate) use pair::pair;

/// A target by its name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All that there are.
pub(crate) const ALL: [Target; 9] = [
    ("frames", frames),
    ("classic", classic),
    ("hello", hello),
    ("attachments", attachments),
    ("handles", handles),
    ("plain", plain),
    ("datagrams", datagrams),
    ("operations", operations),
    ("pair", pair),
];

/// Takes its decisions from the first bytes, the rest is what is sent.
struct Choices<'d>(&'d [u8]);

impl<'d> Choices<'d> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Up to so many of the bytes that are left.
    fn bytes(&mut self, most: usize) -> &'d [u8] {
        let (now, later) = self.0.split_at(most.min(self.0.len()));
        self.0 = later;
        now
    }
}

fn settings(attachments: Attachments) -> Arc<Settings> {
    let mut limits = ConnectionLimits::default();
    // So that a few bytes reach them.
    (limits.max_payload, limits.max_in_flight, limits.max_in_flight_bytes) = (4096, 8, 16 << 10);
    (limits.outbox_soft, limits.outbox_hard, limits.max_attachments) = (4096, 32 << 10, 40);
    let mut settings = Settings::new(limits, Classic::Short(64));
    settings.attachments = attachments;
    settings.web_is_error = true;
    Arc::new(settings)
}

/// Answers each call with what it says.
fn answer(connection: &mut Connection, event: Event<'_>) {
    match event {
        Event::Request { ticket, payload } => {
            let mut reply = connection.begin_reply(ticket);
            reply.write(payload);
            reply.finish(ResultCode::OK);
        }
        Event::Subscribe { ticket } => drop(connection.accept_subscription(ticket)),
        Event::Unsubscribe { ticket } => connection.end_subscription(ticket),
        Event::Attached { then: Some(event), .. } => answer(connection, *event),
        _ => {}
    }
}

/// Shows it bytes as an owner does, and takes what it sends.
fn show(connection: &mut Connection, bytes: &[u8], arrived: Option<Arrived>, now: Instant) {
    let budget = Cell::new(usize::MAX);
    match arrived {
        None => connection.receive(bytes, &budget, &mut answer),
        Some(arrived) => connection.receive_attached(bytes, arrived, &budget, &mut answer),
    }
    connection.received(now);
    while connection.has_backlog() {
        let (before, budget) = (connection.flow().buffered(), Cell::new(usize::MAX));
        connection.mark_sent(connection.waiting(), now);
        connection.receive(&[], &budget, &mut answer);
        connection.received(now);
        assert!(budget.get() < usize::MAX || connection.flow().buffered() < before, "nothing moves");
    }
    while connection.poll_owed(now).is_some() {}
    while connection.has_unsent() {
        let count = connection.unsent().len();
        assert!(count > 0, "something is unsent, and it is nothing");
        connection.mark_sent(count, now);
    }
    if let Some(failure) = connection.flow().failure() {
        assert!(connection.is_finishing(), "{failure}");
    }
}

/// Frames of v1 and what comes before them, in pieces of any size, to either side.
pub(crate) fn frames(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let connection = match choices.byte() % 3 {
        0 => Connection::responder(settings(Attachments::Never), now),
        1 => Connection::initiator(settings(Attachments::Never), [1; 16], now),
        _ => open(Attachments::Never, now),
    };
    converse(connection, choices, now);
}

/// The same of the classic layout, short and of one size.
pub(crate) fn classic(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let (side, mut settings) = (choices.byte(), Settings::clone(&settings(Attachments::Never)));
    settings.classic = match side & 1 {
        0 => Classic::Short(64),
        _ => Classic::Fixed(64),
    };
    let connection = match side & 2 {
        0 => Connection::responder(Arc::new(settings), now),
        _ => Connection::classic_initiator(Arc::new(settings), now),
    };
    converse(connection, choices, now);
}

fn converse(mut connection: Connection, mut choices: Choices<'_>, now: Instant) {
    let _ = connection.push_request(1, b"asked", 0);
    while !choices.0.is_empty() && !connection.is_finished() {
        let most = usize::from(choices.byte());
        show(&mut connection, choices.bytes(most), None, now);
    }
    connection.end_of_input();
    assert!(connection.flow().buffered() < 1 << 20);
}

/// A hello with any numbers and any TLVs, both ways.
pub(crate) fn hello(data: &[u8]) {
    let now = Instant::now();
    for of_responder in [false, true] {
        let mut bytes = vec![0xD1, 0x53, 0x57, 0xD1, 0, 0];
        bytes.extend_from_slice(&data[..data.len().min(1018)]);
        let length = (bytes.len() as u16).to_le_bytes();
        bytes[4..6].copy_from_slice(&length);
        let mut connection = match of_responder {
            false => Connection::responder(settings(Attachments::Carried), now),
            true => Connection::initiator(settings(Attachments::Carried), [1; 16], now),
        };
        show(&mut connection, &bytes, Some(Arrived::Nothing), now);
        if connection.attaches() {
            assert!(bytes[8] & 4 != 0, "it was not offered");
        }
        if let Some(layout) = connection.layout() {
            assert_eq!(layout, Layout::V1);
        }
    }
}

/// Frames that announce attachments, truly or not, with parcels that come anywhere.
pub(crate) fn attachments(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let mut connection = open(Attachments::Carried, now);
    assert!(connection.attaches());
    let held = Arc::new(());
    while !choices.0.is_empty() && !connection.is_finished() {
        let (what, count) = (choices.byte(), choices.byte());
        let parcel =
            || Arrived::Parcel(Parcel::new(count % 18, vec![Arc::clone(&held); usize::from(count % 18)]));
        let arrived = match what >> 6 {
            0 | 1 => Arrived::Nothing,
            2 => parcel(),
            _ => {
                if what & 1 == 0 {
                    parcel()
                } else {
                    Arrived::Cut
                }
            }
        };
        let length = usize::from(choices.byte());
        show(&mut connection, choices.bytes(length), Some(arrived), now);
        assert!(Arc::strong_count(&held) <= 1 + 18, "at most one parcel waits for its frame");
    }
    connection.end_of_input();
    drop(connection);
    assert_eq!(Arc::strong_count(&held), 1, "all are dropped");
}

/// A process that has things by these names, and counts how many of them others have.
#[derive(Debug)]
struct Process(Arc<()>);

impl Process {
    const NAMES: [u32; 3] = [4, 8, 0x104];
}

impl Fetch for Process {
    fn fetch(&self, names: &[u32]) -> Option<Parcel> {
        assert!((1..=16).contains(&names.len()) && names.iter().all(|&name| 0 < name && name < 1 << 31));
        let are_there = names.iter().all(|name| Process::NAMES.contains(name));
        are_there.then(|| Parcel::new(names.len() as u8, vec![Arc::clone(&self.0); names.len()]))
    }
}

/// Frames that name attachments, some of which are there, and words that some were taken, to one who sends and gets them.
pub(crate) fn handles(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let (theirs, ours) = (Arc::new(()), Arc::new(()));
    let mut connection = open_to(Attachments::Named, Some(Process(Arc::clone(&theirs))), now);
    assert!(connection.attaches() && !connection.is_accompanied());
    while !choices.0.is_empty() && !connection.is_finished() {
        let (what, length) = (choices.byte(), usize::from(choices.byte()));
        let names = &Process::NAMES[..usize::from(what % 4)];
        if what & 0x80 != 0 && !connection.is_finishing() && connection.may_attach(names.len()) {
            let things = vec![Arc::clone(&ours); names.len()];
            let parcel = Parcel::named(names.to_vec(), things);
            connection.push_notify_attached(1, b"", parcel).expect("there is memory");
        }
        assert!(connection.next_parcel().is_none(), "nothing goes beside the bytes");
        show(&mut connection, choices.bytes(length), None, now);
        assert_eq!(Arc::strong_count(&theirs), 2, "what nobody takes is let go");
        assert!(Arc::strong_count(&ours) <= 1 + 256, "so many wait to be taken, and no more");
    }
    connection.end_of_input();
    assert_eq!(Arc::strong_count(&ours), 1, "nobody can take them any more");
    drop(connection);
    assert_eq!(Arc::strong_count(&theirs), 1);
}

/// Bytes and lines.
pub(crate) fn plain(data: &[u8]) {
    let (mut choices, now) = (Choices(data), Instant::now());
    let cut = match choices.byte() {
        0..128 => Cut::Raw,
        most => Cut::Lines { max: usize::from(most) - 127 },
    };
    let mut plain = Plain::new(settings(Attachments::Never), cut, now);
    let (mut came, mut sent) = (0, 0);
    while !choices.0.is_empty() && !plain.is_finishing() {
        let most = usize::from(choices.byte());
        let bytes = choices.bytes(most);
        sent += bytes.len();
        plain.receive(bytes, &Cell::new(usize::MAX), &mut |_, bytes| came += bytes.len());
        plain.received(now);
    }
    plain.end_of_input(&mut |_, bytes| came += bytes.len());
    assert!(came <= sent, "it hands over what has come, and no more");
}

/// One datagram, as a server and as a client see it.
pub(crate) fn datagrams(data: &[u8]) {
    for classic in [Classic::Short(64), Classic::Fixed(64), Classic::Refused] {
        let parsed = format!("{:?}", datagram::parse(data, false, classic));
        assert!(!parsed.is_empty());
    }
    for layout in [Layout::V1, Layout::Classic] {
        if let Some(reply) = datagram::parse_reply(data, layout) {
            assert!(reply.payload.len() <= data.len());
        }
    }
}

/// A responder behind the hello of a generous peer.
fn open(attachments: Attachments, now: Instant) -> Connection {
    open_to(attachments, None, now)
}

/// The same, who fetches from there what frames name.
fn open_to(attachments: Attachments, process: Option<Process>, now: Instant) -> Connection {
    let settings = settings(attachments);
    let mut connection = Connection::responder(Arc::clone(&settings), now);
    if let Some(process) = process {
        connection.fetch_with(Box::new(process));
    }
    let mut peer = Connection::initiator(settings, [2; 16], now);
    let hello = peer.unsent().to_vec();
    show(&mut connection, &hello, None, now);
    connection
}

/// Both sides behind their hellos.
fn opened(settings: Arc<Settings>, now: Instant) -> (Connection, Connection) {
    let mut initiator = Connection::initiator(Arc::clone(&settings), [2; 16], now);
    let mut responder = Connection::responder(settings, now);
    let hello = initiator.unsent().to_vec();
    initiator.mark_sent(hello.len(), now);
    responder.receive(&hello, &Cell::new(usize::MAX), &mut answer);
    responder.received(now);
    let hello = responder.unsent().to_vec();
    responder.mark_sent(hello.len(), now);
    initiator.receive(&hello, &Cell::new(usize::MAX), &mut answer);
    initiator.received(now);
    (initiator, responder)
}
