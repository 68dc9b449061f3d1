//! Recordings that are there, as they are read.

use std::time::{Duration, SystemTime};

use sidewire_platform::{Endpoint, RecordCells, RecordingFile, recordings};

use super::record::{Record, RecordKind, RecordState};
use super::text::{Server, named};
use super::writing::NOBODY;

/// Records that are told of a ring. It has room for twice as many: what is written while it is read takes the place of others.
const TOLD: u64 = 1024;

/// What a process that was started no earlier than that is at, or was when it died, as the recorders of its servers tell.
pub(crate) fn doing(pid: u32, begun: SystemTime) -> Option<String> {
    let mut its = Recording::of_process(pid);
    // Not of one that had its number before.
    its.retain(|recording| recording.started() >= begun);
    its.iter().find_map(Recording::doing_now).or_else(|| its.iter().rev().find_map(Recording::doing))
}

/// What a server's recorder has kept: of one that runs, as of now, or of one that did not end in order.
///
/// It is what a process of the same user has left there: texts are cut and escaped, and numbers may be any.
#[derive(Clone, Debug)]
pub struct Recording {
    server: Server,
    is_alive: bool,
    records: Vec<Record>,
}

impl Recording {
    /// All of this user, those that began first first. What is no recording, or can't be opened, is left out; of one that can't be read the log says why.
    #[must_use]
    pub fn all() -> Vec<Recording> {
        Recording::those_of(None, |_| true)
    }

    /// Those of servers that have, or had, this endpoint, by its name: `tcp:127.0.0.1:4711`, not `tcp:localhost:4711`.
    #[must_use]
    pub fn of_endpoint(endpoint: &Endpoint) -> Vec<Recording> {
        let name = named(endpoint);
        Recording::those_of(None, |server| server.endpoints.contains(&name))
    }

    /// Those of servers of this process, or of one that had its number.
    #[must_use]
    pub fn of_process(pid: u32) -> Vec<Recording> {
        Recording::those_of(Some(pid), |server| server.pid == pid)
    }

    fn those_of(pid: Option<u32>, is_wanted: impl Fn(&Server) -> bool) -> Vec<Recording> {
        let mut found = Vec::new();
        for file in recordings(pid) {
            match server(&file) {
                Ok(server) if is_wanted(&server) => match Recording::read(&file, server) {
                    Ok(recording) => found.push(recording),
                    Err(error) => log::warn!("the recording {}: {error}", file.path().display()),
                },
                Ok(_) => {}
                Err(error) => log::warn!("the recording {}: {error}", file.path().display()),
            }
        }
        found.sort_by_key(|recording| recording.server.started);
        found
    }

    pub(super) fn read(file: &RecordingFile, server: Server) -> std::io::Result<Recording> {
        Ok(Recording { server, is_alive: file.is_alive(), records: records(&file.ring()?) })
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid
    }

    /// The name of its program's file.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.server.program
    }

    /// When the server began: from then on times of records are reckoned.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.server.started
    }

    /// The endpoints that it has opened.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.server.endpoints
    }

    /// Whether the server was there when this was read.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// The last 1,024 records at most, the oldest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What it is in the middle of, or was when it died; if it is nothing, what it handled last. `None`: it has handled nothing.
    ///
    /// Words behind whom it is about: `was in the handler of type 7 (call 12), begun 3.2 s ago`.
    #[must_use]
    pub fn doing(&self) -> Option<String> {
        // That connections came and went tells nothing; and there need be no handler of that.
        let is_telling =
            |record: &Record| !matches!(record.kind, RecordKind::Connect | RecordKind::Disconnect);
        let handled = || self.records.iter().rev().filter(|record| record.handler().is_some());
        self.doing_now().or_else(|| self.words(handled().find(|record| is_telling(record))?))
    }

    /// The same, if it is in the middle of something, or was.
    pub(crate) fn doing_now(&self) -> Option<String> {
        self.words(self.records.last().filter(|record| record.state == RecordState::Running)?)
    }

    fn words(&self, last: &Record) -> Option<String> {
        let since = self.server.started.checked_add(last.at + last.took.unwrap_or_default())?;
        let ago = SystemTime::now().duration_since(since).unwrap_or_default();
        let handler = last.handler()?;
        let call = if last.id == 0 { String::new() } else { format!(" (call {})", last.id) };
        Some(match (last.state, self.is_alive) {
            (RecordState::Running, true) => format!("has been in {handler}{call} for {}", in_words(ago)),
            (RecordState::Running, false) => format!("was in {handler}{call}, begun {} ago", in_words(ago)),
            (RecordState::Done | RecordState::Deferred, _) => {
                let rc = last.rc.map(|rc| format!(", rc {}", rc.code())).unwrap_or_default();
                format!("was last in {handler}{call}{rc}, {} ago", in_words(ago))
            }
        })
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// Who has recorded there.
pub(super) fn server(file: &RecordingFile) -> std::io::Result<Server> {
    let says_too_little =
        || std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not say whose it is");
    Server::read(&file.text()?).ok_or_else(says_too_little)
}

/// The last records of a ring, in order.
pub(super) fn records(ring: &[u8]) -> Vec<Record> {
    let places = ring.chunks_exact(RecordCells::BYTES).enumerate();
    let mut read: Vec<_> = places.filter_map(|(place, bytes)| Record::read(bytes, place)).collect();
    read.sort_by_key(|(record, _)| record.number);
    // The first of a turn says what is true of those that follow, and the last of those between two looks at the clock what
    // all of them took.
    let mut turn = (NOBODY, 0, 0u64);
    for (record, place) in &mut read {
        if let Some((connection, begun, at)) = place.mark {
            // It may be some time old, of which others have been told since.
            let late = turn.2.saturating_sub(at);
            turn = (connection, begun.saturating_add(late), at.saturating_add(late));
        }
        record.is_of(turn);
        turn.2 = place.looked.map_or(turn.2, |(_, nanos)| turn.2.saturating_add(nanos));
    }
    let (mut left, mut mean) = (0, Duration::ZERO);
    for (record, place) in read.iter_mut().rev() {
        if let Some((count, nanos)) = place.looked {
            (left, mean) = (count, Duration::from_nanos(nanos / count));
        }
        if left > 0 {
            left -= 1;
            record.took = Some(mean).filter(|_| record.state != RecordState::Running);
        }
    }
    let newest = read.last().map_or(0, |(record, _)| record.number);
    read.retain(|(record, _)| newest - record.number < TOLD);
    read.into_iter().map(|(record, _)| record).collect()
}
