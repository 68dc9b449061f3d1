//! Players of files of calls over our own clients: threads and tasks.

use std::collections::HashMap;
use std::path::Path;

use sidewire::{Access, Client, Connect, Endpoint, Error, Events, Failure, Parts, Pending, ResultCode};

use super::calls::{Ask, Outcome, Served, Step, read};
use crate::util::PATIENCE;

/// A client, for whoever waits for each thing in turn.
pub(crate) trait Library: Sized {
    type Pending;
    type Events;

    fn open(connect: Connect) -> Result<Self, Error>;
    fn call(&self, ask: &Ask) -> Result<Outcome, Error>;
    fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<(), Error>;
    fn start(&self, ask: &Ask) -> Result<Self::Pending, Error>;
    fn cancel(pending: &mut Self::Pending);
    fn wait(&self, pending: Self::Pending) -> Result<Outcome, Error>;
    fn parts(&self, ask: &Ask) -> (Vec<Vec<u8>>, Result<Outcome, Error>);
    fn subscribe(&self, topic: u16) -> Result<Self::Events, Error>;
    /// How many were dropped before it, and what it tells; `None`: nothing in time.
    fn next(&self, events: &mut Self::Events) -> Result<Option<(u32, Vec<u8>)>, Error>;
}

/// Plays a file, and says where something else came.
pub(crate) fn play<L: Library>(endpoint: &Endpoint, file: &Path) -> Result<(), String> {
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    let mut connect = Connect::to(endpoint).map_err(|error| error.to_string())?.access(access);
    let mut steps = read(file);
    let talking =
        steps.split_off(steps.iter().take_while(|(_, step)| matches!(step, Step::Serve(..))).count());
    for (_, step) in steps {
        let Step::Serve(msg_type, served) = step else { unreachable!("no other was taken") };
        connect = connect.on(msg_type, move |request, reply| match &served {
            Served::Upper => {
                reply.write(request.payload().to_ascii_uppercase());
                Ok(())
            }
            Served::Fail(rc, text) => Err(Failure::new(ResultCode::new(*rc), text)),
        });
    }
    let mut playing = Playing {
        library: L::open(connect).map_err(|error| error.to_string())?,
        started: HashMap::new(),
        events: HashMap::new(),
    };
    let name = file.file_name().unwrap_or_default().display();
    talking
        .into_iter()
        .try_for_each(|(line, step)| playing.step(step).map_err(|what| format!("{name}:{line}: {what}")))
}

struct Playing<L: Library> {
    library: L,
    started: HashMap<String, L::Pending>,
    events: HashMap<u16, L::Events>,
}

impl<L: Library> Playing<L> {
    fn step(&mut self, step: Step) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        match step {
            Step::Serve(..) => return Err("too late to serve".into()),
            Step::Call(ask, expected) => expected.check(&told(self.library.call(&ask))?)?,
            Step::Notify(msg_type, payload) => self.library.notify(msg_type, &payload).map_err(text)?,
            Step::Start(name, ask) => {
                drop(self.started.insert(name, self.library.start(&ask).map_err(text)?))
            }
            Step::Cancel(name) => L::cancel(self.started.get_mut(&name).ok_or("no such call")?),
            Step::Wait(name, expected) => {
                let pending = self.started.remove(&name).ok_or("no such call")?;
                expected.check(&told(self.library.wait(pending))?)?;
            }
            Step::Parts(ask, expected, last) => {
                let (parts, outcome) = self.library.parts(&ask);
                if parts != expected {
                    return Err(format!("{} parts: {parts:?}", parts.len()));
                }
                last.check(&told(outcome)?)?;
            }
            Step::Subscribe(topic, expected) => {
                let outcome = self.library.subscribe(topic);
                expected.check(&told(outcome.map(|events| {
                    self.events.insert(topic, events);
                    (0, Vec::new())
                }))?)?;
            }
            Step::Unsubscribe(topic) => drop(self.events.remove(&topic).ok_or("no such topic")?),
            Step::Event(topic, expected) => {
                let events = self.events.get_mut(&topic).ok_or("no such topic")?;
                let event = self.library.next(events).map_err(text)?;
                if event != Some((0, expected)) {
                    return Err(format!("{event:?}"));
                }
            }
        }
        Ok(())
    }
}

/// What the library tells as an error of its own counts as the code of the same meaning.
fn told(outcome: Result<Outcome, Error>) -> Result<Outcome, String> {
    outcome.or_else(|error| match error.result_code() {
        Some(rc) => Ok((rc.code(), error.payload().to_vec())),
        None if error.is_timeout() => Ok((ResultCode::TIMED_OUT.code(), Vec::new())),
        None => Err(error.to_string()),
    })
}

