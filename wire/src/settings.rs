//! What an owner sets for its connections.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::layout::Classic;
use crate::limits::ConnectionLimits;
use crate::task::{Task, Tasks};
use crate::token::Token;

/// How frames take along what is no bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "whoever moves the bytes has to know which it is")]
pub enum Attachments {
    /// Not at all.
    #[default]
    Never,
    /// The transport carries them beside the bytes: see
    /// [`receive_attached`](crate::Connection::receive_attached).
    Carried,
    /// Frames name them, and whoever gets a frame [fetches](crate::Fetch) what it names; until the sender hears that this
    /// was done, it keeps them. A connection that [can't fetch](crate::Connection::fetch_with) agrees on none.
    Named,
}

/// What all connections of a listener, or of a client, have in common.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// What the other side may hold, and how long it may take.
    pub limits: ConnectionLimits,
    /// Whether classic peers are served, and how large their frames are.
    pub classic: Classic,
    /// Whether first bytes that look like HTTP or TLS are a mistake (TCP).
    pub web_is_error: bool,
    /// How long a peer may be silent at first.
    pub first_byte: Option<Duration>,
    /// The server's instance id, which tells clients of a restart.
    pub instance: [u8; 16],
    /// Where a responder gets the random bytes of its hello from. Where it asks for a [token](Settings::token) they have to
    /// be random; zeros then refuse the initiator.
    pub nonce: fn() -> [u8; 16],
    /// What our hello says of the application. Whoever sets it has [checked](App::check) it.
    pub app: Option<App>,
    /// What initiators may ask of this responder besides calls. Each that asks is shown to the owner first:
    /// [`Event::Asks`](crate::Event::Asks).
    pub grants: Tasks,
    /// Whether frames may take something along that is no bytes, and how, if the other side does the same.
    pub attachments: Attachments,
    /// What our hello asks of the responder, if the connection is for that.
    pub asks: Option<Task>,
    /// What both sides have to prove that they know before anything is executed. A responder then refuses the classic layout.
    pub token: Option<Arc<dyn Token>>,
}

impl Settings {
    /// With these, and nothing else that is out of the ordinary: HTTP and TLS are not looked for, a
    /// peer may be silent for ever, instance id and nonces are zero, the application has no name, and
    /// nothing is asked or granted besides calls, and no token is asked for.
    #[must_use]
    pub fn new(limits: ConnectionLimits, classic: Classic) -> Settings {
        Settings {
            limits,
            classic,
            web_is_error: false,
            first_byte: None,
            instance: [0; 16],
            nonce: || [0; 16],
            app: None,
            grants: Tasks::default(),
            attachments: Attachments::Never,
            asks: None,
            token: None,
        }
    }
}
