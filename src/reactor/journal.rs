//! A line for each request, at the level "debug".

use std::fmt;
use std::time::Instant;

use super::Incoming;
use sidewire_wire::{Layout, ResultCode};

/// A request that is being handled. Where nobody wants to read of it, it costs a look at the level.
/// Boxed, so that there is little to carry otherwise.
pub(super) struct Handled(Option<Box<Begun>>);

struct Begun {
    id: u32,
    at: Instant,
}

impl Handled {
    /// `id`: 0 where there is none.
    #[inline]
    pub(super) fn begin(id: u32) -> Handled {
        Handled(if log::log_enabled!(log::Level::Debug) { begin(id) } else { None })
    }

    /// It was answered. `who`: by what the lines of one peer can be told from others.
    #[inline]
    pub(super) fn end(self, incoming: &Incoming<'_>, rc: ResultCode, who: fmt::Arguments<'_>) {
        if let Some(begun) = self.0 {
            tell("request", &begun, incoming, Some(rc), who);
        }
    }

    /// It will be answered later.
    #[inline]
    pub(super) fn defer(self, incoming: &Incoming<'_>, who: fmt::Arguments<'_>) {
        if let Some(begun) = self.0 {
            tell("deferred request", &begun, incoming, None, who);
        }
    }

    /// It wanted no answer.
    #[inline]
    pub(super) fn end_notify(self, incoming: &Incoming<'_>, who: fmt::Arguments<'_>) {
        if let Some(begun) = self.0 {
            tell("notify", &begun, incoming, None, who);
        }
    }
}

#[cold]
fn begin(id: u32) -> Option<Box<Begun>> {
    Some(Box::new(Begun { id, at: Instant::now() }))
}

#[cold]
fn tell(what: &str, begun: &Begun, incoming: &Incoming<'_>, rc: Option<ResultCode>, who: fmt::Arguments<'_>) {
    let micros = begun.at.elapsed().as_micros();
    let Incoming { msg_type, payload, endpoint, layout, .. } = incoming;
    let layout = if *layout == Layout::V1 { "v1" } else { "classic" };
    let id = if begun.id == 0 { String::new() } else { format!(" id {}", begun.id) };
    let rc = rc.map(|rc| format!(", rc {}", rc.code())).unwrap_or_default();
    let length = payload.len();
    log::debug!("{endpoint}: {who} {layout} {what} type {msg_type}{id}, {length} bytes{rc}, {micros} us");
}
