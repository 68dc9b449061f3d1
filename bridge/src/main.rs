//! `sidewire-bridge`: a local Sidewire server behind NATS subjects, and a local endpoint in front of them.
//!
//! `serve` is a client of the local server and takes what comes for it from the broker; `connect` is a local server whose
//! handlers ask the broker. `message` is what both put on NATS, `broker` the connection to it, `options` what the command
//! line says of that. The README beside this has the map.

mod bench;
mod broker;
mod connect;
mod message;
mod options;
mod serve;
mod types;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sidewire::StopSignals;
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What ends a command, in one sentence.
type Result<T> = std::result::Result<T, String>;

/// Tells that the program is to end.
type Stop = watch::Receiver<bool>;

/// Sidewire past one machine, over NATS
///
/// On the machine of the server:   sidewire-bridge serve local:store --nats tls://broker:4222 --app store
/// On the machine of its clients:  sidewire-bridge connect local:store --nats tls://broker:4222 --app store
///
/// Programs at either end need no change. What is other than on one machine is in bridge/README.md: above all that a
/// call which nobody answers may have been executed, and that this takes seconds to notice.
#[derive(Parser)]
#[command(name = "sidewire-bridge", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Connect(Box<connect::Args>),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,sidewire_bridge=info"))
        .init();
    let Cli { command } = Cli::parse();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sidewire-bridge: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let (asked, stop) = watch::channel(false);
    // The second such signal ends the process at once, as StopSignals has it.
    let _signals = StopSignals::watch(move || {
        asked.send_replace(true);
    })
    .map_err(|error| error.to_string())?;
    // One thread: a call goes from one task to the next several times, and each time another thread would have to wake up.
    let mut runtime = match command {
        Command::Serve(_) | Command::Connect(_) => tokio::runtime::Builder::new_current_thread(),
        Command::Bench(_) => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| format!("start the runtime: {error}"))?;
    // In a task of its own: whatever wakes the one that is blocked on costs a system call.
    let result = runtime.block_on(runtime.spawn(async {
        match command {
            Command::Serve(args) => serve::run(*args, stop).await,
            Command::Connect(args) => connect::run(*args, stop).await,
            Command::Bench(args) => bench::run(args).await,
        }
    }));
    let result = result.unwrap_or_else(|error| Err(error.to_string()));
    // What still waits for a broker that has gone is not waited for.
    runtime.shutdown_background();
    result
}

/// Until the program is to end.
async fn stopped(stop: &mut Stop) {
    // Whoever would say so is gone: nobody will.
    if stop.wait_for(|is_asked| *is_asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says a line on standard output, at once. That nobody reads it is no reason to stop.
fn say(line: &str) {
    use std::io::Write;
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
