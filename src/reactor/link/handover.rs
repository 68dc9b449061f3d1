//! A peer that wants to take over the endpoint that it has come in at.

use super::super::handover::objection;
use super::super::mailbox::Letter;
use super::super::source::Socket;
use super::super::system::System;
use super::Scope;
use super::handing::Books;
use sidewire_wire::{Connection, Hello, ResultCode};

impl Scope<'_> {
    /// Lets it have what it needs for that, along with our hello; or says why not.
    #[cold]
    pub(super) fn offer<Y: System>(&self, books: &Books<'_, Y>, connection: &mut Connection, hello: &Hello) {
        let (endpoint, key) = (&self.site.endpoint, self.key);
        if let Some(why) = objection(self.site.settings.app.as_ref(), hello.app()) {
            log::info!("{endpoint}: #{key} may not take over: {why}");
            return connection.deny(&why);
        }
        let listener = match &books.at.socket {
            Socket::Listener(_) if self.site.is_adopted => {
                return connection
                    .deny("this server was given its socket by others, who may give it to another one");
            }
            Socket::Listener(listener) => listener,
            _ => return connection.deny("this server listens here no more"),
        };
        connection.grant();
        match books.system.pass(listener, books.stream, connection.unsent()) {
            Ok(count) => connection.mark_sent(count, self.begun),
            Err(error) => {
                log::warn!("{endpoint}: #{key} can't be passed the endpoint: {error}");
                connection.goodbye(ResultCode::HANDLER_FAILED);
            }
        }
    }

    /// It has that, and takes over.
    #[cold]
    pub(super) fn give_way(&self, connection: &mut Connection) {
        if let Err(error) = self.mailbox.post(Letter::GiveWay(self.key)) {
            log::warn!("{}: #{} can't take over: {error:?}", self.site.endpoint, self.key);
            connection.goodbye(ResultCode::BUSY);
        }
    }
}
