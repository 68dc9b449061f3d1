//! What a server knows of the messages and events that it serves as Rust types.

use std::collections::BTreeMap;

use sidewire_wire::{Failure, WhenSlow};

use super::{Handles, Reply, Request, Server, Threads};

/// What is known of a message or an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypeInfo {
    pub(crate) number: u16,
    pub(crate) name: &'static str,
}

/// All of a server's, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Types {
    pub(super) messages: BTreeMap<u16, TypeInfo>,
    events: BTreeMap<u16, TypeInfo>,
}

impl<S, T: Threads> Server<S, T> {
    /// Sets the handler of a message, whose number nobody else has.
    ///
    /// # Panics
    /// With what to do, otherwise, and if it lies beyond the table.
    #[track_caller]
    pub(crate) fn on_type<F>(&mut self, info: TypeInfo, handler: F)
    where
        F: FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + 'static,
        T: Handles<S, F>,
    {
        let TypeInfo { number, name } = info;
        self.check_type(info);
        match self.types.messages.get(&number) {
            Some(TypeInfo { name: other, .. }) if *other == name => panic!("`{name}` is served already"),
            Some(TypeInfo { name: other, .. }) => panic!(
                "`{name}` has the number {number}, and so has `{other}`, which is served already: give each one of \
                 its own"
            ),
            None => {}
        }
        let is_taken = self.dispatch.table.get(usize::from(number)).is_some_and(Option::is_some);
        assert!(
            !is_taken,
            "`{name}` has the number {number}, which has a handler already, set by `on`: give `{name}` another"
        );
        self.on(number, handler);
        self.types.messages.insert(number, info);
    }

    /// Sets the topic of an event, whose number nobody else has.
    ///
    /// # Panics
    /// As [`on_type`](Server::on_type).
    #[track_caller]
    pub(crate) fn topic_type(&mut self, info: TypeInfo, when_slow: WhenSlow) {
        let TypeInfo { number, name } = info;
        self.check_type(info);
        if let Some(TypeInfo { name: other, .. }) = self.types.events.get(&number)
            && *other != name
        {
            panic!(
                "`{name}` has the number {number}, and so has `{other}`, which is published already: give each \
                 one of its own"
            );
        }
        self.topic(number, when_slow);
        self.types.events.insert(number, info);
    }

    #[track_caller]
    fn check_type(&self, TypeInfo { number, name }: TypeInfo) {
        let types = self.dispatch.table.len();
        let needed = usize::from(number) + 1;
        assert!(
            needed <= types,
            "`{name}` has the number {number}, which lies beyond a dispatch table of {types} types: give it a \
             smaller one, or make the table larger, with `Server::builder(..).types({needed})`"
        );
    }
}
