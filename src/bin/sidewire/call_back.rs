//! What the store does for those who want to be called back.

use std::time::Duration;

use sidewire::{Answer, Failure, Layout, Request, Responder, ResultCode, Server};

use crate::text::decimal;

pub(crate) const CALL_ME_BACK: u16 = 8;
/// What whoever asks is called with.
const PING: &str = "ping";
/// How long it has for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls whoever asks on its own connection, and answers with what comes back.
pub(crate) fn serve<S: 'static>(server: &mut Server<S>) -> sidewire::Result<()> {
    let remote = server.remote()?;
    server.on(CALL_ME_BACK, move |_state, request, reply| {
        let (Some(connection), Layout::V1) = (request.connection(), request.layout()) else {
            let text = "only a connection that speaks v1 can be called back";
            return Err(Failure::new(ResultCode::FEATURE_MISSING, text));
        };
        let msg_type = parse_type(request)?;
        let responder = reply.defer()?;
        let asked =
            remote.peer(connection).call(msg_type, PING, PATIENCE, |_state: &mut S, answer| match answer {
                Ok(answer) => pass_on(responder, answer),
                Err(error) => responder.fail(explain(&error)),
            });
        Ok(asked?)
    });
    Ok(())
}

fn parse_type(request: &Request<'_>) -> Result<u16, Failure> {
    decimal(request.payload()).ok_or_else(|| {
        Failure::new(ResultCode::MALFORMED, "the payload is to be a type's number, 0 to 65535")
    })
}

fn pass_on(responder: Responder, answer: Answer<'_>) {
    if answer.is_explanation() {
        let text = String::from_utf8_lossy(answer.payload());
        responder.fail(Failure::new(answer.result_code(), text));
    } else {
        responder.finish(answer.result_code(), answer.payload());
    }
}

fn explain(error: &sidewire::Error) -> Failure {
    let rc = match error {
        _ if error.is_timeout() => ResultCode::TIMED_OUT,
        _ if error.is_full() => ResultCode::BUSY,
        _ => ResultCode::HANDLER_FAILED,
    };
    Failure::new(rc, error.to_string())
}
