//! An app and its helper in one file, with messages that are Rust types: progress, cancelling, events, and a crash.
//!
//!     app          (starts itself once more, as its own helper)

mod support;

use std::process::{Command, ExitCode};
use std::{env, error::Error, thread, time::Duration};

use serde::{Deserialize, Serialize};
use sidewire::typed::{Part, Responder};
use sidewire::{Helper, Restart, Server, WhenSlow};
use support::{finish, print};

#[derive(Serialize, Deserialize)]
struct Develop(u32);
#[derive(Serialize, Deserialize)]
struct Ready(u32);
#[derive(Serialize, Deserialize)]
struct Crash;
#[derive(Debug, Serialize, Deserialize)]
enum News {
    Developed(u32),
    Cancelled,
}

// What both sides agree on. Where app and helper are two programs it stands in a crate that both have.
sidewire::messages! {
    1 => Develop -> u32, progress Ready;
    2 => Crash;
}
sidewire::events! { 1 => News; }

fn main() -> ExitCode {
    let result = match &env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => Some(app()),
        [role] if role == "as-helper" => Some(helper().map_err(Into::into)),
        _ => None,
    };
    finish("app", "usage: app", result)
}

fn app() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("as-helper");
    let helper = Helper::builder(command).restart(Restart::new()).spawn()?; // and it is ready
    let states = helper.states(); // a user interface would show these at once
    let mut news = helper.subscribe_to::<News>()?;
    let mut print_news = || match news.next_timeout(Duration::from_secs(10))? {
        Some(news) => print(format!("news: {:?}\n", *news)),
        None => Err("no news".into()),
    };
    // All of it, with progress.
    for part in helper.asking(&Develop(2)).stream()? {
        match part? {
            Part::Progress(Ready(picture)) => print(format!("picture {picture}\n"))?,
            Part::Reply(pictures) => print(format!("all {pictures}\n"))?,
        }
    }
    print_news()?;
    // Enough of it: dropped before its end it is cancelled, and the helper hears of it.
    let first_part = helper.asking(&Develop(1_000_000)).stream()?.next();
    first_part.transpose()?;
    print_news()?;
    // A crash in the middle. Pictures may be developed twice, so this is sent again, to the next helper.
    let pending = helper.asking(&Develop(3)).idempotent().start()?;
    helper.asking(&Crash).tell()?;
    print(format!("all {}, in spite of a crash\n", pending.wait()?))?;
    helper.stop()?;
    for state in states {
        print(format!("state: {}\n", state.to_string().split(" in ").next().unwrap_or_default()))?;
    }
    Ok(())
}

/// The other process. Its handlers run on one thread; what takes long gets a thread of its own.
fn helper() -> sidewire::Result<()> {
    let mut server = Server::from_parent(())?;
    let remote = server.remote()?;
    server.publishes::<News>(WhenSlow::KeepLatest);
    server.serve::<Crash>(|(), _| std::process::abort());
    server.serve_later::<Develop>(move |(), Develop(pictures), _, responder| {
        let remote = remote.clone();
        // That nobody can be told any more is fine.
        thread::spawn(move || drop(remote.publish_event(&develop(pictures, responder))));
    });
    server.run() // until the app needs it no more, or is gone
}

fn develop(pictures: u32, mut responder: Responder<Develop>) -> News {
    for picture in 1..=pictures {
        thread::sleep(Duration::from_millis(50)); // the work
        if responder.progress(Ready(picture)).is_err() {
            return News::Cancelled; // nobody waits for it any more
        }
    }
    responder.reply(pictures);
    News::Developed(pictures)
}
