//! A counter that several processes share: its server is there when somebody needs it, and at no other time.
//!
//!     on_demand count TIMES [ENDPOINT]    (starts the server if there is none)
//!     on_demand serve [ENDPOINT]          (what is started; leaves 2 s after the last client has gone)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};
use std::time::Duration;

use sidewire::{Access, App, Build, Connect, Endpoint, Listen, Server, Start};
use support::{finish, print};

const COUNT: u16 = 1;

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "local:on-demand";
const IDLE: Duration = Duration::from_secs(2);

const USAGE: &str = "usage: on_demand count TIMES [ENDPOINT]
       on_demand serve [ENDPOINT]";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let default = OsStr::new(DEFAULT);
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(default),
        ("serve", [endpoint]) => serve(endpoint),
        ("count", [times]) => count(times, default),
        ("count", [times, endpoint]) => count(times, endpoint),
        _ => return finish("on_demand", USAGE, None),
    };
    finish("on_demand", USAGE, Some(result))
}

/// What both sides are: a server that an older build has left running is no server for us.
fn app() -> App {
    App::new("on-demand", env!("CARGO_PKG_VERSION"))
}

fn serve(at: &OsStr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::builder(0_u64).app(app()).build()?;
    server.on(COUNT, |count, _request, reply| {
        *count += 1;
        reply.write(count.to_string());
        Ok(())
    });
    server.stop_on_signals()?;
    server.exit_when_idle(IDLE)?;
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    server.listen(Listen::from(&endpoint).access(access))?;
    Ok(server.run()?)
}

fn count(times: &OsStr, at: &OsStr) -> Result<(), Box<dyn Error>> {
    let times: u32 = times.to_str().and_then(|times| times.parse().ok()).ok_or("TIMES is no number")?;
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    // In an app this is a program of its own, beside the app's.
    let mut program = Command::new(std::env::current_exe()?);
    program.arg("serve").arg(at);
    let client = Connect::to(&endpoint)?
        .access(access)
        .app(app())
        .build(Build::same_version())
        .start(Start::new(program).within(Duration::from_secs(20)))
        .open()?;
    for _ in 0..times {
        let answer = client.call(COUNT, "")?;
        print(format!("process {}: {}\n", std::process::id(), String::from_utf8_lossy(answer.payload())))?;
    }
    Ok(())
}
