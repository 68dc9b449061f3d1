//! The server's side.

use super::document;
use super::list::{Contract, Entry, List, Part};
use crate::error::{Error, Result};
use crate::server::{Server, Threads};

impl<S, T: Threads> Server<S, T> {
    /// Has the server describe itself: this contract's messages and events, with the [`App`](crate::App)'s name and
    /// version, to everybody who is let in and asks ([`DESCRIPTION`](crate::DESCRIPTION)). The contract's hash is in its
    /// hellos from then on.
    ///
    /// Call it when all handlers and topics are set, and before the server runs: who is connected already has its
    /// hello. See [`describe`](crate::describe) for an example.
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input), with what to do, if a message has no handler or an event no
    /// topic; two of them have the same number; the app has another contract's hash; or a
    /// handler of type 65,535 is in the way.
    pub fn describe<C: Contract>(&mut self) -> Result<()> {
        let list = List::of::<C>();
        let entries = list.entries();
        let objection = entries.iter().find_map(|entry| self.lacks(entry)).or_else(|| twice(entries));
        objection.map_or(Ok(()), |why| Err(Error::invalid("describe the server", &why)))?;
        let hash = document::hash(&list);
        self.describe_as(hash, |app| document::text(&list, app, &hash))
    }

    /// What has to be done before this can be described.
    fn lacks(&self, entry: &Entry) -> Option<String> {
        let Entry { name, number, .. } = entry;
        match entry.part {
            Part::Served if !self.has_handler(*number) => Some(format!(
                "`{name}` ({number}) is in the contract, and nobody serves it: call `server.serve::<{name}>(..)` before"
            )),
            Part::Events if !self.has_topic(*number) => Some(format!(
                "`{name}` ({number}) is in the contract, and nobody can subscribe to it: call \
                 `server.publishes::<{name}>(..)` before"
            )),
            Part::Served | Part::Asked | Part::Events => None,
        }
    }
}

/// Two of one number.
fn twice(entries: &[Entry]) -> Option<String> {
    let same = entries.windows(2).find(|two| (two[0].part, two[0].number) == (two[1].part, two[1].number))?;
    let (one, other) = (same[0].name, same[1].name);
    Some(format!("`{one}` and `{other}` have the same number: give each one of its own"))
}
