//! On which threads a server may run, and what handlers it can therefore take.
//!
//! A server that may be sent to another thread keeps handlers that may be, too; one that stays where it was
//! made needs no such promise. Boxes of the two are of different types, which is all that differs.

use super::{Connected, Reply, Request, StreamHandler};
use crate::reactor::{Closed, Message, MessageReply};
use sidewire_wire::Failure;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AnyThread {}
    impl Sealed for super::OneThread {}
}

/// On which threads a [`Server`](super::Server) may run: [`AnyThread`] or [`OneThread`].
pub trait Threads: sealed::Sealed {
    /// A handler of requests, boxed: the table is the one place where a request goes through a `dyn`.
    #[doc(hidden)]
    type Handler<S>: FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure>;
    /// A handler of new connections.
    #[doc(hidden)]
    type Connect<S>: FnMut(&mut S, &Connected<'_>);
    /// A handler of ended connections.
    #[doc(hidden)]
    type Disconnect<S>: FnMut(&mut S, &Connected<'_>, &Closed);
    /// A handler of streams without frames.
    #[doc(hidden)]
    type Streams<S>: StreamHandler<S>;
    /// A handler of datagrams without frames.
    #[doc(hidden)]
    type Messages<S>: FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>);
}

/// The server may be sent to another thread and run there, as [`spawn`](super::Server::spawn) does, so its
/// handlers are `Send`. What servers are unless told otherwise.
///
/// ```compile_fail,E0277
/// let asked = std::rc::Rc::new(());
/// sidewire::Server::new(()).on(1, move |(), _request, _reply| Ok(drop(asked.clone())));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyThread {}

/// The server runs on the thread that made it, so its handlers need not be `Send`:
/// [`ServerBuilder::one_thread`](super::ServerBuilder::one_thread). It can't be sent elsewhere:
///
/// ```compile_fail,E0599
/// let server = sidewire::Server::builder(()).one_thread().build()?;
/// let running = server.spawn()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum OneThread {}

impl Threads for AnyThread {
    type Handler<S> = Box<dyn FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + Send>;
    type Connect<S> = Box<dyn FnMut(&mut S, &Connected<'_>) + Send>;
    type Disconnect<S> = Box<dyn FnMut(&mut S, &Connected<'_>, &Closed) + Send>;
    type Streams<S> = Box<dyn StreamHandler<S> + Send>;
    type Messages<S> = Box<dyn FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>) + Send>;
}

impl Threads for OneThread {
    type Handler<S> = Box<dyn FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure>>;
    type Connect<S> = Box<dyn FnMut(&mut S, &Connected<'_>)>;
    type Disconnect<S> = Box<dyn FnMut(&mut S, &Connected<'_>, &Closed)>;
    type Streams<S> = Box<dyn StreamHandler<S>>;
    type Messages<S> = Box<dyn FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>)>;
}

/// A server on such threads can keep `F` as a handler of requests.
pub trait Handles<S, F>: Threads {
    #[doc(hidden)]
    fn handler(handler: F) -> Self::Handler<S>;
}

impl<S, F> Handles<S, F> for AnyThread
where
    F: FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + Send + 'static,
{
    fn handler(handler: F) -> Self::Handler<S> {
        Box::new(handler)
    }
}

impl<S, F> Handles<S, F> for OneThread
where
    F: FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + 'static,
{
    fn handler(handler: F) -> Self::Handler<S> {
        Box::new(handler)
    }
}

/// A server on such threads can keep `F` as a handler of new connections.
pub trait HandlesConnects<S, F>: Threads {
    #[doc(hidden)]
    fn connect(handler: F) -> Self::Connect<S>;
}

impl<S, F: FnMut(&mut S, &Connected<'_>) + Send + 'static> HandlesConnects<S, F> for AnyThread {
    fn connect(handler: F) -> Self::Connect<S> {
        Box::new(handler)
    }
}

impl<S, F: FnMut(&mut S, &Connected<'_>) + 'static> HandlesConnects<S, F> for OneThread {
    fn connect(handler: F) -> Self::Connect<S> {
        Box::new(handler)
    }
}

/// A server on such threads can keep `F` as a handler of ended connections.
pub trait HandlesDisconnects<S, F>: Threads {
    #[doc(hidden)]
    fn disconnect(handler: F) -> Self::Disconnect<S>;
}

impl<S, F: FnMut(&mut S, &Connected<'_>, &Closed) + Send + 'static> HandlesDisconnects<S, F> for AnyThread {
    fn disconnect(handler: F) -> Self::Disconnect<S> {
        Box::new(handler)
    }
}

impl<S, F: FnMut(&mut S, &Connected<'_>, &Closed) + 'static> HandlesDisconnects<S, F> for OneThread {
    fn disconnect(handler: F) -> Self::Disconnect<S> {
        Box::new(handler)
    }
}

/// A server on such threads can keep `H` as a handler of streams.
pub trait HandlesStreams<S, H>: Threads {
    #[doc(hidden)]
    fn streams(handler: H) -> Self::Streams<S>;
}

impl<S, H: StreamHandler<S> + Send + 'static> HandlesStreams<S, H> for AnyThread {
    fn streams(handler: H) -> Self::Streams<S> {
        Box::new(handler)
    }
}

impl<S, H: StreamHandler<S> + 'static> HandlesStreams<S, H> for OneThread {
    fn streams(handler: H) -> Self::Streams<S> {
        Box::new(handler)
    }
}

/// A server on such threads can keep `F` as a handler of messages.
pub trait HandlesMessages<S, F>: Threads {
    #[doc(hidden)]
    fn messages(handler: F) -> Self::Messages<S>;
}

impl<S, F> HandlesMessages<S, F> for AnyThread
where
    F: FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>) + Send + 'static,
{
    fn messages(handler: F) -> Self::Messages<S> {
        Box::new(handler)
    }
}

impl<S, F> HandlesMessages<S, F> for OneThread
where
    F: FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>) + 'static,
{
    fn messages(handler: F) -> Self::Messages<S> {
        Box::new(handler)
    }
}
