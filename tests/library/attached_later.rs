//! What goes with answers that come later, and is no bytes.

use sidewire::{Connect, Responder, ResultCode, Server};

use super::attachments::{Peer, connect, descriptors, listen, temporary, text_of};
use crate::util::{alone, frame, fresh, start, until, usual, watchdog};

/// Answered by another thread, with as many files as the payload says.
const LATER: u16 = 1;
/// In two parts, and a last word with a file.
const PARTS: u16 = 2;
/// Not answered before the second comes; they have a file each.
const PAIR: u16 = 3;
/// Answered at once.
const ECHO: u16 = 4;

fn server() -> Server<Vec<Responder>> {
    let mut server = Server::new(Vec::new());
    server.on(LATER, |_, request, reply| {
        let count = request.payload()[0];
        let mut responder = reply.defer()?;
        std::thread::spawn(move || {
            for number in 0..count {
                if let Err(failure) = responder.attach(temporary(&number.to_string())) {
                    return responder.fail(failure);
                }
            }
            responder.reply([count]);
        });
        Ok(())
    });
    server.on(PARTS, |_, _, reply| {
        let mut stream = reply.stream()?;
        std::thread::spawn(move || {
            assert!(stream.can_attach());
            for part in ["one", "two"] {
                stream.send(part).expect("somebody waits");
            }
            stream.attach(temporary("all of it")).expect("it may go");
            stream.reply("done");
        });
        Ok(())
    });
    server.on(PAIR, |kept, _, reply| {
        let mut responder = reply.defer()?;
        responder.attach(temporary("kept"))?;
        kept.push(responder);
        if kept.len() == 2 {
            kept.drain(..).for_each(|responder| responder.reply(""));
        }
        Ok(())
    });
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server
}

#[test]
fn files_go_with_an_answer_from_another_thread() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("local"))]);
    let client = connect(&bound[0]);
    for count in [0, 1, 16] {
        let reply = client.call(LATER, [count]).expect("a reply");
        let texts: Vec<_> = reply.take_attachments().into_iter().map(text_of).collect();
        assert_eq!(texts, (0..count).map(|number| number.to_string()).collect::<Vec<_>>());
    }
    let error = client.call(LATER, [17]).expect_err("one too many");
    assert_eq!(error.result_code(), Some(ResultCode::TOO_LARGE), "{error}");
    client.close();
    running.stop().expect("stop");
}

#[test]
fn a_file_goes_with_the_last_word_behind_parts() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("unix"))]);
    let client = connect(&bound[0]);
    let mut parts = client.stream(PARTS, "").expect("begun");
    assert_eq!(parts.next().expect("a part").expect("fine"), b"one");
    assert_eq!(parts.next().expect("a part").expect("fine"), b"two");
    assert!(parts.next().is_none());
    let response = parts.response().expect("the last word");
    assert_eq!(response.payload(), b"done");
    let mut files = response.take_attachments().into_iter();
    assert_eq!(files.next().map(text_of).as_deref(), Some("all of it"));
    client.close();
    running.stop().expect("stop");
}

#[test]
fn a_client_that_takes_none_is_told_so() {
    let _watchdog = watchdog(30);
    let (running, bound) = start(server(), [listen(&fresh("unix")), usual(&fresh("unix"))]);
    for (endpoint, takes) in [(&bound[0], false), (&bound[1], true)] {
        let client = Connect::to(endpoint.clone()).expect("an endpoint").attachments(takes).open();
        let client = client.expect("connect");
        let error = client.call(LATER, [1]).expect_err("it can't go");
        assert_eq!(error.result_code(), Some(ResultCode::FEATURE_MISSING), "{error}");
        assert_eq!(client.call(LATER, [0]).expect("nothing is to go").payload(), [0]);
    }
    running.stop().expect("stop");
}

/// Whoever works on a call that nobody waits for any more need not know.
#[test]
fn what_nobody_waits_for_is_closed() {
    let _watchdog = watchdog(30);
    alone("attached_later::what_nobody_waits_for_is_closed", || {
        let (running, bound) = start(server(), [listen(&fresh("unix"))]);
        let client = connect(&bound[0]);
        client.call(LATER, [1]).expect("what is only made once");
        client.call(ECHO, "").expect("the server has closed what it sent");
        let before = descriptors();
        drop(client.start(PAIR, "").expect("begun"));
        drop(client.start(PAIR, "").expect("begun"));
        client.call(ECHO, "").expect("they have come");
        // Something of the start may have been open before.
        until("all are closed", || descriptors() <= before);
        client.close();
        running.stop().expect("stop");
    });
}

/// As with answers that come at once.
#[test]
fn one_that_does_not_read_has_few_wait_for_him() {
    let _watchdog = watchdog(60);
    alone("attached_later::one_that_does_not_read_has_few_wait_for_him", || {
        let server = server();
        let counters = server.counters();
        let (running, bound) = start(server, [listen(&fresh("unix"))]);
        let (peer, other) = (Peer::new(&bound[0], true), connect(&bound[0]));
        other.call(ECHO, "").expect("it is let in");
        let before = descriptors();
        (1..=900).for_each(|id| peer.send(&frame(1, PAIR, id, 0, b""), &[]));
        until("all have come", || counters.requests() >= 900);
        // The first may be answered in the turn in which the last answers have come, before them.
        for _ in 0..2 {
            other.call(ECHO, "").expect("all are answered");
        }
        let open = descriptors() - before;
        assert!(open <= 256, "{open}");
        let rcs: Vec<_> = (0..900).map(|_| peer.next().expect("a reply").1).collect();
        let fine = rcs.iter().filter(|rc| **rc == 0).count();
        assert!(rcs.iter().all(|rc| [0, -6].contains(rc)) && (240..900).contains(&fine), "{fine}");
        other.close();
        drop(peer);
        running.stop().expect("stop");
    });
}
