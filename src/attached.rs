//! What goes with frames and is no bytes: between the system, which knows what it is, and the wire, which counts it.

use std::io;

use sidewire_platform::{Attachment, Endpoint, Peer, PeerProcess, close_aside};
use sidewire_wire::{Attachments, Fetch, Parcel};

/// How frames take attachments along on this system, where they do.
pub(crate) const HOW: Attachments = match Attachment::ARE_NAMED {
    true => Attachments::Named,
    false => Attachments::Carried,
};

/// What came with a frame. What nobody takes of it is closed where nobody waits for that.
struct Came(Vec<Attachment>);

impl Drop for Came {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            close_aside(std::mem::take(&mut self.0));
        }
    }
}

/// These, which came with a frame.
pub(crate) fn came(attachments: Vec<Attachment>) -> Parcel {
    Parcel::new(count(&attachments), Came(attachments))
}

/// What came, for whoever asks first.
pub(crate) fn take(parcel: &Parcel) -> Option<Vec<Attachment>> {
    parcel.take().map(|mut came: Came| std::mem::take(&mut came.0))
}

fn count(attachments: &[Attachment]) -> u8 {
    attachments.len().try_into().unwrap_or(u8::MAX)
}

/// These, to go with a frame.
pub(crate) fn parcel(attachments: Vec<Attachment>) -> io::Result<Parcel> {
    if !Attachment::ARE_NAMED {
        return Ok(Parcel::new(count(&attachments), attachments));
    }
    let names = attachments.iter().map(Attachment::name).collect::<io::Result<_>>()?;
    Ok(Parcel::named(names, attachments))
}

/// Why this one can't go with any frame.
pub(crate) fn objection(attachment: &Attachment) -> Option<io::Error> {
    if Attachment::ARE_NAMED { attachment.name().err() } else { None }
}

/// Fetches what the frames of one peer name.
#[derive(Debug)]
struct Fetching(PeerProcess);

impl Fetch for Fetching {
    fn fetch(&self, names: &[u32]) -> Option<Parcel> {
        let fetched = self.0.fetch(names);
        fetched.map(came).map_err(|error| log::debug!("fetching what a frame names: {error}")).ok()
    }
}

/// Who can fetch what this peer's frames name, if anybody can.
pub(crate) fn source(peer: &Peer, endpoint: &Endpoint) -> Option<Box<dyn Fetch>> {
    match PeerProcess::of(peer) {
        Ok(process) => Some(Box::new(Fetching(process))),
        Err(error) => {
            log::debug!("{endpoint}: no attachments can be exchanged with {peer}: {error}");
            None
        }
    }
}
