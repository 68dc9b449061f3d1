//! The file of a server: how it is begun, and what is removed for it.

use std::time::{Duration, Instant, SystemTime};
use std::{env, io, process};

use sidewire_platform::{self as platform, Endpoint, RecordingFile, recordings};

use super::found;
use super::text::{Server, named, plain};

/// Recordings of dead servers that are left when another starts.
const KEPT: usize = 16;
/// For how long they are.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// What a server writes of itself into its file.
#[derive(Debug)]
pub(crate) struct Label(Server);

impl Label {
    /// Of this process, whose server began then.
    fn new(base: Instant) -> Label {
        let program =
            env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let started = SystemTime::now().checked_sub(base.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
        let program = plain(&program.unwrap_or_default());
        Label(Server { pid: process::id(), program, started, endpoints: Vec::new() })
    }

    /// It has one more endpoint. Says whether that is news.
    pub(crate) fn add(&mut self, endpoint: &Endpoint) -> bool {
        let name = named(endpoint);
        let is_new = !self.0.endpoints.contains(&name);
        if is_new {
            self.0.endpoints.push(name);
        }
        is_new
    }

    pub(crate) fn text(&self) -> String {
        self.0.write()
    }
}

/// A file for a server that began then, with its first endpoint if that has a name; `None`: there is none to be had.
pub(crate) fn begin(base: Instant, endpoint: Option<&Endpoint>) -> (Label, Option<platform::Recording>) {
    let mut label = Label::new(base);
    if let Some(endpoint) = endpoint {
        label.add(endpoint);
    }
    match platform::Recording::create(&label.0.program, label.text().as_bytes()) {
        Ok(recording) => (label, Some(recording)),
        Err(error) => {
            log::debug!("nothing will be left of what this server does, should it die: {error}");
            (label, None)
        }
    }
}

/// Removes what dead servers have left: all that had this endpoint, all that is old, and what is too much.
pub(crate) fn sweep(endpoint: Option<&Endpoint>) {
    let name = endpoint.map(named);
    let is_same = |server: &Server| name.as_ref().is_some_and(|name| server.endpoints.contains(name));
    let mut others = Vec::new();
    for file in recordings(None).into_iter().filter(|file| !file.is_alive()) {
        match found::server(&file) {
            Ok(server) if is_same(&server) => remove(file),
            read => others.push((changed(&file), read.ok(), file)),
        }
    }
    let now = SystemTime::now();
    let is_old = |last: SystemTime| now.duration_since(last).is_ok_and(|age| age > KEPT_FOR);
    // What they did last is in rings, which are long: most servers that start need not look.
    if others.len() <= KEPT && !others.iter().any(|(changed, ..)| is_old(*changed)) {
        return;
    }
    let others = others.into_iter().map(|(changed, server, file)| (last_sign(changed, &file, server), file));
    let mut others: Vec<_> = others.collect();
    // The newest first.
    others.sort_by(|(one, _), (other, _)| other.cmp(one));
    for (number, (last, file)) in others.into_iter().enumerate() {
        if number >= KEPT || is_old(last) {
            remove(file);
        }
    }
}

fn changed(file: &RecordingFile) -> SystemTime {
    file.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When its server was there last: it did something, or it changed its file.
fn last_sign(changed: SystemTime, file: &RecordingFile, server: Option<Server>) -> SystemTime {
    let did = server.zip(file.ring().ok()).and_then(|(server, ring)| {
        let last = found::records(&ring).pop()?;
        server.started.checked_add(last.at)
    });
    // One that is yet to come would stay for ever.
    did.filter(|did| *did <= SystemTime::now()).map_or(changed, |did| did.max(changed))
}

fn remove(file: RecordingFile) {
    let path = file.path().to_owned();
    match file.remove() {
        Ok(()) => log::debug!("removed {}, which a dead server has left", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // Another server has looked at the same time.
        Err(error) => log::debug!("removing {}: {error}", path.display()),
    }
}
