//! What every handler of the local server does: it asks the broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use async_nats::message::OutboundMessage;
use bytes::Bytes;
use sidewire::{App, Failure, Layout, Reply, Request, ResultCode};

use super::answering::Answering;
use super::calls::{AHEAD, Calls};
use crate::broker::{Broker, Unsent};
use crate::message::{CREDIT, Headers, Subjects, TIMEOUT};

#[derive(Debug)]
pub(super) struct Relay {
    broker: Broker,
    subjects: Subjects,
    calls: Arc<Calls>,
    app: String,
    last: Mutex<Option<(Terms, Headers)>>,
}

/// What a call says besides its payload. Of most it is what the one before has said, and copying headers costs less than
/// making them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    app: Option<App>,
    timeout: Option<Duration>,
    /// `None`: it is a notify.
    credit: Option<u32>,
}

impl Relay {
    pub(super) fn new(broker: Broker, subjects: Subjects, calls: Arc<Calls>, app: String) -> Relay {
        Relay { broker, subjects, calls, app, last: Mutex::default() }
    }

    /// Where calls of this type go.
    pub(super) fn subject(&self, msg_type: u16) -> Subject {
        self.subjects.call(msg_type).into()
    }

    /// Sends a request on its way, to be answered when its reply comes.
    ///
    /// # Errors
    /// It was not sent, so nobody executes it.
    pub(super) fn ask(
        &self,
        subject: &Subject,
        request: &Request<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Failure> {
        let answering = match request.layout() {
            Layout::V1 => match reply.stream() {
                Ok(stream) => Answering::Parts(stream),
                // Of all that comes over a connection in this layout, only notifies have no parts.
                Err(failure) if failure.result_code() == ResultCode::FEATURE_MISSING => {
                    return self.send(subject, request, None, None);
                }
                Err(failure) => return Err(failure),
            },
            _ => Answering::Whole(reply.defer()?),
        };
        let takes_parts = matches!(answering, Answering::Parts(_));
        let credit = if takes_parts { AHEAD } else { 0 };
        let cancellation = answering.cancellation();
        let id = self.calls.begin(answering, request.payload().len())?;
        if let Err(failure) = self.send(subject, request, Some(credit), Some(self.calls.subject(id))) {
            self.calls.forget(id);
            return Err(failure);
        }
        let calls = Arc::clone(&self.calls);
        cancellation.on_cancel(move |_| calls.unwanted(id));
        Ok(())
    }

    fn send(
        &self,
        subject: &Subject,
        request: &Request<'_>,
        credit: Option<u32>,
        reply: Option<String>,
    ) -> Result<(), Failure> {
        let payload = Bytes::from(request.to_vec()?);
        let headers = self.headers(request, credit).into_map();
        let message =
            OutboundMessage { subject: subject.clone(), reply: reply.map(Into::into), headers, payload };
        self.broker.send_now(message).map_err(|why| self.refusal(why, request.payload().len()))
    }

    fn headers(&self, request: &Request<'_>, credit: Option<u32>) -> Headers {
        let (app, timeout) = (request.peer_app(), request.timeout());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((terms, headers)) = &*last
            && (terms.app.as_ref(), terms.timeout, terms.credit) == (app, timeout, credit)
        {
            return headers.clone();
        }
        let mut headers = Headers::none().with_app(app);
        if let Some(timeout) = timeout {
            headers = headers.with(TIMEOUT, timeout.as_millis());
        }
        if let Some(credit) = credit {
            headers = headers.with(CREDIT, credit);
        }
        *last = Some((Terms { app: app.cloned(), timeout, credit }, headers.clone()));
        headers
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
