//! A reply in parts: a server renders pages and tells how far it is, until nobody wants to know.
//!
//!     progress serve [ENDPOINT]
//!     progress render PAGES [ENOUGH [ENDPOINT]]     (cancels once ENOUGH pages are done)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sidewire::{Client, Failure, ReplyStream, ResultCode, Server, Unsent};
use support::{Printer, finish, print};

const RENDER: u16 = 1;
const DEFAULT: &str = "local:progress";
const USAGE: &str = "usage: progress serve [ENDPOINT]\n       progress render PAGES [ENOUGH [ENDPOINT]]";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let default = OsStr::new(DEFAULT);
    let result = match args.iter().map(OsString::as_os_str).collect::<Vec<_>>()[..] {
        [command] if command == "serve" => serve(default),
        [command, endpoint] if command == "serve" => serve(endpoint),
        [command, pages] if command == "render" => render(pages, None, default),
        [command, pages, enough] if command == "render" => render(pages, Some(enough), default),
        [command, pages, enough, endpoint] if command == "render" => render(pages, Some(enough), endpoint),
        _ => return finish("progress", USAGE, None),
    };
    finish("progress", USAGE, Some(result))
}

fn serve(endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(());
    let printer = Arc::new(Printer::new()?);
    let log = Arc::clone(&printer);
    // The handler only begins it. Whoever takes parts slowly holds up the thread that makes them, and nobody else.
    server.on(RENDER, move |_state, request, reply| {
        let text = std::str::from_utf8(request.payload())?;
        let pages: u64 = text.parse().map_err(|_| Failure::new(ResultCode::MALFORMED, "how many pages?"))?;
        let (stream, log) = (reply.stream()?, Arc::clone(&log));
        thread::Builder::new().name("renderer".into()).spawn(move || {
            if let Err(unsent) = work(stream, pages) {
                log.print(format!("stopped: {unsent}\n"));
            }
        })?;
        Ok(())
    });
    server.stop_on_signals()?;
    printer.print(format!("listening {}\n", server.listen(endpoint)?));
    server.run()?;
    Ok(())
}

/// The error: nobody waits for it any more.
fn work(mut stream: ReplyStream, pages: u64) -> Result<(), Unsent> {
    let cancellation = stream.cancellation();
    for page in 1..=pages {
        // What takes its time, and looks now and then whether it is still wanted.
        if let Some(why) = cancellation.wait(Duration::from_millis(20)) {
            return Err(Unsent::Unwanted(why));
        }
        stream.send(format!("page {page} of {pages}"))?;
    }
    stream.reply(format!("{pages} pages"));
    Ok(())
}

fn render(pages: &OsStr, enough: Option<&OsStr>, endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let enough: usize = enough.map_or(Ok(usize::MAX), |enough| enough.to_string_lossy().parse())?;
    let client = Client::connect(endpoint)?;
    let mut parts = client.stream(RENDER, pages.as_encoded_bytes())?;
    for part in parts.by_ref().take(enough) {
        print(format!("{}\n", String::from_utf8_lossy(&part?)))?;
    }
    // Dropped before its end it cancels the call, and the server hears of it.
    match parts.response() {
        Some(response) => print(format!("done: {}\n", String::from_utf8_lossy(response.payload()))),
        None => print("that is enough\n"),
    }
}
