//! `sidewire describe`: what a server says of itself.

use std::process::ExitCode;
use std::time::Duration;

use sidewire::DESCRIPTION;

use crate::call::{self, seconds};
use crate::description::{Description, NoDescription};
use crate::output::{self, complain};
use crate::target::{Target, target_parser};
use crate::whom::Whom;

/// Shows what a server says of itself: its messages and events, with their types
///
/// A line for each message: its number, its name, what is answered, in which encoding all that travels, and what
/// it is for; then the types. What may be left out has a question mark. 'sidewire call' takes the names, and
/// JSON for those messages that travel as JSON.
///
/// Servers describe themselves if they were made so (in Rust: Server::describe).
///
/// Exit status: 0 done
///              1 the server does not describe itself, or with something that can't be read
///              2 usage: a bad endpoint or argument
///              3 nobody listens, the server can't be reached, or it or we refuse
///              4 timed out
///              5 protocol error: the server speaks something else, or another version
///              6 the server went away
///              7 standard output did not take all of it
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or tcp:127.0.0.1:4711; 'exec:COMMAND' or
    /// 'ssh:HOST ENDPOINT'
    #[arg(value_parser = target_parser(), verbatim_doc_comment)]
    endpoint: Target,
    /// Print the document itself, with JSON schemas of all types
    #[arg(long)]
    json: bool,
    /// Seconds that all of it may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    whom: Whom,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let client = match args.whom.connect_to(&args.endpoint, args.timeout) {
        Ok(client) => client,
        Err(error) => return call::failed(&error, false),
    };
    let description = match Description::ask(&client, args.timeout) {
        Ok(description) => description,
        Err(why) => {
            let (status, text) = failed(&args.endpoint, why);
            complain(&text);
            return ExitCode::from(status);
        }
    };
    let text = if args.json { description.json() } else { description.readable() };
    output::print(text.as_bytes()).status()
}

/// The exit status, and what to say.
pub(crate) fn failed(endpoint: &Target, why: NoDescription) -> (u8, String) {
    match why {
        NoDescription::Lacking => (
            1,
            format!("{endpoint}: this server does not describe itself (type {DESCRIPTION} is not served)"),
        ),
        NoDescription::Failed(error) => (call::status(&error, true), error.to_string()),
        NoDescription::Unreadable(why) => {
            (1, format!("{endpoint}: the server's description can't be read: {why}"))
        }
    }
}
