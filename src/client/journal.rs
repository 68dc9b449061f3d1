//! Two lines for each call, at the level "debug".

use std::time::Instant;

use sidewire_platform::Endpoint;

use super::Response;
use crate::error::Result;

/// A call under way. Where nobody wants to read of it, it costs a look at the level.
#[derive(Debug, Default)]
pub(crate) struct Asked(Option<Box<Begun>>);

#[derive(Debug)]
struct Begun {
    msg_type: u16,
    id: u32,
    at: Instant,
}

impl Asked {
    #[inline]
    pub(crate) fn begin(endpoint: &Endpoint, msg_type: u16, id: u32, length: usize) -> Asked {
        Asked(log::log_enabled!(log::Level::Debug).then(|| {
            log::debug!("{endpoint}: request type {msg_type} id {id}, {length} bytes");
            Box::new(Begun { msg_type, id, at: Instant::now() })
        }))
    }

    #[inline]
    pub(crate) fn end(self, endpoint: &Endpoint, result: &Result<Response>) {
        if let Some(begun) = self.0 {
            begun.end(endpoint, result);
        }
    }
}

impl Begun {
    fn end(&self, endpoint: &Endpoint, result: &Result<Response>) {
        let Begun { msg_type, id, at } = *self;
        let micros = at.elapsed().as_micros();
        match result {
            Ok(Response { rc, payload, .. }) => {
                let (rc, length) = (rc.code(), payload.len());
                log::debug!(
                    "{endpoint}: reply type {msg_type} id {id}, {length} bytes, rc {rc}, {micros} us"
                );
            }
            Err(error) => log::debug!("no reply type {msg_type} id {id}, {micros} us: {error}"),
        }
    }
}
