//! Answering in parts, from any thread.

use sidewire_platform::Attachment;

use super::{Cancellation, Responder};
use crate::reactor::{IfFull, Unsent};
use sidewire_wire::{Failure, ResultCode};

/// Answers one request in parts, from whichever thread: progress, rows, a download larger than a frame. From
/// [`Reply::stream`](super::Reply::stream).
///
/// ```
/// # let name = format!("local:parts-{}", std::process::id());
/// # let name = name.as_str();
/// use sidewire::{Client, Server};
///
/// let mut server = Server::new(());
/// server.on(1, |(), _request, reply| {
///     let mut stream = reply.stream()?;
///     std::thread::spawn(move || {
///         for percent in (0..=100).step_by(25) {
///             if stream.send(percent.to_string()).is_err() {
///                 return; // nobody waits for it any more
///             }
///         }
///         stream.reply("done");
///     });
///     Ok(())
/// });
/// server.listen(name)?;
/// let running = server.spawn()?;
/// let client = Client::connect(name)?;
/// let parts = client.stream(1, "")?;
/// let parts: Vec<_> = parts.collect::<sidewire::Result<_>>()?;
/// assert_eq!(parts, [&b"0"[..], b"25", b"50", b"75", b"100"]);
/// # running.stop()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
///
/// A caller that takes the parts slowly holds up this reply and nothing else: at most 256 KiB of parts, and one
/// more, wait here, and then as much as the caller has given credit for. (One of each reply only, as long as 64 MiB
/// of all of a server's wait.) The last word is said with
/// [`reply`](ReplyStream::reply), [`finish`](ReplyStream::finish) or [`fail`](ReplyStream::fail), behind all
/// parts, and never waits. A stream that is dropped answers "handler failed" (-10).
#[derive(Debug)]
#[must_use = "dropping it answers \"handler failed\""]
pub struct ReplyStream(Responder);

impl ReplyStream {
    pub(super) fn new(responder: Responder) -> ReplyStream {
        ReplyStream(responder)
    }

    /// Sends a part, and waits while as much as may wait does. On the server's own thread, which would be held
    /// up, it never waits: it says "full" at once, like [`try_send`](ReplyStream::try_send).
    ///
    /// # Errors
    /// What has become of it; [`Unsent::Unwanted`] once nobody waits for the reply any more.
    pub fn send(&mut self, part: impl Into<Vec<u8>>) -> Result<(), Unsent> {
        self.0.call().send_part(part.into(), IfFull::Wait)
    }

    /// Sends a part if it need not wait.
    ///
    /// # Errors
    /// As [`send`](ReplyStream::send); [`Unsent::Full`] if it would wait: [`on_ready`](ReplyStream::on_ready) tells when
    /// it is worth trying again.
    pub fn try_send(&mut self, part: impl AsRef<[u8]>) -> Result<(), Unsent> {
        self.0.call().send_part(part.as_ref().to_vec(), IfFull::Fail)
    }

    /// Has `callback` called, with this, once there is room for parts again, or nobody waits for them any more: on
    /// the server's thread, which it should not hold up. If the server ends meanwhile, it is dropped.
    ///
    /// ```
    /// use sidewire::{ReplyStream, Unsent};
    ///
    /// /// Counts without a thread.
    /// fn count(mut stream: ReplyStream, mut next: u64, last: u64) {
    ///     while next <= last {
    ///         match stream.try_send(next.to_string()) {
    ///             Ok(()) => next += 1,
    ///             Err(Unsent::Full) => return stream.on_ready(move |stream| count(stream, next, last)),
    ///             Err(_) => return,
    ///         }
    ///     }
    ///     stream.reply("");
    /// }
    ///
    /// # let mut server = sidewire::Server::new(());
    /// server.on(1, |(), _request, reply| {
    ///     count(reply.stream()?, 1, 1_000_000);
    ///     Ok(())
    /// });
    /// ```
    pub fn on_ready(self, callback: impl FnOnce(ReplyStream) + Send + 'static) {
        let call = self.0.call().clone();
        call.when_ready(Box::new(move || callback(self)));
    }

    /// Whether this client takes [attachments](ReplyStream::attach).
    #[must_use]
    pub fn can_attach(&self) -> bool {
        self.0.can_attach()
    }

    /// Has an open file, an end of a pipe or a socket go with the last word: see [`Responder::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(&mut self, attachment: impl Into<Attachment>) -> Result<(), Failure> {
        self.0.attach(attachment)
    }

    /// Ends the reply with this payload and the result code 0.
    pub fn reply(self, payload: impl Into<Vec<u8>>) {
        self.0.reply(payload);
    }

    /// The same with a result code.
    pub fn finish(self, rc: impl Into<ResultCode>, payload: impl Into<Vec<u8>>) {
        self.0.finish(rc, payload);
    }

    /// Ends it with why it could not be done. Parts that were sent stay sent.
    pub fn fail(self, failure: impl Into<Failure>) {
        self.0.fail(failure);
    }

    /// By what those who work on the request hear that nobody waits for it any more.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        self.0.cancellation()
    }
}
