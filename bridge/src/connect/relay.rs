//! What every handler of the local server does: it asks the broker.

use std::sync::Arc;

use bytes::Bytes;
use sidewire::{Failure, Layout, Reply, Request, ResultCode};

use super::answering::Answering;
use super::calls::{AHEAD, Calls};
use crate::broker::{self, Broker, Unsent};
use crate::message::{CREDIT, Headers, Subjects, TIMEOUT};

#[derive(Debug)]
pub(super) struct Relay {
    broker: Broker,
    subjects: Subjects,
    calls: Arc<Calls>,
    app: String,
}

impl Relay {
    pub(super) fn new(broker: Broker, subjects: Subjects, calls: Arc<Calls>, app: String) -> Relay {
        Relay { broker, subjects, calls, app }
    }

    /// Sends a request on its way, to be answered when its reply comes.
    ///
    /// # Errors
    /// It was not sent, so nobody executes it.
    pub(super) fn ask(&self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Failure> {
        let mut headers = Headers::none().with_app(request.peer_app());
        if let Some(timeout) = request.timeout() {
            headers = headers.with(TIMEOUT, timeout.as_millis());
        }
        let answering = match request.layout() {
            Layout::V1 => match reply.stream() {
                Ok(stream) => Answering::Parts(stream),
                // Of all that comes over a connection in this layout, only notifies have no parts.
                Err(failure) if failure.result_code() == ResultCode::FEATURE_MISSING => {
                    return self.send(request, headers, None);
                }
                Err(failure) => return Err(failure),
            },
            _ => Answering::Whole(reply.defer()?),
        };
        let takes_parts = matches!(answering, Answering::Parts(_));
        headers = headers.with(CREDIT, if takes_parts { AHEAD } else { 0 });
        let cancellation = answering.cancellation();
        let id = self.calls.begin(answering, request.payload().len())?;
        if let Err(failure) = self.send(request, headers, Some(self.calls.subject(id))) {
            self.calls.forget(id);
            return Err(failure);
        }
        let calls = Arc::clone(&self.calls);
        cancellation.on_cancel(move |_| calls.unwanted(id));
        Ok(())
    }

    fn send(&self, request: &Request<'_>, headers: Headers, reply: Option<String>) -> Result<(), Failure> {
        let subject = self.subjects.call(request.msg_type());
        let payload = request.to_vec()?;
        let mut message = broker::message(&subject, headers, Bytes::from(payload));
        message.reply = reply.map(Into::into);
        self.broker.send_now(message).map_err(|why| self.refusal(why, request.payload().len()))
    }

    fn refusal(&self, why: Unsent, length: usize) -> Failure {
        let name = &self.broker.name;
        match why {
            Unsent::TooLarge(limit) => Failure::new(
                ResultCode::TOO_LARGE,
                format!(
                    "{length} bytes and their headers are more than the {limit} bytes that {name} takes; not executed"
                ),
            ),
            Unsent::Away => Failure::new(
                ResultCode::BUSY,
                format!("there is no connection to {name}, over which {} is served; not executed", self.app),
            ),
            Unsent::Full => Failure::new(
                ResultCode::BUSY,
                format!("too much waits for {name}, over which {} is served; not executed", self.app),
            ),
        }
    }
}
