//! Type 7 of the store: counts, in parts, as fast as its caller takes them.

use sidewire::{Failure, ReplyStream, ResultCode, Server, Unsent};

const COUNT: u16 = 7;

/// Lets the store count for who asks: any number at a time, without a thread.
pub(crate) fn serve<S>(server: &mut Server<S>) {
    server.on(COUNT, |_state, request, reply| {
        let last = parse(request.payload())?;
        count(reply.stream()?, 1, last);
        Ok(())
    });
}

fn parse(payload: &[u8]) -> Result<u64, Failure> {
    let text = std::str::from_utf8(payload).ok();
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Failure::new(ResultCode::MALFORMED, "the payload is no number to count to"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_text_is_counted_to() {
        for (payload, expected) in [("0", Some(0)), ("12", Some(12)), ("007", Some(7))] {
            assert_eq!(parse(payload.as_bytes()).ok(), expected);
        }
        for payload in ["", "-1", "+1", "1 ", "x", "99999999999999999999"] {
            assert_eq!(
                parse(payload.as_bytes()).map_err(|failure| failure.result_code()),
                Err(ResultCode::MALFORMED)
            );
        }
    }
}
