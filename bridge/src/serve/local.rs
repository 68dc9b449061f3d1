//! The local server: our connections to it, and what it says of itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sidewire::tokio::Client;
use sidewire::{Access, App, Connect, ConnectionLimits, DESCRIPTION, Endpoint, Token};
use tokio::sync::Mutex;

use super::Args;
use crate::Result;
use crate::types::Types;

/// What is served.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    pub(super) types: Types,
    pub(super) events: Types,
    /// The server's version, if it is one of the form that NATS takes.
    pub(super) version: String,
    pub(super) describes_itself: bool,
}

/// The connections to the local server: one for each application that calls, since a server hears of it in the hello.
#[derive(Debug)]
pub(super) struct Local {
    /// The one that is there as long as we serve; callers that do not say who they are use it.
    pub(super) main: Arc<Client>,
    pub(super) offer: Offer,
    how: How,
    others: Mutex<HashMap<(String, String), Arc<Client>>>,
}

#[derive(Debug)]
struct How {
    endpoint: Endpoint,
    access: Access,
    token_file: Option<PathBuf>,
    max_calls: u32,
}

/// Applications with a connection of their own. A caller may say anything, so those beyond share the first one.
const APPS: usize = 32;
/// Making one takes no longer: all other calls wait for that.
const CONNECTING: Duration = Duration::from_secs(1);
/// What the server gets at a time, in all: what a broker lets through may be large.
const MAX_BYTES: u32 = 64 << 20;

impl Local {
    /// Connects, and asks what is served unless that is said.
    pub(super) async fn open(args: &Args) -> Result<Local> {
        let how = How {
            endpoint: args.endpoint.clone(),
            access: args.access.into(),
            token_file: args.token_file.clone(),
            max_calls: args.max_calls,
        };
        let main = Arc::new(how.connect(App::new("sidewire-bridge", env!("CARGO_PKG_VERSION"))).await?);
        let mut offer = described(&main).await?;
        if let Some(types) = &args.types {
            offer.types = types.clone();
        }
        if let Some(events) = &args.events {
            offer.events = events.clone();
        }
        if offer.types.is_empty() {
            let endpoint = &args.endpoint;
            return Err(format!(
                "{endpoint}: the server does not describe itself: say --types, as in --types 1-8"
            ));
        }
        if offer.describes_itself {
            offer.types.insert(DESCRIPTION);
        }
        let version = main.peer_app().map(|app| app.version().to_owned());
        offer.version = version.filter(|version| is_version(version)).unwrap_or_else(|| "0.0.0".into());
        Ok(Local { main, offer, how, others: Mutex::default() })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.how.endpoint
    }

    /// The connection for calls of this application.
    pub(super) async fn of(&self, app: Option<App>) -> Arc<Client> {
        let Some(app) = app else { return Arc::clone(&self.main) };
        let key = (app.name().to_owned(), app.version().to_owned());
        let mut others = self.others.lock().await;
        if let Some(client) = others.get(&key).filter(|client| !client.is_closed()) {
            return Arc::clone(client);
        }
        others.retain(|_, client| !client.is_closed());
        if others.len() >= APPS {
            return Arc::clone(&self.main);
        }
        let connected = tokio::time::timeout(CONNECTING, self.how.connect(app)).await;
        match connected.unwrap_or_else(|_| Err(format!("the server did not answer within {CONNECTING:?}"))) {
            Ok(client) => {
                let client = Arc::new(client);
                others.insert(key, Arc::clone(&client));
                client
            }
            Err(why) => {
                log::debug!("no connection for {key:?}: {why}");
                // From now on it shares the first one.
                others.insert(key, Arc::clone(&self.main));
                Arc::clone(&self.main)
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn close(&self) {
        self.main.close();
        self.others.lock().await.values().for_each(|client| client.close());
    }
}

impl How {
    async fn connect(&self, app: App) -> Result<Client> {
        let failed = |error: sidewire::Error| error.to_string();
        let mut limits = ConnectionLimits::default();
        limits.max_in_flight = limits.max_in_flight.max(self.max_calls);
        limits.max_in_flight_bytes = limits.max_in_flight_bytes.max(MAX_BYTES);
        let mut connect = Connect::to(self.endpoint.clone()).map_err(failed)?;
        connect = connect.app(app).limits(limits).call_timeout(Duration::from_secs(30));
        connect = match &self.token_file {
            Some(file) => connect.token(Token::file(file)),
            None => connect.access(self.access.clone()),
        };
        connect.open_async().await.map_err(failed)
    }
}

/// What the server says that it serves.
async fn described(client: &Client) -> Result<Offer> {
    let response = client.request(DESCRIPTION).exchange("").await.map_err(|error| error.to_string())?;
    if !response.result_code().is_ok() {
        return Ok(Offer::default());
    }
    let document: serde_json::Value = serde_json::from_slice(response.payload()).map_err(|error| {
        format!("{}: what the server says of itself is no JSON: {error}", client.endpoint())
    })?;
    let numbers = |part: &str| -> Types {
        let entries = document[part].as_array().into_iter().flatten();
        entries.filter_map(|entry| u16::try_from(entry["type"].as_u64()?).ok()).collect()
    };
    Ok(Offer {
        types: numbers("messages"),
        events: numbers("events"),
        version: String::new(),
        describes_itself: true,
    })
}

/// `1.2.3`, perhaps with `-rc.1` or `+build`: NATS shows no other.
fn is_version(text: &str) -> bool {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let rest = &text[numbers.len()..];
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_those_that_nats_takes() {
        for version in ["0.0.0", "1.20.3", "1.0.0-rc.1", "1.0.0+5"] {
            assert!(is_version(version), "{version}");
        }
        for text in ["", "1.0", "1.0.0.0", "v1.0.0", "01.0.0", "1.0.x", "1.0.0-\"", "1..0"] {
            assert!(!is_version(text), "{text}");
        }
    }
}
