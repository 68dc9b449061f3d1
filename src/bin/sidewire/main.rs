//! `sidewire`: look at, script and debug conversations over Sidewire.

mod call;
mod call_back;
mod count;
mod demo;
mod describe;
mod description;
mod log;
mod offspring;
mod output;
mod ping;
mod recorder;
mod relay;
mod serve;
mod sleep;
mod soak;
mod stats;
mod stop;
mod store;
mod stream;
mod target;
mod text;
mod watch;
mod whom;

use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use sidewire::{Access, Endpoint};
use sidewire_platform::CountingAllocator;

/// Knows how much memory this process holds, which `soak` wants to hear of its server.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Lets two processes on one machine talk: host a small store, call servers, see it all at work.
///
/// Set RUST_LOG=debug to see what happens on the connections.
///
/// An ENDPOINT is local:NAME, unix:/path, abstract:NAME, pipe:NAME, tcp:HOST:PORT, unixgram:/path,
/// abstractgram:NAME, udp:HOST:PORT or mailslot:NAME. Commands that connect also take
/// 'exec:COMMAND', a program that is started and answers on its standard input and output, and
/// 'ssh:[USER@]HOST[:PORT] ENDPOINT', a server on another machine, where sidewire is installed, too.
///
/// Exit status: 0 done
///              1 the server's result code is not 0; no ping was answered; an endpoint of serve, a row of
///                demo, or something that soak looks at, failed; stop: a server is still there;
///                recorder: nothing was found
///              2 usage: a bad endpoint or argument
///              3 call, ping, stats, describe, watch, relay: nobody listens, or refused
///              4 call, ping, stats, describe, watch, relay: timed out
///              5 call, ping, stats, describe, watch: protocol error
///              6 call, stats, describe, watch, relay: the server went away; during a call, which may have been
///                executed
///              7 standard output did not take all that was to be printed
/// Each command's --help says more.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Call(call::Args),
    Ping(ping::Args),
    Watch(watch::Args),
    Stats(stats::Args),
    Describe(describe::Args),
    Relay(relay::Args),
    Recorder(recorder::Args),
    Stop(stop::Args),
    Demo(demo::Args),
    Soak(soak::Args),
    #[command(hide = true)]
    DemoHelper(demo::HelperArgs),
    #[command(hide = true)]
    SoakServer(soak::ServerArgs),
}

/// Who may be at the other end.
#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// Processes of the same user, root and SYSTEM
    SameUser,
    /// Every process that reaches the endpoint
    Anyone,
}

impl From<Who> for Access {
    fn from(who: Who) -> Access {
        match who {
            Who::SameUser => Access::SameUser,
            Who::Anyone => Access::Anyone,
        }
    }
}

fn main() -> ExitCode {
    let _log = log::Log::start();
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(usage) => return ExitCode::from(output::print_usage(&usage)),
    };
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Call(args) => call::run(args),
        Command::Ping(args) => ping::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::Relay(args) => relay::run(args),
        Command::Recorder(args) => recorder::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::DemoHelper(args) => demo::run_helper(&args),
        Command::Soak(args) => soak::run(&args),
        Command::SoakServer(args) => soak::run_server(&args),
    }
}

/// For clap: an endpoint, or why it is none.
fn endpoint_parser() -> impl TypedValueParser<Value = Endpoint> {
    OsStringValueParser::new().try_map(Endpoint::try_from)
}
