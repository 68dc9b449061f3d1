//! The server that is tried: in a process of its own, so that its memory and descriptors are nobody else's.

use std::process::{ExitCode, ExitStatus};
use std::time::Instant;

use serde_json::Value;
use sidewire::{Access, Client, Endpoint, Listen, StopSignals};

use super::invariants::Usage;
use crate::ALLOCATOR;
use crate::offspring::{self, Offspring, Outcome, PATIENCE};
use crate::output::{self, complain};
use crate::store::STATISTICS;
use crate::whom::Whom;
use crate::{serve, store};

#[derive(clap::Args)]
pub(crate) struct ServerArgs {
    #[arg(value_parser = crate::endpoint_parser())]
    endpoint: Endpoint,
}

/// What the process runs: the store with its usual limits, until standard input ends; for each line there it says what it has allocated. It can't be asked to stop: hellos that lie
/// ask for anything, in the end for that.
pub(crate) fn run_server(args: &ServerArgs) -> ExitCode {
    match serve(&args.endpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn serve(endpoint: &Endpoint) -> sidewire::Result<()> {
    if let Err(error) = sidewire_platform::raise_descriptor_limit() {
        log::info!("the limit of open descriptors stays as it is: {error}");
    }
    // Ctrl-C reaches both processes, and is for the other.
    let _signals = StopSignals::watch(|| ())?;
    let mut server = store::server()?;
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    match server.listen(Listen::from(endpoint).access(access)) {
        Ok(bound) => serve::announce(format!("listening {bound}\n")),
        Err(error) => {
            output::print(format!("{error}\n").as_bytes());
            return Ok(());
        }
    }
    offspring::stop_with_input(&mut server, || {
        output::print(format!("{}\n", ALLOCATOR.allocated()).as_bytes());
    })?;
    server.run()
}

/// That process, as the others see it.
pub(super) struct Server {
    process: Offspring,
    pub(super) endpoint: Endpoint,
    /// Asks it for its statistics.
    client: Client,
}

impl Server {
    pub(super) fn start(endpoint: &Endpoint) -> Outcome<Server> {
        let process = Offspring::start_watched("soak-server", [endpoint.to_string()])?;
        let line = process.line(Instant::now() + PATIENCE)?;
        let Some(bound) = line.strip_prefix("listening ") else { return Err(line.into()) };
        let endpoint = bound.parse()?;
        let client = Whom::default().connect_to(&endpoint, PATIENCE)?;
        Ok(Server { process, endpoint, client })
    }

    /// What it holds. It says itself what it has allocated, beside its endpoint, where datagrams may get lost.
    pub(super) fn usage(&self) -> Outcome<Usage> {
        let allocated = self.process.ask(Instant::now() + PATIENCE)?.parse()?;
        let held = sidewire_platform::usage(self.process.child())?;
        Ok(Usage { allocated, resident: held.memory, descriptors: held.descriptors })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.child().id()
    }

    /// What it says of itself.
    pub(super) fn statistics(&self) -> Outcome<Value> {
        Ok(serde_json::from_slice(self.client.call(STATISTICS, b"")?.payload())?)
    }

    /// Connections that it holds, ours included.
    pub(super) fn connections(&self) -> Outcome<u64> {
        self.statistics()?["connections"].as_u64().ok_or_else(|| "its statistics have no connections".into())
    }

    /// Whether it has ended by itself, and how.
    pub(super) fn end(&mut self) -> Option<ExitStatus> {
        self.process.end().ok().flatten()
    }

    /// Ends it. What was wrong about that.
    pub(super) fn stop(mut self) -> (Option<String>, u64) {
        self.client.close();
        let wrong = match self.process.stop() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("it ended with {status}")),
            Err(error) => Some(error.to_string()),
        };
        (wrong, self.process.panics())
    }
}