fn outcome(response: &sidewire::Response) -> Outcome {
    (response.result_code().code(), response.payload().to_vec())
}

impl Library for Client {
    type Pending = Pending;
    type Events = Events;

    fn open(connect: Connect) -> Result<Client, Error> {
        connect.open()
    }

    fn call(&self, ask: &Ask) -> Result<Outcome, Error> {
        self.request(ask.msg_type)
            .timeout(ask.timeout)
            .exchange(&ask.payload)
            .map(|response| outcome(&response))
    }

    fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<(), Error> {
        Client::notify(self, msg_type, payload)
    }

    fn start(&self, ask: &Ask) -> Result<Pending, Error> {
        let pending = self.request(ask.msg_type).timeout(ask.timeout).start(&ask.payload)?;
        self.flush().map(|()| pending)
    }

    fn cancel(pending: &mut Pending) {
        pending.cancel();
    }

    fn wait(&self, pending: Pending) -> Result<Outcome, Error> {
        pending.wait().map(|response| outcome(&response))
    }

    fn parts(&self, ask: &Ask) -> (Vec<Vec<u8>>, Result<Outcome, Error>) {
        let mut taken = Vec::new();
        let end =
            self.request(ask.msg_type).timeout(ask.timeout).stream(&ask.payload).and_then(|mut parts| {
                for part in parts.by_ref() {
                    taken.push(part?);
                }
                Ok(Parts::response(&parts).map(outcome).expect("it has ended well"))
            });
        (taken, end)
    }

    fn subscribe(&self, topic: u16) -> Result<Events, Error> {
        Client::subscribe(self, topic)
    }

    fn next(&self, events: &mut Events) -> Result<Option<(u32, Vec<u8>)>, Error> {
        let event = events.next_timeout(PATIENCE)?;
        Ok(event.map(|event| (event.dropped(), event.into_payload())))
    }
}

#[cfg(feature = "tokio")]
pub(crate) use tasks::Tasks;

#[cfg(feature = "tokio")]
mod tasks {
    use super::{Ask, Connect, Error, Library, Outcome, PATIENCE, outcome};
    use sidewire::tokio as library;
    use tokio::runtime::Runtime;

    /// The client for tasks, with the runtime that they need.
    pub(crate) struct Tasks {
        client: library::Client,
        runtime: Runtime,
    }

    impl Library for Tasks {
        type Pending = library::Pending;
        type Events = library::Events;

        fn open(connect: Connect) -> Result<Tasks, Error> {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let client = runtime.block_on(connect.open_async())?;
            Ok(Tasks { client, runtime })
        }

        fn call(&self, ask: &Ask) -> Result<Outcome, Error> {
            let request = self.client.request(ask.msg_type).timeout(ask.timeout);
            self.runtime.block_on(request.exchange(&ask.payload)).map(|response| outcome(&response))
        }

        fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<(), Error> {
            self.runtime.block_on(self.client.notify(msg_type, payload))
        }

        fn start(&self, ask: &Ask) -> Result<library::Pending, Error> {
            let request = self.client.request(ask.msg_type).timeout(ask.timeout);
            self.runtime.block_on(request.start(&ask.payload))
        }

        fn cancel(pending: &mut library::Pending) {
            pending.cancel();
        }

        fn wait(&self, pending: library::Pending) -> Result<Outcome, Error> {
            self.runtime.block_on(pending).map(|response| outcome(&response))
        }

        fn parts(&self, ask: &Ask) -> (Vec<Vec<u8>>, Result<Outcome, Error>) {
            let mut taken = Vec::new();
            let end = self.runtime.block_on(async {
                let request = self.client.request(ask.msg_type).timeout(ask.timeout);
                let mut parts = request.stream(&ask.payload).await?;
                while let Some(part) = parts.next().await {
                    taken.push(part?);
                }
                Ok(parts.response().map(outcome).expect("it has ended well"))
            });
            (taken, end)
        }

        fn subscribe(&self, topic: u16) -> Result<library::Events, Error> {
            self.runtime.block_on(self.client.subscribe(topic))
        }

        fn next(&self, events: &mut library::Events) -> Result<Option<(u32, Vec<u8>)>, Error> {
            match self.runtime.block_on(async { tokio::time::timeout(PATIENCE, events.next()).await }) {
                Ok(Some(event)) => event.map(|event| Some((event.dropped(), event.into_payload()))),
                Ok(None) | Err(_) => Ok(None),
            }
        }
    }
}
