//! From what a peer has sent to whoever handles it.

use std::time::Duration;

use sidewire_platform::Peer;

use super::super::aside::Aside;
use super::super::asking::{Asker, Attaching, ReturnAddress};
use super::super::budget::Budget;
use super::super::deferred::{Caller, Deferred};
use super::super::journal::Handled;
use super::super::source::Source;
use super::super::system::{StreamIo, System};
use super::super::topics::Topics;
use super::about::About;
use super::{ConnectionId, Incoming, Origin, PeerName, Scope, Service};
use crate::attached::HOW;
use crate::reactor::{CallNews, Visitor, Way};
use crate::recorder::RecordKind;
use sidewire_wire::{
    App, Attachments, Connection, Event, Layout, ProtocolError, Recipient, ResultCode, Ticket, part_cost,
};

/// Whose it is, and where is kept what comes of it.
pub(super) struct Books<'a, Y: System> {
    pub(super) peer: &'a Peer,
    pub(super) stream: &'a Y::Stream,
    pub(super) system: &'a Y,
    /// Where it has come in.
    pub(super) at: &'a Source<Y>,
    pub(super) about: &'a mut Option<Box<About>>,
    /// Whether a handler was told of the connection.
    pub(super) opened: &'a mut bool,
    pub(super) deferred: &'a mut Deferred,
    pub(super) topics: &'a mut Topics,
    pub(super) budget: &'a Budget<'a, Y>,
}

/// What a framed peer has sent, on its way to the service.
pub(super) struct Handing<'a, Y: System, S> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) books: Books<'a, Y>,
    pub(super) service: &'a mut S,
}

impl<Y: System, S: Service> Recipient for Handing<'_, Y, S> {
    #[inline(always)]
    fn request(&mut self, connection: &mut Connection, ticket: Ticket, payload: &[u8]) {
        let Handing { scope, books, service } = self;
        if scope.hand_over_request(books, connection, ticket, payload, *service) {
            books.budget.handled();
        }
    }

    #[cold]
    fn event(&mut self, connection: &mut Connection, event: Event<'_>) {
        let Handing { scope, books, service } = self;
        if scope.hand_over(books, connection, event, *service) {
            books.budget.handled();
        }
    }
}

