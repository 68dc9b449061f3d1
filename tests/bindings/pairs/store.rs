//! The store of docs/protocol/store.md over the library as an app uses it: what the tests' own store lacks of it.

use std::thread;
use std::time::Duration;

use sidewire::{Failure, ResultCode, Server};

use crate::util;

pub(crate) fn server() -> Server<Vec<u8>> {
    let mut server = util::store();
    server.on(6, |_value, request, reply| {
        let ms: u32 = number(request.payload())?;
        let responder = reply.defer()?;
        thread::spawn(move || {
            if responder.cancellation().wait(Duration::from_millis(ms.into())).is_none() {
                responder.reply(ms.to_string());
            }
        });
        Ok(())
    });
    server.on(7, |_value, request, reply| {
        let last: u32 = number(request.payload())?;
        let mut stream = reply.stream()?;
        thread::spawn(move || {
            if (1..=last).all(|number| stream.send(number.to_string()).is_ok()) {
                stream.reply("");
            }
        });
        Ok(())
    });
    let remote = server.remote().expect("a remote");
    server.on(8, move |_value, request, reply| {
        let msg_type = number(request.payload())?;
        let client = remote.peer(request.connection().ok_or(Failure::from(ResultCode::FEATURE_MISSING))?);
        let responder = reply.defer()?;
        Ok(client.call(msg_type, "ping", Duration::from_secs(10), |_value, answer| match answer {
            Ok(answer) if answer.is_explanation() => {
                let text = String::from_utf8_lossy(answer.payload());
                responder.fail(Failure::new(answer.result_code(), text));
            }
            Ok(answer) => responder.finish(answer.result_code(), answer.payload()),
            Err(error) => responder.fail(error),
        })?)
    });
    server
}

fn number<N: std::str::FromStr>(payload: &[u8]) -> Result<N, Failure> {
    let text = std::str::from_utf8(payload).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Failure::from(ResultCode::MALFORMED))
}
