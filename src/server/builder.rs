//! How a server is made.

use std::marker::PhantomData;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::{DEFAULT_TYPES, Limits, MAX_TYPES};

use sidewire_wire::{App, Task, Tasks};

use super::recording::Keeping;
use super::{AnyThread, OneThread, Server, Threads};

/// A server that is to have other than the usual options: from [`Server::builder`].
///
/// ```
/// use sidewire::{Limits, Server};
///
/// let mut limits = Limits::default();
/// limits.listener.max_connections = 16;
/// let server = Server::builder(String::new()).types(1024).limits(limits).build()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "there is no server before build()"]
pub struct ServerBuilder<S, T = AnyThread> {
    state: S,
    types: usize,
    limits: Limits,
    app: Option<App>,
    grants: Tasks,
    gives_way: Option<Duration>,
    keeping: Keeping,
    threads: PhantomData<T>,
}

impl<S> ServerBuilder<S> {
    pub(super) fn new(state: S) -> ServerBuilder<S> {
        ServerBuilder {
            state,
            types: DEFAULT_TYPES,
            limits: Limits::default(),
            app: None,
            grants: Tasks::default(),
            gives_way: None,
            keeping: Keeping::default(),
            threads: PhantomData,
        }
    }

    /// The server stays on the thread that makes it: its handlers need not be `Send`, and it has no
    /// [`spawn`](Server::spawn).
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use sidewire::Server;
    ///
    /// let asked = Rc::new(Cell::new(0));
    /// let mut server = Server::builder(()).one_thread().build()?;
    /// let count = Rc::clone(&asked);
    /// server.on(1, move |(), _request, _reply| {
    ///     count.set(count.get() + 1);
    ///     Ok(())
    /// });
    /// # server.remote()?.stop()?;
    /// server.run()?; // or turn(), in the loop of a user interface
    /// println!("asked {} times", asked.get());
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// What others ask of it, such as to stop, still comes from any thread: [`Server::remote`].
    pub fn one_thread(self) -> ServerBuilder<S, OneThread> {
        let ServerBuilder { state, types, limits, app, grants, gives_way, keeping, .. } = self;
        ServerBuilder { state, types, limits, app, grants, gives_way, keeping, threads: PhantomData }
    }
}

impl<S, T: Threads> ServerBuilder<S, T> {
    /// How many types the dispatch table has: 0 to `types - 1`. Default 256, at most 65,536.
    pub fn types(mut self, types: usize) -> ServerBuilder<S, T> {
        self.types = types;
        self
    }

    /// Other limits than the default ones.
    pub fn limits(mut self, limits: Limits) -> ServerBuilder<S, T> {
        self.limits = limits;
        self
    }

    /// What the server's hellos say of the application: see [`App`]. Clients read it with
    /// [`Client::peer_app`](crate::Client::peer_app); strangers, who are refused, are not told.
    pub fn app(mut self, app: App) -> ServerBuilder<S, T> {
        self.app = Some(app);
        self
    }

    /// Lets programs of the server's own user ask it to stop, through an endpoint that it has opened: `sidewire stop`
    /// does, before an installer replaces the program's file. It then stops as by [`Remote::stop`](super::Remote::stop).
    ///
    /// Whatever the [`Access`](crate::Access) of a listener, nobody else may: no other user (root and SYSTEM may), on
    /// Windows no process of lower integrity, and nobody on TCP, where the system does not say who is there; nor on a
    /// connection that the program was [given](super::Server::serve_stream) or inherited.
    pub fn may_be_stopped(mut self) -> ServerBuilder<S, T> {
        self.grants = self.grants.and(Task::Stop);
        self
    }

    /// Has the server give way to a newer one, which [takes its endpoint over](super::Listen::take_over): one of the same
    /// [app](ServerBuilder::app), by name, with the same version or a newer one
    /// ([`App::compare_version`] says which is), of the same user, by the rules of
    /// [`may_be_stopped`](ServerBuilder::may_be_stopped). What the two say of themselves nobody proves.
    ///
    /// The server then ends as by [`Remote::stop`](super::Remote::stop), with all its endpoints, and
    /// [`run`](Server::run) returns; but who comes to that endpoint is the newer one's, and what was accepted may take
    /// until `grace` is over. Clients are told which of their calls were accepted; those that
    /// [reconnect](crate::Connect::reconnect) go on with the newer server, and send it what was not.
    ///
    /// A server whose socket was [given to it](super::Listen::adopt), as by a service manager, does not give way.
    ///
    /// # Platform-specific behavior
    /// See [`Listen::take_over`](super::Listen::take_over). On Windows the older server's pipe instances are there
    /// until its last client has gone, or `grace` is over; that is in nobody's way.
    pub fn gives_way(mut self, grace: Duration) -> ServerBuilder<S, T> {
        self.grants = self.grants.and(Task::Handover);
        self.gives_way = Some(grace);
        self
    }

    /// Puts nothing into the file system by which others could see what the server does, or did when it died: its
    /// [recorder](crate::recorder) has memory of the process only. Of use to nobody but who wants no such file; it costs nothing else.
    pub fn without_recording(mut self) -> ServerBuilder<S, T> {
        self.keeping = Keeping::Never;
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input) if the table has more types than a `u16` can name, or
    /// limits contradict each other, or the app's name is longer than a hello takes.
    pub fn build(self) -> Result<Server<S, T>> {
        let ServerBuilder { state, types, limits, app, grants, gives_way, keeping, .. } = self;
        if types > MAX_TYPES {
            let text = format!("a dispatch table has at most {MAX_TYPES} types, not {types}");
            return Err(Error::invalid("set up a server", &text));
        }
        let contradicts = |contradiction| Error::invalid("set up a server", &format!("{contradiction}"));
        limits.check().map_err(contradicts)?;
        app.iter().try_for_each(App::check).map_err(contradicts)?;
        if gives_way.is_some() && app.as_ref().is_none_or(|app| app.name().is_empty()) {
            let text = "a server that gives way to a newer one says of which app it is: ServerBuilder::app";
            return Err(Error::invalid("set up a server", text));
        }
        let mut server = Server::assemble(state, types, limits);
        server.app = app;
        (server.grants, server.gives_way, server.keeping) = (grants, gives_way, keeping);
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_so_many_types() {
        let types = |builder: ServerBuilder<()>| builder.build().map(|server| server.dispatch.table.len());
        assert_eq!(types(Server::builder(())).expect("the default"), 256);
        assert_eq!(types(Server::builder(()).types(65_536)).expect("as many as a u16 can name"), 65_536);
        let error = types(Server::builder(()).types(65_537)).expect_err("one more");
        assert!(error.is_invalid_input(), "{error}");
    }
}
