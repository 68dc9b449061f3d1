//! The tool as the server of a conversation.

use std::process::Command;

use sidewire::Endpoint;

use crate::util::{Conversation, Process};

/// The tool, where it was built.
pub(crate) const SIDEWIRE: Option<&str> = option_env!("CARGO_BIN_EXE_sidewire");

/// `sidewire serve`. `None` where it was not built.
pub(crate) fn serve<A: AsRef<std::ffi::OsStr>>(
    endpoint: &Endpoint,
    options: impl IntoIterator<Item = A>,
) -> Option<Process> {
    let mut command = Command::new(SIDEWIRE?);
    command.arg("serve").arg(endpoint.to_string()).args(options);
    if !endpoint.has_credentials() {
        command.args(["--access", "anyone"]);
    }
    Some(Process::start(&mut command, 1))
}

/// What `sidewire serve` needs to be as the conversation wants it, if there are options for that.
pub(crate) fn options(conversation: &Conversation) -> Option<Vec<String>> {
    let option = |(key, value): &(String, String)| match &key[..] {
        "only" | "tool" => Some(Vec::new()),
        "classic_max" => Some(vec!["--classic-max".into(), value.clone()]),
        "classic_fixed" => Some(vec!["--classic-fixed".into(), value.clone()]),
        _ => None,
    };
    let options: Option<Vec<_>> = conversation.settings.iter().map(option).collect();
    options.map(|options| options.concat())
}
