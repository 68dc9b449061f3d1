//! Streams without frames: who handles them.

use crate::reactor::{Closed, ConnectionId, Session};

/// Handles the connections of a listener that carries raw bytes or lines in place of frames; see
/// [`Server::listen_raw`](super::Server::listen_raw) and
/// [`Server::listen_lines`](super::Server::listen_lines).
///
/// One handler serves all connections of its listener; what belongs to one of them is best kept
/// in a map by [`ConnectionId`], in the server's state or in the handler.
pub trait StreamHandler<S> {
    /// A client has connected. What is written here it reads first.
    fn opened(&mut self, state: &mut S, session: &mut Session<'_>) {
        let _ = (state, session);
    }

    /// Bytes as they came, or one line without its end.
    fn data(&mut self, state: &mut S, session: &mut Session<'_>, bytes: &[u8]);

    /// The client will send no more. It still reads: what is written here reaches it, then our
    /// side ends too.
    fn half_closed(&mut self, state: &mut S, session: &mut Session<'_>) {
        let _ = (state, session);
    }

    /// The connection is over. Called once for every one that was opened, unless the server itself
    /// is dropped before.
    fn closed(&mut self, state: &mut S, id: ConnectionId, why: &Closed) {
        let _ = (state, id, why);
    }
}

impl<S, H: StreamHandler<S> + ?Sized> StreamHandler<S> for Box<H> {
    fn opened(&mut self, state: &mut S, session: &mut Session<'_>) {
        (**self).opened(state, session);
    }

    fn data(&mut self, state: &mut S, session: &mut Session<'_>, bytes: &[u8]) {
        (**self).data(state, session, bytes);
    }

    fn half_closed(&mut self, state: &mut S, session: &mut Session<'_>) {
        (**self).half_closed(state, session);
    }

    fn closed(&mut self, state: &mut S, id: ConnectionId, why: &Closed) {
        (**self).closed(state, id, why);
    }
}

/// A handler that only wants the data: `on_data(|state, session, bytes| …)`.
pub fn on_data<S, F>(run: F) -> impl StreamHandler<S>
where
    F: FnMut(&mut S, &mut Session<'_>, &[u8]),
{
    OnData(run)
}

struct OnData<F>(F);

impl<S, F> StreamHandler<S> for OnData<F>
where
    F: FnMut(&mut S, &mut Session<'_>, &[u8]),
{
    fn data(&mut self, state: &mut S, session: &mut Session<'_>, bytes: &[u8]) {
        (self.0)(state, session, bytes);
    }
}