impl Scope<'_> {
    /// Hands something that a framed peer has sent to the service. Says whether that was for a handler.
    fn hand_over<Y: System>(
        &self,
        books: &mut Books<'_, Y>,
        connection: &mut Connection,
        event: Event<'_>,
        service: &mut impl Service,
    ) -> bool {
        match event {
            Event::Request { ticket, payload } => {
                self.hand_over_request(books, connection, ticket, payload, service)
            }
            Event::Notify { msg_type, payload } => {
                let asker = Asker { site: self.site, peer: PeerName(Some(books.peer)) };
                let back = ReturnAddress::nobody(self.mailbox, payload).asked_by(asker);
                let incoming = self.incoming(books, i32::from(msg_type), Layout::V1, payload, back);
                let handled = Handled::begin(0);
                let (kind, recorder) = (RecordKind::Notify, books.budget.recorder());
                let record = recorder.begin(kind, incoming.msg_type, 0, payload.len());
                service.notify(&incoming);
                record.end();
                handled.end_notify(&incoming, format_args!("#{}", self.key));
                true
            }
            other => self.hand_over_other(books, connection, other, service),
        }
    }

    /// The same of a request.
    #[inline(always)]
    fn hand_over_request<Y: System>(
        &self,
        books: &mut Books<'_, Y>,
        connection: &mut Connection,
        ticket: Ticket,
        payload: &[u8],
        service: &mut impl Service,
    ) -> bool {
        let key = self.key;
        if ticket.timeout_ms > 0 && self.is_late(ticket.timeout_ms, books) {
            self.refuse_late(connection, ticket);
            return false;
        }
        let (msg_type, layout) = (ticket.msg_type, ticket.layout);
        // In the classic layout nothing comes before this.
        if !*books.opened {
            *books.opened = true;
            self.tell_connected(books, layout, None, service);
        }
        let parts = (layout == Layout::V1).then_some(&self.site.settings.limits);
        let (caller, attaching) = (Caller::Stream(key), Attaching::to(connection));
        let asker = Some(Asker { site: self.site, peer: PeerName(Some(books.peer)) });
        let back = ReturnAddress { mailbox: self.mailbox, caller, parts, attaching, asker };
        let mut incoming = self.incoming(books, msg_type, layout, payload, back);
        incoming.timeout_ms = ticket.timeout_ms;
        let (kind, recorder) = (RecordKind::Request, books.budget.recorder());
        let record = recorder.begin(kind, msg_type, ticket.id, payload.len());
        let handled = Handled::begin(ticket.id);
        match service.request(&incoming, connection.begin_reply(ticket)) {
            Ok(rc) => {
                record.answered(rc);
                handled.end(&incoming, rc, format_args!("#{key}"));
            }
            Err(aside) => match *aside {
                Aside::Deferred(deferral) => {
                    record.deferred();
                    handled.defer(&incoming, format_args!("#{key}"));
                    books.deferred.defer(key, connection, deferral, self.begun);
                }
                Aside::Attached { rc, frame_len, parcel } => {
                    record.answered(rc);
                    handled.end(&incoming, rc, format_args!("#{key}"));
                    connection.attach(frame_len, parcel);
                }
            },
        }
        true
    }

    /// Tells the handler of new connections. Says whether there is one.
    #[cold]
    fn tell_connected<Y: System>(
        &self,
        books: &Books<'_, Y>,
        layout: Layout,
        app: Option<&App>,
        service: &mut impl Service,
    ) -> bool {
        let record = books.budget.recorder().begin(RecordKind::Connect, 0, 0, 0);
        let is_told = service.connected(&self.visitor(books.peer, layout, app));
        record.end();
        is_told
    }

    /// Tells what has become of a call or a ping of the server's own.
    #[cold]
    fn tell_news<Y: System>(
        &self,
        books: &Books<'_, Y>,
        id: u32,
        news: CallNews<'_>,
        service: &mut impl Service,
    ) {
        let record = books.budget.recorder().begin(RecordKind::Callback, 0, id, 0);
        service.call_news(ConnectionId(self.key), Some(&self.site.endpoint), news);
        record.end();
    }

    #[cold]
    fn refuse_late(&self, connection: &mut Connection, ticket: Ticket) {
        let (endpoint, key) = (&self.site.endpoint, self.key);
        log::debug!("{endpoint}: #{key} request id {} is not begun: its time is over", ticket.id);
        connection.begin_reply(ticket).fail(ResultCode::TIMED_OUT, "its time is over");
    }

    /// A request or a notify as its handler sees it.
    #[inline]
    fn incoming<'i, Y: System>(
        &'i self,
        books: &'i Books<'_, Y>,
        msg_type: i32,
        layout: Layout,
        payload: &'i [u8],
        back: ReturnAddress<'i>,
    ) -> Incoming<'i> {
        let Books { peer, stream, about, .. } = books;
        let origin = Origin::Stream(Way { connection: ConnectionId(self.key), ends: *stream, about });
        let endpoint = &self.site.endpoint;
        Incoming { msg_type, payload, peer, endpoint, layout, timeout_ms: 0, origin, back }
    }

    /// The same of what comes more seldom than requests and notifies.
    #[cold]
    fn hand_over_other<Y: System>(
        &self,
        books: &mut Books<'_, Y>,
        connection: &mut Connection,
        event: Event<'_>,
        service: &mut impl Service,
    ) -> bool {
        let (key, endpoint) = (self.key, &self.site.endpoint);
        match event {
            Event::Subscribe { ticket } => {
                self.subscribe(connection, ticket, service, books.topics);
                false
            }
            Event::Unsubscribe { ticket } => {
                self.unsubscribe(connection, ticket, service, books.topics);
                false
            }
            Event::Greeted(hello) | Event::Opened(hello) => {
                log::debug!("{endpoint}: #{key} {hello}");
                if let Some(app) = hello.app() {
                    books.about.get_or_insert_default().app = Some(app.clone());
                }
                *books.opened = true;
                self.tell_connected(books, Layout::V1, hello.app(), service)
            }
            // What was fetched is what was sent only if the sender had it open until then.
            Event::Attached { .. } if HOW == Attachments::Named && !books.stream.is_connected() => {
                connection
                    .shed(ProtocolError::BadAttachments("whoever has sent them has closed the connection"));
                false
            }
            Event::Attached { parcel, then } => {
                books.about.get_or_insert_default().attached = Some(parcel);
                let ran = then.is_some_and(|event| self.hand_over(books, connection, *event, service));
                if let Some(about) = books.about {
                    about.attached = None;
                }
                ran
            }
            Event::Asks { task, hello } => {
                self.judge_task(books, connection, task, &hello);
                false
            }
            Event::TakesOver => {
                self.give_way(connection);
                false
            }
            Event::Goodbye { rc, .. } => {
                log::debug!("{endpoint}: #{key} goodbye, rc {}", rc.code());
                let may_be_answered = &|id| connection.is_asked(id);
                service.call_news(ConnectionId(key), Some(endpoint), CallNews::Left { may_be_answered });
                false
            }
            Event::Reply { id, rc, is_text, payload } => {
                log::debug!(
                    "{endpoint}: #{key} reply to call {id}, {} bytes, rc {}",
                    payload.len(),
                    rc.code()
                );
                self.tell_news(books, id, CallNews::Answered { id, rc, is_text, payload }, service);
                true
            }
            // What the server asks is answered in one piece.
            Event::Part { id, payload } => {
                connection.give_credit(id, part_cost(u32::try_from(payload.len()).unwrap_or(u32::MAX)));
                false
            }
            Event::LostReply { id } => {
                self.tell_news(books, id, CallNews::Lost { id }, service);
                true
            }
            Event::Pong { id: pong } => {
                let mut ran = false;
                // As of when the link was looked at: what others are handled for does not count.
                while let Some((id, took)) = connection.poll_ponged(pong, self.begun) {
                    self.tell_news(books, id, CallNews::Ponged { id, took }, service);
                    ran = true;
                }
                ran
            }
            // A server subscribes to nothing. What it handles is handed over elsewhere.
            _ => false,
        }
    }

    /// Whether whoever asked does not wait any more: others were handled since it came.
    fn is_late<Y: System>(&self, timeout_ms: u32, books: &Books<'_, Y>) -> bool {
        let waiting_since = books.about.as_ref().and_then(|about| about.waiting_since);
        let (since, now) = (waiting_since.unwrap_or(self.begun), books.budget.looked_at());
        // As for the first of each turn.
        if since == now {
            return false;
        }
        now.saturating_duration_since(since) >= Duration::from_millis(timeout_ms.into())
    }

    #[cold]
    fn visitor<'v>(&'v self, peer: &'v Peer, layout: Layout, app: Option<&'v App>) -> Visitor<'v> {
        Visitor { connection: ConnectionId(self.key), peer, endpoint: &self.site.endpoint, layout, app }
    }
}
