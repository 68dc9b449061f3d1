//! What a server that asks others in turn has to know of a request, and to say of events that come from elsewhere.

use std::time::Duration;

use sidewire::{Client, Connect, Events, Failure, ResultCode, Server, WhenSlow};

use crate::util::{fresh, start, usual, watchdog};

const LIMIT: u16 = 1;
const REFUSE: u16 = 2;
const NEWS: u16 = 3;
const SOON: Duration = Duration::from_secs(60);

/// Says how long its callers wait, and refuses with a text or with data.
fn server() -> Server<()> {
    let mut server = Server::new(());
    server.on(LIMIT, |(), request, reply| {
        reply.write(format!("{:?}", request.timeout()));
        Ok(())
    });
    server.on(REFUSE, |(), request, reply| match request.payload() {
        b"text" => Err(Failure::new(7, "no more of it")),
        data => {
            reply.set_result(7);
            reply.write(data);
            Ok(())
        }
    });
    server.topic(NEWS, WhenSlow::DropNewest);
    server
}

#[test]
fn a_handler_knows_how_long_its_caller_waits() {
    let _watchdog = watchdog(120);
    let (_running, bound) = start(server(), [usual(&fresh("local"))]);
    let endpoint = &bound[0];
    let client = Client::connect(endpoint).expect("a client");
    let limit = |timeout: Option<Duration>| {
        let response = client.request(LIMIT).timeout(timeout).send("").expect("an answer");
        String::from_utf8(response.into_payload()).expect("text")
    };
    assert_eq!(limit(Some(Duration::from_secs(61))), "Some(61s)");
    assert_eq!(limit(None), "None");
    // Of a reply in parts each part may take so long, and the server is told nothing.
    let mut parts = client.request(LIMIT).timeout(SOON).stream("").expect("a call");
    assert!(parts.next().is_none());
    assert_eq!(parts.response().expect("it was fine").payload(), b"None");
    let classic = Connect::to(endpoint).expect("an endpoint").classic().open().expect("a client");
    assert_eq!(classic.call(LIMIT, "").expect("an answer").payload(), b"None");
}

#[test]
fn an_error_says_whether_its_bytes_explain_it() {
    let _watchdog = watchdog(120);
    let (_running, bound) = start(server(), [usual(&fresh("local"))]);
    let endpoint = &bound[0];
    let client = Client::connect(endpoint).expect("a client");
    let refused = |payload: &str| client.call(REFUSE, payload).expect_err("it is refused");
    for (payload, bytes, explains) in [("text", "no more of it", true), ("data", "data", false)] {
        let error = refused(payload);
        assert_eq!(error.result_code(), Some(ResultCode::new(7)), "{error}");
        assert_eq!((error.payload(), error.is_explanation()), (bytes.as_bytes(), explains), "{error}");
    }
}

#[test]
fn subscribers_hear_of_events_that_were_lost_before_they_came_here() {
    let _watchdog = watchdog(120);
    let (running, bound) = start(server(), [usual(&fresh("local"))]);
    let endpoint = &bound[0];
    let remote = running.remote();
    let listen = || {
        let client = Client::connect(endpoint).expect("a client");
        let events = client.subscribe(NEWS).expect("a topic");
        (client, events)
    };
    let next = |events: &mut Events| {
        let event = events.next_timeout(SOON).expect("the connection is good").expect("an event in time");
        (event.sequence(), event.dropped(), event.into_payload())
    };
    let (_one, mut early) = listen();
    remote.publish(NEWS, "a").expect("there is room");
    remote.publish_behind(3, NEWS, "b").expect("there is room");
    assert_eq!([next(&mut early), next(&mut early)], [(1, 0, b"a".to_vec()), (2, 3, b"b".to_vec())]);
    // What was lost before somebody came is nothing that he has missed.
    let (_other, mut late) = listen();
    remote.publish(NEWS, "c").expect("there is room");
    assert_eq!(next(&mut early), (3, 0, b"c".to_vec()));
    assert_eq!(next(&mut late), (1, 0, b"c".to_vec()));
}
