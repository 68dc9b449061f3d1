//! The two clients, for threads and for tasks, as one: what a test asks of either of them.

use std::sync::Arc;
use std::time::Duration;

use sidewire::{Client, Connect, Event, Events, Parts, Pending, Response, Result};

/// How a client is driven.
pub(crate) enum Driver {
    /// By threads that block.
    Threads,
    /// By tasks, of this runtime.
    #[cfg(feature = "tokio")]
    Tasks(&'static str, Arc<tokio::runtime::Runtime>),
}

impl Driver {
    pub(crate) fn all() -> Vec<Driver> {
        #[allow(unused_mut, reason = "there may be no others")]
        let mut drivers = vec![Driver::Threads];
        #[cfg(feature = "tokio")]
        for (name, runtime) in
            ["tasks on one thread", "tasks on two threads"].into_iter().zip(crate::tasks::runtimes())
        {
            drivers.push(Driver::Tasks(name, Arc::new(runtime)));
        }
        drivers
    }

    fn name(&self) -> &'static str {
        match self {
            Driver::Threads => "threads",
            #[cfg(feature = "tokio")]
            Driver::Tasks(name, _) => name,
        }
    }

    pub(crate) fn open(&self, connect: Connect) -> Result<Box<dyn Talks>> {
        match self {
            Driver::Threads => Ok(Box::new(Arc::new(connect.open()?))),
            #[cfg(feature = "tokio")]
            Driver::Tasks(_, runtime) => {
                let client = Arc::new(runtime.block_on(connect.open_async())?);
                Ok(Box::new(tasks::Tasks { runtime: Arc::clone(runtime), client }))
            }
        }
    }
}

/// Runs a test with each of them.
pub(crate) fn with_each(test: impl Fn(&Driver)) {
    for driver in Driver::all() {
        eprintln!("driven by {}", driver.name());
        where_reads_complete(|| test(&driver));
    }
}

/// Wine tells a thread that a pipe's read is complete before it has noted so itself, if another thread began it: error
/// 996 (`ERROR_IO_INCOMPLETE`), rarely, in any program on Tokio. Windows notes first. What failed by this is done again.
pub(crate) fn where_reads_complete(test: impl Fn()) {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering};

    static HOOK: Once = Once::new();
    static IS_WINES: AtomicBool = AtomicBool::new(false);
    if !cfg!(windows) {
        return test();
    }
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            IS_WINES.fetch_or(info.to_string().contains("os error 996"), Ordering::SeqCst);
            before(info);
        }));
    });
    for _ in 0..10 {
        match catch_unwind(AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(_) if IS_WINES.swap(false, Ordering::SeqCst) => eprintln!("once more"),
            Err(failure) => resume_unwind(failure),
        }
    }
    test();
}

/// What a request is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub timeout: Duration,
    pub is_safe: bool,
}

impl Default for How {
    fn default() -> How {
        How { timeout: Duration::from_secs(60), is_safe: false }
    }
}

pub(crate) const SAFE: How = How { timeout: Duration::from_secs(60), is_safe: true };

pub(crate) fn within(timeout: Duration) -> How {
    How { timeout, is_safe: false }
}

