//! A bridge that is asked to end while its broker stands still, with replies that wait.

use std::sync::mpsc;

use async_nats::Subscriber;
use futures_util::StreamExt;
use sidewire::{Responder, Running, Server, WhenSlow};

use crate::util::{Nats, Process, Stranger, start, until, watchdog};

const HELD: u16 = 1;
const FILLS: u16 = 50;
const BEHIND: u16 = 51;
/// Calls that are open: more than leave while the system yet finds a little room.
const CALLS: usize = 200;
const LEFT: &str = "left before all";

/// What is there when replies wait since the broker takes nothing.
struct Waiting {
    serve: Process,
    answers: Subscriber,
    stranger: Stranger,
    nats: Nats,
    _running: Running<()>,
}

/// Calls are taken, the broker stands still, the queue to it is full, and then the server answers. On a busy machine the bridge
/// may give the broker up before.
fn waiting() -> Waiting {
    (0..10).find_map(|_| try_waiting()).expect("its broker was lost each time")
}

fn try_waiting() -> Option<Waiting> {
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let (held, responders) = mpsc::channel::<Responder>();
    let mut server = Server::new(());
    server.on(HELD, move |(), _request, reply| {
        let _ = held.send(reply.defer()?);
        Ok(())
    });
    server.topic(FILLS, WhenSlow::DropNewest);
    server.topic(BEHIND, WhenSlow::DropNewest);
    let running = start(server, &near);
    let serve =
        nats.talkative(&nats.url(), "serve", &near, &["--types", "1", "--events", "50,51", "--shared"]);
    serve.line_with("serving thing at ");
    let stranger = nats.stranger();
    let answers = stranger.runtime.block_on(stranger.client.subscribe("answers")).expect("a subscription");
    stranger.settle();
    for _ in 0..CALLS {
        let sent = stranger.client.publish_with_reply("sw.thing.1", "answers", "".into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    let held: Vec<Responder> = responders.iter().take(CALLS).collect();
    nats.signal("-STOP");
    // Of these some are dropped on the way, where the bridge or the server is slow.
    let fill = |topic: u16, payload: &[u8]| {
        let dropped = format!("sw.thing.ev.{topic}: an event is dropped: ");
        let mut why = String::new();
        until("the queue is full", || {
            (0..1000).for_each(|_| _ = running.remote().publish(topic, payload));
            why = serve.lines.try_iter().find(|line| line.contains(&dropped)).unwrap_or_default();
            !why.is_empty()
        });
        why.ends_with("Full")
    };
    let is_full = fill(FILLS, &[0; 4000]);
    held.into_iter().for_each(|responder| responder.reply("late"));
    // On the same connection, so the replies were read before.
    let was_read = is_full && fill(BEHIND, b"");
    if !was_read {
        nats.signal("-CONT");
    }
    was_read.then_some(Waiting { serve, answers, stranger, nats, _running: running })
}

#[test]
fn who_ends_while_its_broker_stands_still_ends() {
    let _watchdog = watchdog();
    let mut waiting = waiting();
    waiting.serve.terminate();
    assert_eq!(waiting.serve.wait().code(), Some(0));
}

#[test]
fn a_broker_that_goes_on_in_time_gets_what_waits() {
    let _watchdog = watchdog();
    let mut waiting = waiting();
    waiting.serve.terminate();
    waiting.nats.signal("-CONT");
    assert_eq!(waiting.serve.wait().code(), Some(0));
    // A busy machine may have taken longer than the bridge waits.
    if waiting.serve.lines.iter().any(|line| line.contains(LEFT)) {
        return;
    }
    for _ in 0..CALLS {
        let answer = waiting.stranger.runtime.block_on(waiting.answers.next()).expect("an answer");
        assert_eq!(answer.payload, "late");
    }
}
