//! Messages and events that are Rust types, in a harness (features `harness` and `serde`).

use std::fmt;
use std::task::Poll;

use sidewire_platform::Endpoint;

use super::{Client, ClientBuilder, calls, events};
use crate::client::Response;
use crate::error::{Error, Result};
use crate::typed::asking::{answered, encoded};
use crate::typed::calls::{Item, UnderWay};
use crate::typed::serving::written;
use crate::typed::{self, AskError, Event, Message, Received, decode};

impl Client {
    /// Asks a message, and takes its answer: as [`Client::ask`](crate::Client::ask).
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use sidewire::Server;
    /// use sidewire::harness::Harness;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Add(i64);
    ///
    /// sidewire::messages! {
    ///     1 => Add -> i64;
    /// }
    ///
    /// let mut server = Server::new(40);
    /// server.serve::<Add>(|sum, Add(number)| {
    ///     *sum += number;
    ///     Ok(*sum)
    /// });
    ///
    /// let harness = Harness::new(server);
    /// let client = harness.connect();
    /// assert_eq!(client.ask(&Add(2))?, 42);
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask).
    pub fn ask<M: Message>(&self, message: &M) -> Result<M::Reply, AskError<M::Error>> {
        self.asking(message).send()
    }

    /// Begins a request with this message that is not to be waited for here.
    pub fn asking<'c, M: Message>(&'c self, message: &'c M) -> Asking<'c, M> {
        Asking { client: self, message }
    }

    /// Subscribes to an event: as [`Client::subscribe_to`](crate::Client::subscribe_to).
    ///
    /// # Errors
    /// As [`subscribe`](Client::subscribe).
    pub fn subscribe_to<E: Event>(&self) -> Result<Events<E>> {
        Ok(Events::of(self.subscribe(E::TYPE)?))
    }
}

impl ClientBuilder {
    /// Serves a message that the server asks: as [`on`](ClientBuilder::on), with values.
    pub fn serve<M: Message>(
        self,
        mut handler: impl FnMut(M) -> Result<M::Reply, M::Error> + 'static,
    ) -> ClientBuilder {
        self.answers(M::TYPE, move |payload| written::<M>(handler(decode::<M>(payload)?)))
    }
}

/// A message that is about to be asked; from [`Client::asking`].
#[must_use = "nothing happens before send(), start(), stream() or tell()"]
pub struct Asking<'c, M: Message> {
    client: &'c Client,
    message: &'c M,
}

impl<M: Message> Asking<'_, M> {
    /// Asks, and takes the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn send(self) -> Result<M::Reply, AskError<M::Error>> {
        answered::<M>(self.client.call(M::TYPE, self.encode()?))
    }

    /// Asks, to be waited for later.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn start(self) -> Result<Pending<M>> {
        let call = self.client.start(M::TYPE, self.encode()?)?;
        Ok(Pending::of(call))
    }

    /// Asks, to take the progress as it comes, and then the answer.
    ///
    /// # Errors
    /// As [`Client::stream`].
    pub fn stream(self) -> Result<Parts<M>> {
        let parts = self.client.stream(M::TYPE, self.encode()?)?;
        Ok(Parts::of(parts))
    }

    /// Tells the server this, and wants no answer.
    ///
    /// # Errors
    /// As [`Client::notify`].
    pub fn tell(self) -> Result<()> {
        self.client.notify(M::TYPE, self.encode()?)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let bytes = encoded(self.message);
        bytes.map_err(|why| Error::new("call", &self.client.at.stage().endpoint, why).of_type(M::TYPE))
    }
}

/// A message that was asked, to be waited for; from [`Asking::start`].
pub type Pending<M> = typed::Pending<M, calls::Pending>;

impl<M: Message> Pending<M> {
    /// What became of it, if that is known by now. No time passes.
    ///
    /// # Errors
    /// As [`wait`](Pending::wait).
    pub fn poll(&mut self) -> Option<Result<M::Reply, AskError<M::Error>>> {
        self.call.poll().map(answered::<M>)
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn wait(self) -> Result<M::Reply, AskError<M::Error>> {
        answered::<M>(self.call.wait())
    }
}

/// The progress of a message, and then its answer; from [`Asking::stream`]. As an iterator it waits for each, and ends
/// behind the answer, or behind an error. Dropped before its end it cancels the call.
pub type Parts<M> = typed::Parts<M, calls::Parts>;

impl<M: Message> Parts<M> {
    /// The next part, if it has come; `Ready(None)` behind the end. No time passes.
    pub fn poll(&mut self) -> Poll<Option<Item<M>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        parts.poll().map(|next| self.item(next))
    }
}

