//! `sidewire`: look at, script and debug conversations over Sidewire.

mod call;
mod demo;
mod log;
mod serve;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use sidewire::{Access, Endpoint};

/// Lets two processes on one machine talk: host a small store, call servers, see it all at work.
///
/// Set RUST_LOG=debug to see what happens on the connections.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Call(call::Args),
    Demo(demo::Args),
    #[command(hide = true)]
    DemoHelper(demo::HelperArgs),
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
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Call(args) => call::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::DemoHelper(args) => demo::run_helper(&args),
    }
}

/// For clap: an endpoint, or why it is none.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<Endpoint>().map_err(|error| error.to_string())
}

/// Says on standard error what went wrong.
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("sidewire: {error}");
}
