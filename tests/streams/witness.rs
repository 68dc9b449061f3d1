//! A stream handler that does as it is told and notes what happens to it.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sidewire::{Closed, ConnectionId, Endpoint, Limits, Remote, Running, Server, Session, StreamHandler};

use crate::util::{Raw, all_streams, until, usual};

/// How the bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carry {
    Raw,
    /// In lines of at most so many bytes.
    Lines(usize),
}

/// Both ways, where it does not matter how.
pub(crate) const BOTH: [Carry; 2] = [Carry::Raw, Carry::Lines(1 << 20)];

/// What a handler does.
#[derive(Clone, Copy)]
pub(crate) struct Play {
    pub opened: fn(&mut Session<'_>),
    pub data: fn(&mut Session<'_>, &[u8]),
    pub half_closed: fn(&mut Session<'_>),
}

impl Play {
    /// Sends every byte back, and lines with their ends.
    pub(crate) fn echo(carry: Carry) -> Play {
        let data: fn(&mut Session<'_>, &[u8]) = match carry {
            Carry::Raw => |session, bytes| session.write(bytes),
            Carry::Lines(_) => |session, line| session.write([line, b"\n"].concat()),
        };
        Play { data, ..Play::silent() }
    }

    pub(crate) fn silent() -> Play {
        Play { opened: |_| {}, data: |_, _| {}, half_closed: |_| {} }
    }
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Opened,
    Data(Vec<u8>),
    HalfClosed,
    Closed(Why),
}

/// [`Closed`], to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    InOrder,
    Broken(String),
    Ended(String),
}

impl Why {
    /// The server ended it, and the reason has this word in it.
    #[track_caller]
    pub(crate) fn expect_ended(&self, word: &str) {
        assert!(matches!(self, Why::Ended(text) if text.contains(word)), "not ended with '{word}': {self:?}");
    }
}

/// What has happened so far. Clones show the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<(ConnectionId, Event)>>>);

impl Notes {
    fn add(&self, id: ConnectionId, event: Event) {
        self.0.lock().expect("the notes").push((id, event));
    }

    /// Everything, whichever connection it was.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().expect("the notes").iter().map(|(_, event)| event.clone()).collect()
    }

    pub(crate) fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().expect("the notes").iter().filter(|(_, event)| which(event)).count()
    }

    /// All data together.
    pub(crate) fn data(&self) -> Vec<u8> {
        self.pieces().concat()
    }

    pub(crate) fn pieces(&self) -> Vec<Vec<u8>> {
        let piece = |event| match event {
            Event::Data(bytes) => Some(bytes),
            _ => None,
        };
        self.events().into_iter().filter_map(piece).collect()
    }

    /// How many bytes have come.
    pub(crate) fn received(&self) -> usize {
        let length =
            |(_, event): &(ConnectionId, Event)| if let Event::Data(bytes) = event { bytes.len() } else { 0 };
        self.0.lock().expect("the notes").iter().map(length).sum()
    }

    /// Waits until so many bytes have come, as long as more and more of them do.
    pub(crate) fn wait_for(&self, bytes: usize) {
        let mut received = self.received();
        while received < bytes {
            until("more has come", || self.received() > received);
            received = self.received();
        }
    }

    /// Strikes out those that are over.
    pub(crate) fn forget_the_dead(&self) {
        let mut notes = self.0.lock().expect("the notes");
        let is_end = |event: &Event| matches!(event, Event::Closed(_));
        let dead: Vec<_> = notes.iter().filter(|(_, event)| is_end(event)).map(|(id, _)| *id).collect();
        notes.retain(|(id, _)| !dead.contains(id));
    }

    pub(crate) fn is_half_closed(&self) -> bool {
        self.count(|event| *event == Event::HalfClosed) > 0
    }

    /// Waits until so many connections are over. Says why they are.
    pub(crate) fn ends(&self, count: usize) -> Vec<Why> {
        let is_end = |event: &Event| matches!(event, Event::Closed(_));
        until("the connections are over", || self.count(is_end) >= count);
        let why = |event| if let Event::Closed(why) = event { Some(why) } else { None };
        let all: Vec<Why> = self.events().into_iter().filter_map(why).collect();
        assert_eq!(all.len(), count, "{:?}", self.events());
        all
    }

    /// Waits for the end of the only connection.
    pub(crate) fn end(&self) -> Why {
        self.ends(1).remove(0)
    }