/// The events of one type, as they come; from [`Client::subscribe_to`]. Dropped, it unsubscribes. As an iterator it gives
/// those that have come by now; one that can't be read is an [error](Error::is_protocol) in its place.
pub type Events<E> = typed::Events<E, events::Events>;

impl<E: Event> Iterator for Events<E> {
    type Item = Result<Received<E>>;

    fn next(&mut self) -> Option<Result<Received<E>>> {
        self.events.next().map(Received::of)
    }
}

impl UnderWay for calls::Pending {
    fn endpoint(&self) -> Endpoint {
        self.endpoint()
    }

    fn cancel(&mut self) {
        self.cancel();
    }
}

impl UnderWay for calls::Parts {
    fn endpoint(&self) -> Endpoint {
        self.endpoint()
    }

    fn cancel(&mut self) {
        self.cancel();
    }

    fn response(&self) -> Option<&Response> {
        self.response()
    }
}

impl<M: Message> fmt::Debug for Asking<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asking").field(&M::NAME).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    use super::super::Harness;
    use super::*;
    use crate::server::Server;
    use crate::typed::Part;
    use sidewire_wire::{ResultCode, WhenSlow};

    #[derive(Serialize, Deserialize)]
    struct Halve(u32);

    #[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
    #[error("{0} is odd")]
    struct Odd(u32);

    impl crate::typed::Fault for Odd {}

    #[derive(Serialize, Deserialize)]
    struct CountTo(u32);

    #[derive(Serialize, Deserialize)]
    struct Name;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Halved(u32);

    crate::messages! {
        1 => Halve -> u32, error Odd;
        2 => CountTo -> String, progress u32;
        3 => Name -> String;
    }

    crate::events! {
        1 => Halved;
    }

    fn server() -> Server<Vec<String>> {
        let mut server = Server::new(Vec::new());
        server.publishes::<Halved>(WhenSlow::DropNewest);
        server.serve_with::<Halve>(|_names, Halve(number), request| {
            if number % 2 == 1 {
                return Err(Odd(number));
            }
            request.publish_event(&Halved(number / 2)).expect("it can be written");
            Ok(number / 2)
        });
        server.serve_later::<CountTo>(|_names, CountTo(end), _request, mut responder| {
            for number in 1..=end {
                responder.try_progress(number).expect("there is room");
            }
            responder.reply("done".into());
        });
        server
    }

    #[test]
    fn values_are_asked_and_told() {
        let harness = Harness::new(server());
        let client = harness.connect();
        let mut halved = client.subscribe_to::<Halved>().expect("a topic");
        assert_eq!(client.ask(&Halve(8)).expect("an answer"), 4);
        assert_eq!(client.ask(&Halve(3)).expect_err("an odd one").app(), Some(&Odd(3)));
        client.asking(&Halve(6)).tell().expect("told");
        let call = client.asking(&Halve(4)).start().expect("begun");
        assert_eq!(call.wait().expect("an answer"), 2);
        let told: Vec<u32> = halved.by_ref().map(|event| event.expect("an event").0).collect();
        assert_eq!(told, [4, 3, 2]);
        harness.publish(1, [0xff]).expect("published");
        assert!(halved.next().expect("something").expect_err("no event").is_protocol());
        let error = client.call(Halve::TYPE, "").expect_err("no message");
        assert_eq!(error.result_code(), Some(ResultCode::MALFORMED));
    }

    #[test]
    fn progress_comes_before_the_answer() {
        let harness = Harness::new(server());
        let client = harness.connect();
        let mut parts = client.asking(&CountTo(3)).stream().expect("begun");
        assert!(matches!(parts.poll(), Poll::Ready(Some(Ok(Part::Progress(1))))));
        let rest: Vec<_> = parts.by_ref().map(|part| part.expect("a part")).collect();
        assert_eq!(rest, [Part::Progress(2), Part::Progress(3), Part::Reply("done".into())]);
        assert!(parts.next().is_none() && matches!(parts.poll(), Poll::Ready(None)));
    }

    #[test]
    fn the_server_asks_with_values() {
        let harness = Harness::new(server());
        let client = harness.client().serve::<Name>(|Name| Ok("Ada".into())).connect().expect("a client");
        let peer = harness.remote().peer(harness.peers()[0].connection);
        let asked = peer.ask(&Name, Duration::from_secs(1), |names: &mut Vec<String>, name| {
            names.push(name.expect("an answer"));
        });
        asked.expect("asked");
        harness.settle();
        assert_eq!(*harness.state(), ["Ada"]);
        drop(client);
    }
}
