//! Helpers that use the library: the child is this test binary once more, in a role.

use std::process::Command;
#[cfg(unix)]
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sidewire::{Client, Connect, Endpoint, Failure, Helper, Reconnect, ResultCode, Server, WhenSlow};

#[cfg(unix)]
use crate::util::until;
use crate::util::{fresh, watchdog};

const ROLE: &str = "SIDEWIRE_TEST_ROLE";

const ECHO: u16 = 1;
const WHO: u16 = 2;
const COUNT: u16 = 3;
const ASK: u16 = 4;
const TICK: u16 = 5;
const TAKEN: u16 = 6;
const DONE: u16 = 7;

fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args(["--exact", "inherited::child", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// What a child says that has no parent of ours.
fn said(command: &mut Command) -> String {
    let output = command.output().expect("run it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Does nothing unless it was started as a child.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let roles = ["serves", "calls", "listens", "outlives", "reports its end", "starts", "orphan"];
    let named = roles.into_iter().find_map(|name| Some((name, role.strip_prefix(name)?.trim_start())));
    match named.expect("a role") {
        ("serves", _) => serves(),
        ("calls", _) => calls(),
        ("listens", endpoint) => listens(endpoint),
        ("outlives", endpoint) => {
            sidewire::outlive_parent();
            listens(endpoint);
        }
        ("reports its end", path) => {
            let mut server = Server::from_parent(()).expect("a parent");
            server.run().expect("the parent's end");
            std::fs::write(path, "in order").expect("write");
        }
        ("starts", role) => {
            let helper = Helper::spawn(command(role)).expect("a helper");
            println!("\nstarted {}", helper.id().expect("it runs"));
            // Until it is killed.
            let _ = std::io::read_to_string(std::io::stdin());
        }
        ("orphan", _) => println!(
            "{}\n{}",
            Server::from_parent(()).expect_err("no parent"),
            Client::from_parent().expect_err("no parent")
        ),
        role => panic!("no role: {role:?}"),
    }
}

fn serves() {
    let mut server = Server::from_parent(0).expect("a parent");
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(WHO, |_, request, reply| {
        let credentials = request.peer().credentials().ok_or(Failure::from(ResultCode::new(1)))?;
        let pid = credentials.pid().map_or_else(|| "?".into(), |pid| pid.to_string());
        reply.write(format!("{} {pid} {}", request.endpoint(), credentials.user()));
        Ok(())
    });
    server.on(TAKEN, |_, _, reply| {
        let again = Server::from_parent(()).expect_err("a process has one");
        reply.write(again.to_string());
        Ok(())
    });
    server.topic(TICK, WhenSlow::DropNewest);
    server.on(COUNT, |count, request, reply| {
        *count += 1;
        request.publish(TICK, count.to_string())?;
        reply.write(count.to_string());
        Ok(())
    });
    let remote = server.remote().expect("a loop");
    let (has_come, parents) = mpsc::channel();
    server.on_connect(move |_, connection| has_come.send(connection.id()).expect("the test"));
    server.on(ASK, move |_, _, reply| {
        let (responder, parent) = (reply.defer()?, parents.try_recv().expect("it came first"));
        remote.peer(parent).call(DONE, "helper", Duration::from_secs(50), move |_, answer| {
            let answer = answer.expect("an answer").payload();
            responder.reply(answer);
        })?;
        Ok(())
    });
    server.run().expect("the parent's end");
    println!("served {}", server.state());
}

fn calls() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let connect = Connect::from_parent().on(ECHO, move |request, reply| {
        count.fetch_add(1, Ordering::Relaxed);
        reply.write(request.payload());
        Ok(())
    });
    let refused = connect.clone().classic().open_raw().expect_err("frames are expected");
    assert!(refused.is_invalid_input(), "{refused}");
    let refused = connect.clone().reconnect(Reconnect::new()).open().expect_err("there is one channel");
    assert!(refused.is_invalid_input(), "{refused}");
    let parent = connect.open().expect("a parent");
    assert_eq!(parent.endpoint(), &Endpoint::Unnamed("parent".into()));
    assert_eq!(parent.call(WHO, "").expect("an answer").payload(), b"parent");
    parent.call(DONE, "").expect("an answer");
    // From here on it only serves.
    let end = parent.run();
    println!("asked {} {end:?}", asked.load(Ordering::Relaxed));
}

/// Has another endpoint, and so goes on when its parent's channel has ended.
fn listens(endpoint: &str) {
    let mut server = Server::from_parent(()).expect("a parent");
    server.listen(endpoint).expect("listen");
    let remote = server.remote().expect("a loop");
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(DONE, move |(), _, _| {
        remote.stop().map_err(|error| Failure::new(ResultCode::new(1), error.to_string()))
    });
    server.run().expect("an end");
}

/// PROTOCOL I1, I3, I4, I7
#[test]
fn a_server_serves_its_parent_and_asks_it() {
    let _watchdog = watchdog(60);
    let helper = Helper::builder(command("serves")).name("echo").on(DONE, |request, reply| {
        reply.write(request.payload().to_ascii_uppercase());
        Ok(())
    });
    let helper = helper.spawn().expect("a helper");
    assert_eq!(helper.call(ECHO, "hello").expect("an answer").payload(), b"hello");
    let large = vec![7; 3 << 20];
    assert_eq!(helper.call(ECHO, &large).expect("an answer").into_payload(), large);
    let who = String::from_utf8(helper.call(WHO, "").expect("an answer").into_payload()).expect("text");
    let us = std::process::id().to_string();
    assert!(who.starts_with("parent ") && who.split(' ').nth(1) == Some(&us), "{who}, we are {us}");
    let child = helper.client().peer();
    assert_eq!(child.credentials().and_then(|known| known.pid()), helper.id());
    assert!(who.ends_with(&child.credentials().expect("known").user().to_string()), "the same user: {who}");
    assert_eq!(helper.call(ASK, "").expect("it has asked us").payload(), b"HELPER");
    let mut ticks = helper.subscribe(TICK).expect("a topic");
    helper.call(COUNT, "").expect("an answer");
    assert_eq!(ticks.next().expect("an event").expect("an event").payload(), b"1");
    let again = helper.call(TAKEN, "").expect("an answer").into_payload();
    assert!(String::from_utf8_lossy(&again).contains("taken before"), "{again:?}");
    helper.stop().expect("its run has returned");
    let error = helper.call(ECHO, "").expect_err("stopped");
    assert!(error.is_closed(), "{error}");
}

/// PROTOCOL I6
#[test]
fn a_server_with_nobody_else_ends_with_the_channel() {
    let _watchdog = watchdog(60);
    let helper = Helper::spawn(command("serves")).expect("a helper");
    helper.call(COUNT, "").expect("an answer");
    helper.client().close();
    let last = helper.states().last().expect("a last state");
    assert!(last.is_final(), "{last}");
}

#[test]
fn a_client_calls_its_parent_and_is_asked() {
    let _watchdog = watchdog(60);
    let (has_come, done) = mpsc::channel();
    let helper = Helper::builder(command("calls"))
        .on(WHO, |_, reply| {
            reply.write("parent");
            Ok(())
        })
        .on(DONE, move |_, _| {
            has_come.send(()).expect("the test");
            Ok(())
        });
    let helper = helper.spawn().expect("a helper");
    done.recv_timeout(Duration::from_secs(50)).expect("its call");
    for payload in ["one", "two"] {
        assert_eq!(helper.call(ECHO, payload).expect("an answer").payload(), payload.as_bytes());
    }
    helper.stop().expect("its run has returned");
}

#[test]
fn a_server_that_others_reach_outlives_the_channel() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let helper = Helper::spawn(command(&format!("listens {endpoint}"))).expect("a helper");
    assert_eq!(helper.call(ECHO, "1").expect("an answer").payload(), b"1");
    let other = Client::connect(endpoint).expect("connect");
    assert_eq!(other.call(ECHO, "2").expect("an answer").payload(), b"2");
    other.call(DONE, "").expect("an answer");
    assert!(helper.states().last().expect("a last state").is_final());
}

#[test]
fn what_is_missing_is_said() {
    let text = said(command("orphan").env_remove("SIDEWIRE_CHANNEL"));
    let missing = "not started by a parent: SIDEWIRE_CHANNEL is not set";
    assert!(text.contains(&format!("serve parent: {missing}")), "{text}");
    assert!(text.contains(&format!("connect to parent: {missing}")), "{text}");
    for text in ["7", "fd:x", "", "pipe:"] {
        let said = said(command("orphan").env("SIDEWIRE_CHANNEL", text));
        assert!(said.contains("which means nothing here"), "{text:?}: {said}");
    }
}

/// As a grandchild has it, whose parent did not mean it.
///
/// PROTOCOL I2
#[test]
#[cfg(unix)] // On Windows the variable is removed.
fn what_is_meant_for_another_process_is_said() {
    let text = said(command("orphan").env("SIDEWIRE_CHANNEL", "fd:3:1"));
    assert!(text.contains("inherited from another process"), "{text}");
}

/// A process that has started a helper in this role, and which is killed by whoever drops this.
#[cfg(unix)]
struct Middle(std::process::Child);

#[cfg(unix)]
impl Middle {
    fn start(role: &str) -> Middle {
        use std::io::BufRead;

        let mut middle = command(&format!("starts {role}"));
        let middle = middle.stdin(Stdio::piped()).stdout(Stdio::piped()).env_remove("SIDEWIRE_CHANNEL");
        let mut middle = Middle(middle.spawn().expect("a process"));
        let output = middle.0.stdout.take().expect("it is piped");
        let mut lines = std::io::BufReader::new(output).lines();
        assert!(lines.any(|line| line.expect("a line").starts_with("started ")), "it has started none");
        // It is killed before it writes more.
        middle
    }
}

#[cfg(unix)]
impl Drop for Middle {
    fn drop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("its end");
    }
}

/// On Windows the system ends it together with its parent.
#[test]
#[cfg(unix)]
fn a_server_whose_parent_is_killed_ends_in_order() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("end");
    drop(Middle::start(&format!("reports its end {}", path.display())));
    until("its end", || std::fs::read(&path).is_ok_and(|text| text == b"in order"));
}

#[test]
#[cfg(unix)]
fn one_that_says_so_outlives_its_parent() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let middle = Middle::start(&format!("outlives {endpoint}"));
    let other = Client::connect(&endpoint).expect("connect");
    drop(middle);
    // Longer than others are left.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        other.call(ECHO, "").expect("an answer");
    }
    other.call(DONE, "").expect("an answer");
}

/// Whether its parent has closed the channel or has gone makes a difference only to this one.
#[test]
#[cfg(unix)]
fn a_server_that_listens_ends_with_its_parent_all_the_same() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let middle = Middle::start(&format!("listens {endpoint}"));
    let other = Client::connect(&endpoint).expect("connect");
    other.call(ECHO, "").expect("an answer");
    drop(middle);
    until("its end", || other.call(ECHO, "").is_err());
    until("its end", || Client::connect(&endpoint).is_err_and(|error| error.is_not_listening()));
}
