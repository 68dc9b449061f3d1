//! Who asks for more than calls: something about the server itself.

use super::super::stopping::STOP_GRACE;
use super::super::system::System;
use super::Scope;
use super::handing::Books;
use sidewire_wire::{Connection, Hello, Task};

impl Scope<'_> {
    /// Grants what a hello asks for, or denies it. Whoever may connect here, this is for our own user, by the
    /// system's word.
    #[cold]
    pub(super) fn judge_task<Y: System>(
        &self,
        books: &Books<'_, Y>,
        connection: &mut Connection,
        task: Task,
        hello: &Hello,
    ) {
        let peer = books.peer;
        let (endpoint, key) = (&self.site.endpoint, self.key);
        log::debug!("{endpoint}: #{key} asks the server to {task}: {hello}");
        if let Err(denied) = self.site.admits_task(peer) {
            if let Some(count) = self.site.tallies.denied.next_worth_telling() {
                log::warn!("{endpoint}: {peer} may not ask the server to {task}: {denied}; {count} so far");
            }
            return connection.deny(&format!("you may not ask this server to {task}: {denied}"));
        }
        match task {
            Task::Stop => {
                log::info!("{endpoint}: {peer} asks the server to stop");
                connection.grant();
                if let Err(error) = self.mailbox.stop(STOP_GRACE) {
                    log::error!("{endpoint}: stop the server: {error}");
                }
            }
            Task::Handover => self.offer(books, connection, hello),
            _ => connection.deny("this server knows of no such thing"),
        }
    }
}
