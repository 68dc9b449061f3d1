//! This test binary as its own child: what it is then, and does, a variable says.

use std::io::Write;
use std::process::{self, Command};
use std::time::Duration;
use std::{env, thread};

use sidewire::{Helper, Restart, Server};
use sidewire_platform::{Channel, ParentChannel};

use crate::util::{PATIENCE, hello};

const ROLE: &str = "SIDEWIRE_HELPER_ROLE";

pub(crate) const ECHO: u16 = 1;
/// Answers with the process's id.
pub(crate) const ID: u16 = 2;
/// Answers when everything ends.
pub(crate) const SILENCE: u16 = 3;
/// With this status, at once.
pub(crate) const EXIT: u16 = 4;
/// To standard error.
pub(crate) const PRINT: u16 = 5;
/// Starts a process that sleeps, answers with its id, and keeps the loop busy from then on.
pub(crate) const BUSY: u16 = 6;

/// Such a child.
pub(crate) fn own(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the test binary"));
    command.args(["--exact", "child::role", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// Nothing, unless it was started as a child.
#[test]
fn role() {
    let Ok(role) = env::var(ROLE) else { return };
    println!(); // The test harness has begun a line of its own.
    match &*role {
        "serves" => serve(),
        "crashes" => {
            eprintln!("it hurts");
            process::exit(9);
        }
        "floods" => {
            flood();
            serve();
        }
        "never ready" => {
            eprintln!("here");
            sleep();
        }
        "garbage first" => {
            say(&channel(), b"GET / HTTP/1.1\r\n\r\n");
            sleep();
        }
        "garbage later" => {
            say(&shaken(), b"this is no frame, whatever you read into it: it is garbage");
            sleep();
        }
        "closes" => {
            drop(shaken());
            sleep();
        }
        "sleeps" => {
            println!("asleep");
            sleep();
        }
        "parent" => parent(),
        #[cfg(feature = "describe")]
        "describes" => crate::contracts::serve(),
        role => panic!("no role: {role:?}"),
    }
    process::exit(0);
}

fn sleep() {
    thread::sleep(Duration::from_secs(600));
}

fn serve() {
    let mut server = Server::from_parent(Vec::new()).expect("a parent");
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(ID, |_, _, reply| {
        reply.write(process::id().to_string());
        Ok(())
    });
    server.on(SILENCE, |silent, _, reply| {
        silent.push(reply.defer()?);
        Ok(())
    });
    server.on(EXIT, |_, request, _| process::exit(text(request.payload()).parse().expect("a number")));
    server.on(PRINT, |_, request, _| {
        eprintln!("{}", text(request.payload()));
        Ok(())
    });
    server.on(BUSY, |_, request, reply| {
        if request.payload().is_empty() {
            sleep();
        }
        reply.write(start_a_sleeper().to_string());
        Ok(())
    });
    server.run().expect("its parent's end");
}

/// A child of the helper's own, which nobody waits for.
#[allow(clippy::zombie_processes, reason = "it is to outlive everybody here, and must not")]
fn start_a_sleeper() -> u32 {
    own("sleeps").spawn().expect("a child").id()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn flood() {
    let (line, mut to) = ([b'x'; 79], std::io::stderr().lock());
    let chunk = [&line[..], b"\n"].concat().repeat(1000);
    for _ in 0..1250 {
        to.write_all(&chunk).expect("somebody reads");
    }
    writeln!(to, "done").expect("somebody reads");
}

fn channel() -> Channel {
    let parent = ParentChannel::take().expect("a channel").expect("a parent");
    parent.into_channel().expect("a channel")
}

/// A channel on which both have said hello, and a first request has come.
fn shaken() -> Channel {
    let channel = channel();
    say(&channel, &hello(1, 1));
    let mut have = 0;
    while have < 72 + 16 {
        match channel.recv(&mut [0; 1024], Some(PATIENCE)).expect("an answer, and a request") {
            0 => process::exit(0),
            count => have += count,
        }
    }
    channel
}

fn say(channel: &Channel, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        bytes = &bytes[channel.send(bytes, Some(PATIENCE)).expect("room")..];
    }
}

/// Has a helper, whose handler is busy, and which has a child of its own; says who they are, and sleeps.
fn parent() {
    let helper = Helper::builder(own("serves")).restart(Restart::new()).spawn().expect("a helper");
    let sleeper = helper.call(BUSY, "start").expect("it has a child").into_payload();
    let busy = helper.start(BUSY, "").expect("started");
    helper.client().flush().expect("sent");
    println!("helper {}", helper.id().expect("it runs"));
    println!("its {}", text(&sleeper));
    sleep();
    drop(busy);
}
