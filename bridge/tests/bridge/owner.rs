//! Who serves an app.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sidewire::Server;

use crate::util::{Line, Nats, client, start, until, watchdog};

const WHICH: u16 = 1;

/// Says which one it is, and keeps what it was asked.
fn server(name: &'static str, asked: Arc<Mutex<HashMap<Vec<u8>, Vec<&'static str>>>>) -> Server<()> {
    let mut server = Server::new(());
    server.on(WHICH, move |(), request, reply| {
        asked.lock().expect("whole").entry(request.payload().to_vec()).or_default().push(name);
        reply.write(name);
        Ok(())
    });
    server
}

#[test]
fn a_second_one_is_refused_and_names_the_first() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server("first", Arc::default()));
    let near = line.nats.endpoint("second");
    let _second = start(server("second", Arc::default()), &near);
    for more in [&["--types", "1"][..], &["--types", "1", "--shared"]] {
        let mut second = line.nats.bridge("serve", &near, more);
        second.line_with(&format!("(process {} of its machine) serves it", line.serve.id()));
        assert_eq!(second.wait().code(), Some(1));
    }
    assert_eq!(line.client.call(WHICH, "").expect("an answer").payload(), b"first");
    // When it has gone another may.
    line.serve.terminate();
    let mut serve = line.serve;
    assert_eq!(serve.wait().code(), Some(0));
    let _next = line.nats.serve(&near, &[]);
    assert_eq!(line.client.call(WHICH, "").expect("an answer").payload(), b"second");
}

#[test]
fn of_two_that_start_at_once_one_serves() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let _running = start(server("one", Arc::default()), &near);
    for _ in 0..3 {
        let mut both = [0, 1].map(|_| nats.bridge("serve", &near, &["--types", "1"]));
        let mut ended = [None, None];
        until("one of them is refused", || {
            for (process, ended) in both.iter_mut().zip(&mut ended) {
                *ended = process.ended();
            }
            ended.iter().any(Option::is_some)
        });
        let lost = ended.iter().position(Option::is_some).expect("one of them");
        assert_eq!(ended[lost].and_then(|status| status.code()), Some(1));
        both[1 - lost].line_with("serving thing at ");
        both[lost].line_with("an app is served by one");
        assert!(both[1 - lost].ended().is_none());
        both[1 - lost].terminate();
        assert_eq!(both[1 - lost].wait().code(), Some(0));
    }
}

/// A broker that was away knows nothing of who serves: the one who did goes on, and a second one is refused as before.
#[test]
fn a_broker_that_comes_back_finds_the_same_owner() {
    let _watchdog = watchdog();
    let (mut line, _running) = Line::to(server("first", Arc::default()));
    line.nats.kill();
    line.serve.line_with("the connection is lost");
    line.nats.start_again();
    line.serve.line_with("connected again");
    let mut second = line.nats.bridge("serve", &line.near, &["--types", "1"]);
    second.line_with("serves it");
    assert_eq!(second.wait().code(), Some(1));
    until("it is served again", || line.client.call(WHICH, "").is_ok());
}

#[test]
fn a_group_shares_the_calls_and_does_none_of_them_twice() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let asked = Arc::default();
    let near = ["one", "other"].map(|name| nats.endpoint(name));
    let one = start(server("one", Arc::clone(&asked)), &near[0]);
    let _other = start(server("other", Arc::clone(&asked)), &near[1]);
    let bridges = near.each_ref().map(|near| nats.serve(near, &["--shared"]));
    let (_connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let ask = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            client.call(WHICH, n.to_le_bytes()).expect("an answer");
        }
    };
    ask(0..1000);
    {
        let asked = asked.lock().expect("whole");
        assert_eq!(asked.len(), 1000);
        assert!(asked.values().all(|who| who.len() == 1), "one was done twice");
        let by_one = asked.values().filter(|who| **who == ["one"]).count();
        assert!((100..=900).contains(&by_one), "{by_one} of 1,000");
    }
    // One that stands alone may not come between.
    let mut alone = nats.bridge("serve", &near[0], &["--types", "1"]);
    alone.line_with("serves it with --shared");
    assert_eq!(alone.wait().code(), Some(1));
    // Where a server goes its bridge leaves the group, and the other one has all.
    one.stop().expect("it ends");
    bridges[0].line_with("is not served until it is back");
    ask(1000..1100);
    let asked = asked.lock().expect("whole");
    assert!((1000..1100_u32).all(|n| asked[&n.to_le_bytes()[..]] == ["other"]));
}