    /// Every connection was opened once, and closed once, and nothing happened to it before and
    /// after; nobody said more after a half-close, which came once at most.
    fn check(&self) {
        let notes = self.0.lock().expect("the notes").clone();
        let ids: std::collections::BTreeSet<_> = notes.iter().map(|(id, _)| *id).collect();
        for id in ids {
            let life: Vec<&Event> =
                notes.iter().filter(|(of, _)| *of == id).map(|(_, event)| event).collect();
            let [Event::Opened, middle @ .., Event::Closed(_)] = &life[..] else {
                panic!("no whole life: {life:?}")
            };
            let data = middle.iter().take_while(|event| matches!(event, Event::Data(_))).count();
            assert!(matches!(middle[data..], [] | [Event::HalfClosed]), "{life:?}");
        }
    }
}

/// The handler.
struct Witness {
    play: Play,
    notes: Notes,
}

impl StreamHandler<()> for Witness {
    fn opened(&mut self, (): &mut (), session: &mut Session<'_>) {
        self.notes.add(session.id(), Event::Opened);
        (self.play.opened)(session);
    }

    fn data(&mut self, (): &mut (), session: &mut Session<'_>, bytes: &[u8]) {
        self.notes.add(session.id(), Event::Data(bytes.to_vec()));
        (self.play.data)(session, bytes);
    }

    fn half_closed(&mut self, (): &mut (), session: &mut Session<'_>) {
        self.notes.add(session.id(), Event::HalfClosed);
        (self.play.half_closed)(session);
    }

    fn closed(&mut self, (): &mut (), id: ConnectionId, why: &Closed) {
        let why = match why {
            Closed::InOrder => Why::InOrder,
            Closed::Broken(error) => Why::Broken(error.to_string()),
            Closed::Ended(text) => Why::Ended(text.clone()),
            _ => panic!("a reason that the tests do not know: {why}"),
        };
        self.notes.add(id, Event::Closed(why));
    }
}

/// A server with one such listener.
pub(crate) struct Stage {
    pub endpoint: Endpoint,
    pub notes: Notes,
    pub remote: Remote<()>,
    running: Running<()>,
}

impl Stage {
    pub(crate) fn new(endpoint: &Endpoint, limits: Limits, carry: Carry, play: Play) -> Stage {
        let mut server = Server::builder(()).types(0).limits(limits).build().expect("a server");
        let notes = Notes::default();
        let witness = Witness { play, notes: notes.clone() };
        let endpoint = match carry {
            Carry::Raw => server.listen_raw(usual(endpoint), witness),
            Carry::Lines(max) => server.listen_lines(usual(endpoint), max, witness),
        };
        let endpoint = endpoint.expect("listen");
        let running = server.spawn().expect("spawn");
        Stage { endpoint, notes, remote: running.remote(), running }
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(&self.endpoint)
    }

    fn has_half_close(&self) -> bool {
        cfg!(unix) || matches!(self.endpoint, Endpoint::Tcp { .. })
    }

    /// Stops the server and checks the notes.
    pub(crate) fn end(self) {
        self.running.stop().expect("the server ends well");
        self.notes.check();
    }
}

/// Runs `test` on every kind of stream, each with a server of its own.
pub(crate) fn everywhere(limits: &Limits, carry: Carry, play: Play, test: impl Fn(&Stage)) {
    for endpoint in all_streams() {
        eprintln!("{carry:?} on {endpoint}");
        let stage = Stage::new(&endpoint, limits.clone(), carry, play);
        test(&stage);
        stage.end();
    }
}

/// The same for all at once: where time has to pass.
pub(crate) fn everywhere_at_once(limits: &Limits, carry: Carry, play: Play, test: impl Fn(&Stage) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for endpoint in all_streams() {
            scope.spawn(move || {
                let stage = Stage::new(&endpoint, limits.clone(), carry, play);
                test(&stage);
                stage.end();
            });
        }
    });
}

/// The same with the default limits, where the two directions of a stream end separately: not on
/// Windows pipes.
pub(crate) fn where_halves_end(carry: Carry, play: Play, test: impl Fn(&Stage)) {
    everywhere(&Limits::default(), carry, play, |stage| {
        if stage.has_half_close() { test(stage) } else { eprintln!("  where there is no half-close") }
    });
}

/// Limits with some of them changed.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Bytes in which none can be lost, doubled or moved unseen.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Lines of text, which together are so long.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = pattern(length).iter().map(|byte| b'a' + byte % 26).collect();
    bytes.iter_mut().skip(79).step_by(80).for_each(|byte| *byte = b'\n');
    if let Some(last) = bytes.last_mut() {
        *last = b'\n';
    }
    bytes
}

/// What this kind of listener echoes unchanged.
pub(crate) fn content(carry: Carry, length: usize) -> Vec<u8> {
    match carry {
        Carry::Raw => pattern(length),
        Carry::Lines(_) => text(length),
    }
}

/// Sends until nothing more is taken.
pub(crate) fn stuff(client: &Raw) {
    let lines = text(65536);
    while client.0.send(&lines, Some(Duration::from_millis(100))).is_ok() {}
}
