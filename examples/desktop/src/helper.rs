//! The other process: what takes long, and what may crash.

use std::thread;
use std::time::Duration;

use sidewire::{Failure, Remote, ReplyStream, ResultCode, Server, Unsent, WhenSlow};

/// The argument that makes the program its own helper.
pub const ROLE: &str = "--as-helper";

/// Develops so many pictures. Each is a part of the reply: its number.
pub const DEVELOP: u16 = 1;
/// A topic: how many pictures this process has developed.
pub const DEVELOPED: u16 = 2;
/// A bug.
pub const CRASH: u16 = 3;

/// How long a picture takes.
const BATH: Duration = Duration::from_millis(100);

pub fn run() -> sidewire::Result<()> {
    let mut server = Server::from_parent(0_u32)?; // the state: how many pictures
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
        eprintln!("the developer has run out"); // its last words
        std::process::abort()
    });
    server.run() // until the window is closed, or its process is gone
}

/// The error: nobody waits for the pictures any more.
fn develop(pictures: u32, mut stream: ReplyStream, remote: &Remote<u32>) -> Result<(), Unsent> {
    let cancellation = stream.cancellation();
    for picture in 1..=pictures {
        if let Some(why) = cancellation.wait(BATH) {
            println!("cancelled at picture {picture}: {why:?}"); // gets into the app's log
            return Err(Unsent::Unwanted(why));
        }
        stream.send(picture.to_string())?;
        // The state belongs to the loop's thread.
        let tell = remote.clone();
        let _ = remote.with(move |count: &mut u32| {
            *count += 1;
            let _ = tell.publish(DEVELOPED, count.to_string());
        });
    }
    stream.reply("");
    Ok(())
}
