//! `sidewire relay`: a local server, for a client at the other end of standard input and output.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sidewire::{Endpoint, RawStream};

use crate::call::{self, seconds};
use crate::output::{self, Patient, Printed, complain};
use crate::target::Target;
use crate::whom::Whom;

/// Copies standard input to a server, and what it answers to standard output
///
/// This is what ssh: runs on the other machine:
///
///     sidewire call 'ssh:ada@build.example unix:/run/app.sock' 1
///
/// The bytes are copied as they are. Whose server it is, is looked at before the first of them. Where input
/// ends, the server sees an end, too, and what it still says is copied. A pipe of Windows has no such end:
/// there the connection is closed a second later.
///
/// Exit status: 0 the server has closed the connection, or whoever reads its bytes has left
///              2 usage: a bad endpoint or argument; an endpoint that carries datagrams
///              3 nobody listens, the server can't be reached, or we refuse
///              4 timed out while connecting
///              6 the connection broke
///              7 standard output did not take all that the server said
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or unix:/run/app.sock
    #[arg(value_parser = crate::endpoint_parser())]
    endpoint: Endpoint,
    /// Seconds that connecting may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    whom: Whom,
}

/// Bytes that one read takes.
const CHUNK: usize = 64 << 10;
/// How long a server may still speak behind the end of the input, where it can't be told of that.
const LINGER: Duration = Duration::from_secs(1);

pub(crate) fn run(args: Args) -> ExitCode {
    let target = Target::Endpoint(args.endpoint);
    if let Some(objection) = args.whom.objection(&target) {
        complain(&objection);
        return ExitCode::from(2);
    }
    let opened = args.whom.within(&target, Some(args.timeout));
    let stream = match opened.and_then(|connect| connect.call_timeout(None).open_raw()) {
        Ok(stream) => Arc::new(stream),
        Err(error) => return call::failed(&error, false),
    };
    let server = Arc::clone(&stream);
    let thread = thread::Builder::new().name("input".into()).spawn(move || copy_input(&server));
    if let Err(error) = thread {
        complain(&format!("start a thread: {error}"));
        return ExitCode::from(3);
    }
    copy_output(&stream)
}

/// Until the input's end, or the server's.
fn copy_input(stream: &RawStream) {
    let mut chunk = vec![0; CHUNK];
    let mut input = Patient::new(std::io::stdin().lock());
    while sidewire_platform::has_standard_input() {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                let mut server = stream;
                if let Err(error) = server.write_all(&chunk[..count]) {
                    // The thread that reads from it says why.
                    return log::debug!("{error}");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                complain(&format!("standard input: {error}"));
                break;
            }
        }
    }
    match stream.shutdown_write() {
        Err(error) if error.is_unsupported() => {
            thread::sleep(LINGER);
            stream.shutdown();
        }
        Err(error) => log::debug!("{error}"),
        Ok(()) => {}
    }
}

/// Until the server's end.
fn copy_output(mut stream: &RawStream) -> ExitCode {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(count) => match output::print(&chunk[..count]) {
                Printed::Whole => {}
                printed => return printed.status(),
            },
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                complain(&error);
                return ExitCode::from(6);
            }
        }
    }
}
