//! A server that describes itself.

use super::{Server, Threads};
use crate::error::{Error, Result};
use crate::limits::DESCRIPTION;
use sidewire_wire::App;

impl<S, T: Threads> Server<S, T> {
    /// Answers those who ask what it does, and has this hash in its hellos. `describe` is told of the app.
    pub(crate) fn describe_as(
        &mut self,
        hash: [u8; 32],
        describe: impl FnOnce(&App) -> String,
    ) -> Result<()> {
        let invalid = |why: &str| Err(Error::invalid("describe the server", why));
        if self.has_handler(DESCRIPTION) {
            return invalid(
                "type 65535, by which servers are asked to describe themselves, has a handler: give that another",
            );
        }
        let app = self.app.get_or_insert_default();
        if app.contract_hash().is_some_and(|other| other != hash) {
            return invalid(
                "the app has a contract's hash already, and it is not this one's: leave it out there",
            );
        }
        *app = std::mem::take(app).contract(hash);
        self.dispatch.description = Some(describe(app).into());
        if let Some(reactor) = &mut self.core.reactor {
            reactor.set_app(app);
        }
        Ok(())
    }

    pub(crate) fn has_handler(&self, msg_type: u16) -> bool {
        self.dispatch.table.get(usize::from(msg_type)).is_some_and(Option::is_some)
    }

    pub(crate) fn has_topic(&self, msg_type: u16) -> bool {
        self.dispatch.topics.contains_key(&msg_type)
    }
}
