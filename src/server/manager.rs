//! What the service manager that has started this process is told of the server.

use sidewire_platform::{Notice, tell_manager};

use super::{Server, Threads};

/// How much it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manager {
    /// It is to be told nothing.
    #[default]
    Nobody,
    Nothing,
    Ready,
    Stopping,
}

impl<S, T: Threads> Server<S, T> {
    /// Has this server tell the service manager that has started this process, if one has, when it is ready, and
    /// when it stops: when it first runs or turns, so that all handlers and endpoints are there; and when it was told
    /// to stop, before it finishes what was accepted. What can't be told is logged.
    ///
    /// Programs with more to start than a server tell it themselves.
    ///
    /// # Platform-specific behavior
    /// Unix: `READY=1`, `STOPPING=1` and a `STATUS=` to the socket that `NOTIFY_SOCKET` names (sd_notify(3)); a unit
    /// of systemd needs `Type=notify`. Without that variable, and on Windows, nothing happens.
    pub fn notify_service_manager(&mut self) {
        if self.dispatch.manager == Manager::Nobody {
            self.dispatch.manager = Manager::Nothing;
        }
    }
}

impl Manager {
    /// The server is about to turn.
    #[inline]
    pub(super) fn ready(&mut self, endpoints: usize) {
        if *self == Manager::Nothing {
            *self = Manager::Ready;
            let noun = if endpoints == 1 { "endpoint" } else { "endpoints" };
            tell(&[Notice::Ready, Notice::Status(&format!("serving on {endpoints} {noun}"))]);
        }
    }

    pub(super) fn stopping(&mut self) {
        if *self == Manager::Ready {
            *self = Manager::Stopping;
            tell(&[Notice::Stopping, Notice::Status("stopping")]);
        }
    }
}

fn tell(notices: &[Notice<'_>]) {
    match tell_manager(notices) {
        Ok(true) => log::debug!("the service manager was told {notices:?}"),
        Ok(false) => {}
        Err(error) => log::warn!("tell the service manager: {error}"),
    }
}
