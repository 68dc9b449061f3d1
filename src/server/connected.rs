//! Who has connected, and what the app keeps for each of them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use sidewire_platform::{Endpoint, Peer};

use crate::reactor::{ConnectionId, Visitor};
use sidewire_wire::{App, Layout};

/// A connection with frames, as [`Server::on_connect`](super::Server::on_connect) and
/// [`Server::on_disconnect`](super::Server::on_disconnect) are told of it.
pub struct Connected<'a> {
    visitor: &'a Visitor<'a>,
    locals: &'a Locals,
}

impl<'a> Connected<'a> {
    pub(super) fn new(visitor: &'a Visitor<'a>, locals: &'a Locals) -> Connected<'a> {
        Connected { visitor, locals }
    }

    /// Which connection it is: the same as in its [requests](super::Request::connection).
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.visitor.connection
    }

    /// Who is there, as far as the system tells.
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        self.visitor.peer
    }

    /// What its application says of itself: see [`Request::peer_app`](super::Request::peer_app).
    #[must_use]
    pub fn app(&self) -> Option<&'a App> {
        self.visitor.app
    }

    /// The endpoint that the client connected to.
    #[must_use]
    pub fn endpoint(&self) -> &'a Endpoint {
        self.visitor.endpoint
    }

    /// The layout that the client speaks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.visitor.layout
    }

    /// Runs this with what the app keeps for this connection: see
    /// [`Request::with_data`](super::Request::with_data). When `on_disconnect` has returned, it is dropped.
    pub fn with_data<D: Any + Default + Send, R>(&self, run: impl FnOnce(&mut D) -> R) -> R {
        self.locals.with(self.id(), run)
    }
}

impl fmt::Debug for Connected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connected").field(self.visitor).finish()
    }
}

/// What the app keeps for each connection, of each type one.
#[derive(Default)]
pub(super) struct Locals(RefCell<HashMap<ConnectionId, Vec<Value>>>);

type Value = Box<dyn Any + Send>;

impl Locals {
    /// Runs this with the value of its type. What is not there yet is made.
    pub(super) fn with<D: Any + Default + Send, R>(
        &self,
        connection: ConnectionId,
        run: impl FnOnce(&mut D) -> R,
    ) -> R {
        let value = self.take::<D>(connection).unwrap_or_default();
        let mut lent = Lent { locals: self, connection, value: Some(value) };
        let Some(value) = &mut lent.value else { unreachable!("it is taken when this is dropped") };
        run(value)
    }

    fn take<D: Any>(&self, connection: ConnectionId) -> Option<Box<D>> {
        let mut all = self.0.borrow_mut();
        let own = all.get_mut(&connection)?;
        let at = own.iter().position(|value| value.is::<D>())?;
        own.swap_remove(at).downcast().ok()
    }

    /// The connection has gone.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.0.get_mut().remove(&connection);
    }
}

/// A value that is used right now, by a handler that may ask for others, or panic.
struct Lent<'l, D: Any + Send> {
    locals: &'l Locals,
    connection: ConnectionId,
    value: Option<Box<D>>,
}

impl<D: Any + Send> Drop for Lent<'_, D> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.locals.0.borrow_mut().entry(self.connection).or_default().push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::ConnectionId;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn each_connection_has_one_value_of_each_type_until_it_has_gone() {
        let (mut locals, [one, other]) = (Locals::default(), ConnectionId::two());
        locals.with(one, |count: &mut u32| {
            *count += 1;
            locals.with(one, |name: &mut String| name.push('x'));
            locals.with(other, |count: &mut u32| *count += 10);
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            locals.with(one, |count: &mut u32| {
                *count += 1;
                panic!("half-way");
            })
        }));
        assert!(panicked.is_err());
        let counts = |locals: &Locals| [one, other].map(|who| locals.with(who, |count: &mut u32| *count));
        assert_eq!(counts(&locals), [2, 10]);
        assert_eq!(locals.with(one, |name: &mut String| name.clone()), "x");
        locals.forget(one);
        assert_eq!(locals.0.get_mut().len(), 1);
        assert_eq!(counts(&locals), [0, 10]);
    }
}
