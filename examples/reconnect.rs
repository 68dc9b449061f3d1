//! A server that may be restarted at any time, and a client that does not mind: kill one, and start it again.
//!
//!     reconnect serve [ENDPOINT]
//!     reconnect ask COUNT [ENDPOINT]      (asks so many times, ten times a second)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sidewire::{Access, Connect, Endpoint, Executed, Listen, Reconnect, Server};
use support::{Printer, complain, finish, print};

/// Says who answers, and changes nothing: so it may be asked twice.
const WHO: u16 = 1;
/// Counts: asked twice it counts twice.
const COUNT: u16 = 2;

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "local:reconnect";
/// Between two questions.
const PERIOD: Duration = Duration::from_millis(100);

const USAGE: &str = "usage: reconnect serve [ENDPOINT]
       reconnect ask COUNT [ENDPOINT]";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let default = OsStr::new(DEFAULT);
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(default),
        ("serve", [endpoint]) => serve(endpoint),
        ("ask", [count]) => ask(count, default),
        ("ask", [count, endpoint]) => ask(count, endpoint),
        _ => return finish("reconnect", USAGE, None),
    };
    finish("reconnect", USAGE, Some(result))
}

fn serve(at: &OsStr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(0_u32);
    server.on(WHO, |_count, _request, reply| {
        reply.write(format!("process {}", std::process::id()));
        Ok(())
    });
    server.on(COUNT, |count, _request, reply| {
        *count += 1;
        reply.write(count.to_string());
        Ok(())
    });
    server.stop_on_signals()?;
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    let bound = server.listen(Listen::from(&endpoint).access(access))?;
    let printer = Printer::new()?;
    printer.print(format!("listening {bound}\n"));
    Ok(server.run()?)
}

fn ask(count: &OsStr, at: &OsStr) -> Result<(), Box<dyn Error>> {
    let count: u32 = count.to_str().and_then(|count| count.parse().ok()).ok_or("COUNT is no number")?;
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let reconnect = Reconnect::new().within(Duration::from_secs(10)).on_reconnected(|it| {
        let whom = if it.is_restarted() { "a new server" } else { "the same server" };
        complain(format_args!("connected to {whom}, at attempt {}, since {}", it.attempts(), it.reason()));
    });
    let client = Connect::to(&endpoint)?
        .access(access)
        .reconnect(reconnect)
        .on_closed(|why| complain(format_args!("closed: {why}")))
        .open()?;
    for _ in 0..count {
        // Sent again if need be.
        let who = client.request(WHO).idempotent().send("")?;
        // Reported, if its server went after it had got it: only we know what to do then.
        let number = match client.call(COUNT, "") {
            Err(error) if error.is_peer_gone() && error.executed() == Executed::Perhaps => "perhaps".into(),
            answer => String::from_utf8_lossy(answer?.payload()).into_owned(),
        };
        print(format!("{}: {number}\n", String::from_utf8_lossy(who.payload())))?;
        thread::sleep(PERIOD);
    }
    Ok(())
}