/// A client.
pub(crate) trait Talks: Send + Sync {
    fn exchange(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Response>;
    fn send(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Response>;
    fn start(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Box<dyn Started>>;
    fn stream(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Box<dyn Streamed>>;
    fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<()>;
    fn subscribe(&self, topic: u16) -> Result<Box<dyn Listens>>;
    fn ping(&self, timeout: Duration) -> Result<Duration>;
    fn flush(&self) -> Result<()>;
    fn close(&self);
    fn is_closed(&self) -> bool;
    /// Handles what the server asks, from now on.
    fn handle(&self);

    fn call(&self, msg_type: u16, payload: &[u8]) -> Result<Response> {
        self.send(msg_type, payload, How::default())
    }
}

/// A call that was started.
pub(crate) trait Started: Send {
    fn wait(self: Box<Self>) -> Result<Response>;
    fn cancel(&mut self);
}

/// A reply in parts.
pub(crate) trait Streamed {
    fn next(&mut self) -> Option<Result<Vec<u8>>>;
    fn response(&self) -> Option<Vec<u8>>;
    fn cancel(&mut self);
}

/// Topics.
pub(crate) trait Listens: Send {
    fn add(&mut self, topic: u16) -> Result<()>;
    fn next(&mut self) -> Option<Result<Event>>;
    fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>>;
}

impl Talks for Arc<Client> {
    fn exchange(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Response> {
        asking(self, msg_type, how).exchange(payload)
    }

    fn send(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Response> {
        asking(self, msg_type, how).send(payload)
    }

    fn start(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Box<dyn Started>> {
        Ok(Box::new(asking(self, msg_type, how).start(payload)?))
    }

    fn stream(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Box<dyn Streamed>> {
        Ok(Box::new(asking(self, msg_type, how).stream(payload)?))
    }

    fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<()> {
        Client::notify(self, msg_type, payload)
    }

    fn subscribe(&self, topic: u16) -> Result<Box<dyn Listens>> {
        Ok(Box::new(Client::subscribe(self, topic)?))
    }

    fn ping(&self, timeout: Duration) -> Result<Duration> {
        Client::ping(self, timeout)
    }

    fn flush(&self) -> Result<()> {
        Client::flush(self)
    }

    fn close(&self) {
        Client::close(self);
    }

    fn is_closed(&self) -> bool {
        Client::is_closed(self)
    }

    fn handle(&self) {
        self.spawn_reader().expect("a reader");
    }
}

fn asking(client: &Client, msg_type: u16, how: How) -> sidewire::RequestBuilder<'_> {
    let request = client.request(msg_type).timeout(how.timeout);
    if how.is_safe { request.idempotent() } else { request }
}

impl Started for Pending {
    fn wait(self: Box<Self>) -> Result<Response> {
        Pending::wait(*self)
    }

    fn cancel(&mut self) {
        Pending::cancel(self);
    }
}

impl Streamed for Parts {
    fn next(&mut self) -> Option<Result<Vec<u8>>> {
        Iterator::next(self)
    }

    fn response(&self) -> Option<Vec<u8>> {
        Parts::response(self).map(|response| response.payload().to_vec())
    }

    fn cancel(&mut self) {
        Parts::cancel(self);
    }
}

impl Listens for Events {
    fn add(&mut self, topic: u16) -> Result<()> {
        Events::add(self, topic)
    }

    fn next(&mut self) -> Option<Result<Event>> {
        Iterator::next(self)
    }

    fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>> {
        self.next_timeout(timeout)
    }
}

#[cfg(feature = "tokio")]
mod tasks {
    use std::sync::Arc;
    use std::time::Duration;

    use sidewire::tokio::{Client, Events, Parts, Pending, RequestBuilder};
    use sidewire::{Event, Response, Result};
    use tokio::runtime::Runtime;

    use super::{How, Listens, Started, Streamed, Talks};

    pub(super) struct Tasks {
        pub(super) runtime: Arc<Runtime>,
        pub(super) client: Arc<Client>,
    }

    /// Something that is waited for in a runtime.
    struct In<T>(Arc<Runtime>, T);

    impl Tasks {
        fn asking(&self, msg_type: u16, how: How) -> RequestBuilder<'_> {
            let request = self.client.request(msg_type).timeout(how.timeout);
            if how.is_safe { request.idempotent() } else { request }
        }

        fn inside<T>(&self, it: T) -> In<T> {
            In(Arc::clone(&self.runtime), it)
        }
    }

    impl Talks for Tasks {
        fn exchange(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Response> {
            self.runtime.block_on(self.asking(msg_type, how).exchange(payload))
        }

        fn send(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Response> {
            self.runtime.block_on(self.asking(msg_type, how).send(payload))
        }

        fn start(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Box<dyn Started>> {
            Ok(Box::new(self.inside(self.runtime.block_on(self.asking(msg_type, how).start(payload))?)))
        }

        fn stream(&self, msg_type: u16, payload: &[u8], how: How) -> Result<Box<dyn Streamed>> {
            Ok(Box::new(self.inside(self.runtime.block_on(self.asking(msg_type, how).stream(payload))?)))
        }

        fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<()> {
            self.runtime.block_on(self.client.notify(msg_type, payload))
        }

        fn subscribe(&self, topic: u16) -> Result<Box<dyn Listens>> {
            Ok(Box::new(self.inside(self.runtime.block_on(self.client.subscribe(topic))?)))
        }

        fn ping(&self, timeout: Duration) -> Result<Duration> {
            self.runtime.block_on(self.client.ping(timeout))
        }

        fn flush(&self) -> Result<()> {
            self.runtime.block_on(self.client.flush())
        }

        fn close(&self) {
            self.client.close();
        }

        fn is_closed(&self) -> bool {
            self.client.is_closed()
        }

        /// In a thread, since a runtime of one thread runs its tasks only while somebody waits in it.
        fn handle(&self) {
            let (runtime, client) = (Arc::clone(&self.runtime), Arc::downgrade(&self.client));
            std::thread::spawn(move || {
                let Some(client) = client.upgrade() else { return };
                let _ = runtime.block_on(client.run());
            });
        }
    }

    /// As a reader's thread does not, the one above has a share in its client.
    impl Drop for Tasks {
        fn drop(&mut self) {
            self.client.close();
        }
    }

    impl Started for In<Pending> {
        fn wait(self: Box<Self>) -> Result<Response> {
            self.0.block_on(self.1)
        }

        fn cancel(&mut self) {
            self.1.cancel();
        }
    }

    impl Streamed for In<Parts> {
        fn next(&mut self) -> Option<Result<Vec<u8>>> {
            self.0.block_on(self.1.next())
        }

        fn response(&self) -> Option<Vec<u8>> {
            self.1.response().map(|response| response.payload().to_vec())
        }

        fn cancel(&mut self) {
            self.1.cancel();
        }
    }

    impl Listens for In<Events> {
        fn add(&mut self, topic: u16) -> Result<()> {
            self.0.block_on(self.1.add(topic))
        }

        fn next(&mut self) -> Option<Result<Event>> {
            self.0.block_on(self.1.next())
        }

        fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>> {
            self.0.block_on(async {
                match tokio::time::timeout(timeout, self.1.next()).await {
                    Ok(Some(event)) => event.map(Some),
                    Ok(None) | Err(_) => Ok(None),
                }
            })
        }
    }
}
