//! A thermometer that tells whoever wants to know: one process measures and publishes, others watch.
//!
//!     events serve [ENDPOINT]
//!     events watch COUNT [ENDPOINT]      (ends after so many readings)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sidewire::{Access, Connect, Endpoint, Listen, Remote, Server, WhenSlow};
use support::{Printer, complain, finish, print};

/// The topic of the readings.
const READING: u16 = 1;

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "local:events";
/// Between two readings.
const PERIOD: Duration = Duration::from_millis(100);

const USAGE: &str = "usage: events serve [ENDPOINT]
       events watch COUNT [ENDPOINT]";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let default = OsStr::new(DEFAULT);
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(default),
        ("serve", [endpoint]) => serve(endpoint),
        ("watch", [count]) => watch(count, default),
        ("watch", [count, endpoint]) => watch(count, endpoint),
        _ => return finish("events", USAGE, None),
    };
    finish("events", USAGE, Some(result))
}

fn serve(at: &OsStr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(());
    // Who looks away for a while wants the reading of now, not those of then.
    server.topic(READING, WhenSlow::KeepLatest);
    server.stop_on_signals()?;
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
    let bound = server.listen(Listen::from(&endpoint).access(access))?;
    let printer = Printer::new()?;
    printer.print(format!("listening {bound}\n"));
    let remote = server.remote()?;
    let thermometer = thread::spawn(move || measure(&remote));
    server.run()?;
    drop(server);
    thermometer.join().map_err(|_| "the thermometer panicked".into())
}

/// Publishes from a thread of its own, until the server has stopped.
fn measure(remote: &Remote<()>) {
    for tenths in (180..250).chain((180..250).rev()).cycle() {
        match remote.publish(READING, format!("{}.{} °C", tenths / 10, tenths % 10)) {
            Err(error) if error.is_stopped() => return,
            // One that is lost is no harm: the next one comes soon.
            Err(error) => complain(error),
            Ok(()) => {}
        }
        thread::sleep(PERIOD);
    }
}

fn watch(count: &OsStr, at: &OsStr) -> Result<(), Box<dyn Error>> {
    let count = count.to_str().and_then(|count| count.parse().ok()).ok_or("COUNT is no number")?;
    let endpoint = Endpoint::try_from(at)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let client = Connect::to(&endpoint)?.access(access).open()?;
    for reading in client.subscribe(READING)?.take(count) {
        let reading = reading?;
        let text = String::from_utf8_lossy(reading.payload());
        print(format!("{}: {text} ({} missed before)\n", reading.sequence(), reading.dropped()))?;
    }
    Ok(())
}
