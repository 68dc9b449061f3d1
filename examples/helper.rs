//! A program and its helper in one file: slow work with progress, which can be cancelled, an event, and a crash that
//! is survived.
//!
//!     helper          (starts itself once more, as its own helper)

mod support;

use std::error::Error;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use sidewire::{Failure, Helper, Remote, ReplyStream, Restart, ResultCode, Server, Unsent, WhenSlow};
use support::{finish, print};

/// Develops so many pictures; each is a part of the reply.
const DEVELOP: u16 = 1;
/// A topic: how many pictures were developed in all.
const DEVELOPED: u16 = 2;
/// A bug in the helper.
const CRASH: u16 = 3;

const USAGE: &str = "usage: helper";
/// What tells the helper that it is one.
const AS_HELPER: &str = "as-helper";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let result = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => app(),
        [role] if role == AS_HELPER => helper(),
        _ => return finish("helper", USAGE, None),
    };
    finish("helper", USAGE, Some(result))
}

fn app() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(AS_HELPER);
    let pauses = Restart::new().pauses(Duration::from_millis(100), Duration::from_secs(10));
    let helper = Helper::builder(command).name("darkroom").restart(pauses).spawn()?;
    // A user interface would show these, from a thread of its own.
    let states = helper.states();
    let mut developed = helper.subscribe(DEVELOPED)?;

    // All of it, with progress.
    for picture in helper.stream(DEVELOP, "3")? {
        print(format!("{}\n", String::from_utf8_lossy(&picture?)))?;
    }
    if let Some(event) = developed.next_timeout(Duration::from_secs(10))? {
        print(format!("event: {} in all\n", String::from_utf8_lossy(event.payload())))?;
    }

    // Enough of it: dropped before its end it is cancelled, and the helper hears of it.
    let mut pictures = helper.stream(DEVELOP, "1000000")?;
    if let Some(picture) = pictures.next() {
        print(format!("{}: that is enough\n", String::from_utf8_lossy(&picture?)))?;
    }
    drop(pictures);

    // A crash: what was under way is told how the helper ended, and what comes next waits for another one.
    let Err(error) = helper.call(CRASH, "") else { return Err("it should have crashed".into()) };
    print(format!("crashed: {}\n", error.last_words().last().map_or("without a word", String::as_str)))?;
    for picture in helper.stream(DEVELOP, "1")? {
        print(format!("{}\n", String::from_utf8_lossy(&picture?)))?;
    }
    helper.stop()?;
    for state in states {
        let state = state.to_string();
        print(format!("state: {}\n", state.split(" in ").next().unwrap_or_default()))?;
    }
    Ok(())
}

/// The other process. Its handlers run on one thread; what takes long gets a thread of its own.
fn helper() -> Result<(), Box<dyn Error>> {
    let mut server = Server::from_parent(0_u32)?;
    let remote = server.remote()?;
    server.topic(DEVELOPED, WhenSlow::KeepLatest);
    server.on(DEVELOP, move |_count, request, reply| {
        let text = std::str::from_utf8(request.payload())?;
        let pictures = text.parse().map_err(|_| Failure::new(ResultCode::MALFORMED, "how many pictures?"))?;
        let (stream, remote) = (reply.stream()?, remote.clone());
        thread::spawn(move || develop(pictures, stream, &remote));
        Ok(())
    });
    server.on(CRASH, |_count, _request, _reply| {
        eprintln!("the fixer is empty");
        std::process::abort()
    });
    server.run()?; // until the app needs it no more, or is gone
    Ok(())
}

/// The error: nobody waits for it any more.
fn develop(pictures: u32, mut stream: ReplyStream, remote: &Remote<u32>) -> Result<(), Unsent> {
    let cancellation = stream.cancellation();
    for picture in 1..=pictures {
        if let Some(why) = cancellation.wait(Duration::from_millis(50)) {
            return Err(Unsent::Unwanted(why));
        }
        stream.send(format!("picture {picture} of {pictures}"))?;
    }
    // The state belongs to the loop's thread.
    let tell = remote.clone();
    let _ = remote.with(move |count: &mut u32| {
        *count += pictures;
        let _ = tell.publish(DEVELOPED, count.to_string());
    });
    stream.reply("");
    Ok(())
}
