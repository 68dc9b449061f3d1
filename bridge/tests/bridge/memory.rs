//! What a bridge holds while its server stands still.

use std::sync::mpsc;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::client::RequestErrorKind;
use futures_util::StreamExt;
use sidewire::{DESCRIPTION, Server, WhenSlow};

use crate::util::{Nats, Process, start, until, watchdog};

const ECHO: u16 = 1;
const MEGABYTE: usize = 1_000_000;

/// The most memory that it has had so far, in MB.
fn peak(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    peak.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1000
}

/// The server describes itself, and then stands still before its bridge can subscribe to its events.
#[test]
fn what_comes_before_it_serves_is_bounded() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let mut server = Server::builder(()).types(usize::from(DESCRIPTION) + 1).build().expect("a server");
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let (described, is_described) = mpsc::channel();
    server.on(DESCRIPTION, move |(), _request, reply| {
        reply.write(br#"{"messages":[{"type":1}],"events":[{"type":50}]}"#);
        let _ = described.send(());
        Ok(())
    });
    server.topic(50, WhenSlow::DropNewest);
    let running = start(server, &near);
    let serve = nats.bridge("serve", &near, &[]);
    is_described.recv().expect("it is asked");
    let (go_on, waits) = mpsc::channel::<()>();
    running.remote().with(move |()| _ = waits.recv()).expect("room");

    let stranger = nats.stranger();
    let runtime = &stranger.runtime;
    let mut answers = runtime.block_on(stranger.client.subscribe("answers")).expect("a subscription");
    let request = |subject: &'static str| {
        let request = async_nats::Request::new().timeout(Some(Duration::from_millis(500)));
        runtime.block_on(stranger.client.send_request(subject, request))
    };
    until("it hears calls", || {
        request("sw.thing.1").is_err_and(|error| error.kind() != RequestErrorKind::NoResponders)
    });
    let payload = bytes::Bytes::from(vec![b'x'; MEGABYTE]);
    let ask = |subject: &'static str, reply: &'static str| {
        let sent = stranger.client.publish_with_reply(subject, reply, payload.clone());
        runtime.block_on(sent).expect("it is sent");
    };
    // Or it is not served at the moment, where a busy machine took longer than the bridge waits for its server.
    let mut refused = || {
        let answer = runtime.block_on(answers.next()).expect("an answer");
        let rc = answer.headers.as_ref().and_then(|headers| headers.get("Sw-Rc")).map(|rc| rc.as_str());
        assert!(rc == Some("-6") || answer.status == Some(StatusCode::NO_RESPONDERS), "{answer:?}");
    };
    // 64 MiB are 67 calls. What is beyond is refused at once.
    (0..70).for_each(|_| ask("sw.thing.1", "answers"));
    (0..3).for_each(|_| refused());
    // As many as this, and none is kept: the refusal of a call behind them says that they were read.
    for _ in 0..14 {
        (0..15).for_each(|_| ask("$SRV.PING", "nobody"));
        ask("sw.thing.1", "answers");
        refused();
    }
    assert!(peak(&serve) < 220, "{} MB", peak(&serve));
    drop(go_on);
    // As soon as those questions are answered for which there was room.
    until("it answers", || request("$SRV.PING.thing").is_ok());
}
