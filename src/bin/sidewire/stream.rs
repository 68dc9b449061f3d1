//! `sidewire call --stream`: a reply in parts, a line each.

use sidewire::Parts;

use crate::call::{self, Args, Called, Form, json};
use crate::output::{self, Printed, complain};
use crate::text::{escaped, hexadecimal};

/// Prints the parts as they come, and the final reply, if it says anything. Returns the exit status.
pub(crate) fn show(args: &Args, called: Called, parts: &mut Parts) -> u8 {
    for part in parts.by_ref() {
        let part = match part {
            Ok(part) => part,
            Err(error) => {
                complain(&error);
                return call::status(&error, true);
            }
        };
        if let Some(status) = show_line(args, called, &part) {
            return status;
        }
    }
    let last = parts.response().map(|response| response.payload()).filter(|payload| !payload.is_empty());
    last.and_then(|payload| show_line(args, called, payload)).unwrap_or(0)
}

/// Says with what status to end, if nobody reads on.
fn show_line(args: &Args, called: Called, payload: &[u8]) -> Option<u8> {
    let line = match called.form {
        _ if args.hex => hexadecimal(payload) + "\n",
        Form::Bytes => escaped(payload) + "\n",
        Form::Json => json(payload),
    };
    match output::print(line.as_bytes()) {
        Printed::Whole => None,
        Printed::ReaderLeft => Some(0),
        Printed::Lost => Some(7),
    }
}
