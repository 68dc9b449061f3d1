//! Type 7 of the store: counts, in parts, as fast as its caller takes them.

use sidewire::{Failure, ReplyStream, ResultCode, Server, Unsent};

use crate::text::decimal;

pub(crate) const COUNT: u16 = 7;

/// Lets the store count for who asks: any number at a time, without a thread.
pub(crate) fn serve<S>(server: &mut Server<S>) {
    server.on(COUNT, |_state, request, reply| {
        let last = parse(request.payload())?;
        count(reply.stream()?, 1, last);
        Ok(())
    });
}

fn parse(payload: &[u8]) -> Result<u64, Failure> {
    decimal(payload)
        .ok_or_else(|| Failure::new(ResultCode::MALFORMED, "the payload is no number to count to"))
}

fn count(mut stream: ReplyStream, from: u64, last: u64) {
    for number in from..=last {
        match stream.try_send(number.to_string()) {
            Ok(()) => {}
            Err(Unsent::Full) => return stream.on_ready(move |stream| count(stream, number, last)),
            // Nobody waits for the rest.
            Err(_) => return,
        }
    }
    stream.reply("");
}
