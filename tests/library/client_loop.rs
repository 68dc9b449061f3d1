//! Clients in a loop of the program's own: it watches their descriptor, and nobody else waits for what comes.

use std::time::Duration;

use sidewire::{Connect, Reconnect, Server};

use crate::util::{client, fresh, start, usual, watchdog};

#[cfg(unix)]
mod descriptor {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::sync::{Arc, mpsc};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use sidewire::{Client, PollDescriptor, Running, Server, WhenSlow};

    use crate::util::fake::Fake;
    use crate::util::{all_streams, connect, start, usual, watchdog};

    const ECHO: u16 = 1;
    /// Asks its client for type 2, and publishes what that answers.
    const ASK: u16 = 2;
    const TOPIC: u16 = 3;
    const STUCK: u16 = 4;
    const PUBLISH: u16 = 5;

    fn server() -> Server<()> {
        let mut server = Server::new(());
        let remote = server.remote().expect("a remote");
        server.topic(TOPIC, WhenSlow::Disconnect);
        server.on(ECHO, |(), request, reply| {
            reply.write(request.payload());
            Ok(())
        });
        server.on(ASK, move |(), request, _| {
            let (peer, remote) = (remote.peer(request.connection().expect("a stream")), remote.clone());
            let limit = Some(Duration::from_secs(60));
            let asked = peer.call(ASK, request.payload(), limit, move |(), answer| {
                remote.publish(TOPIC, answer.expect("an answer").payload()).expect("room");
            });
            asked.map_err(sidewire::Failure::other)
        });
        server
    }

    /// Waits as a loop does that knows nothing of clients.
    fn wait(client: &Client, descriptor: &PollDescriptor) {
        let timeout = client.next_timeout().map(|left| Timespec::try_from(left).expect("a short time"));
        let room = if client.has_unsent() { PollFlags::OUT } else { PollFlags::empty() };
        match poll(&mut [PollFd::new(descriptor, PollFlags::IN | room)], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }

    fn is_readable(descriptor: &PollDescriptor) -> bool {
        let none = Timespec::try_from(Duration::ZERO).expect("no time");
        poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&none)).expect("poll") > 0
    }

    /// Replies, what the server asks, and events, all on this thread.
    #[test]
    fn all_that_comes_is_taken_in_its_turn() {
        let _watchdog = watchdog(60);
        for endpoint in all_streams() {
            let (running, bound) = start(server(), [usual(&endpoint)]);
            let asked = Arc::new(AtomicU32::new(0));
            let (here, count) = (std::thread::current().id(), Arc::clone(&asked));
            let options = connect(&bound[0]).on(ASK, move |request, reply| {
                assert_eq!(std::thread::current().id(), here);
                count.fetch_add(1, Relaxed);
                reply.write(request.payload());
                Ok(())
            });
            let client = options.open().expect("connect");
            let mut events = client.subscribe(TOPIC).expect("subscribe");
            let descriptor = client.poll_descriptor().expect("a descriptor");
            assert!(client.turn().expect("a turn") && !is_readable(&descriptor), "nothing has come");
            let mut calls: Vec<_> = (0..100u8).map(|n| client.start(ECHO, [n]).expect("start")).collect();
            assert!(client.has_unsent() && client.next_timeout().is_some());
            client.notify(ASK, "news").expect("notify");
            let (mut replies, mut news) = (Vec::new(), Vec::new());
            while replies.len() < 100 || news.is_empty() {
                wait(&client, &descriptor);
                assert!(client.turn().expect("a turn"));
                calls.retain_mut(|call| match call.poll() {
                    Some(reply) => {
                        replies.push(reply.expect("a reply").into_payload()[0]);
                        false
                    }
                    None => true,
                });
                while let Some(event) = events.next_timeout(Duration::ZERO).expect("events") {
                    news.push(event.into_payload());
                }
            }
            // Each that is looked at reads for all, so one that comes later may be seen earlier.
            replies.sort_unstable();
            assert_eq!((replies, news), ((0..100).collect(), vec![b"news".to_vec()]));
            assert_eq!(asked.load(Relaxed), 1);
            stop(running, &client, &descriptor);
        }
    }

    /// It waits for others to leave with it, and nobody but a turn sees to that.
    #[test]
    fn what_was_begun_makes_a_turn_due() {
        let _watchdog = watchdog(60);
        let (running, bound) = start(server(), [usual(&all_streams()[0])]);
        let client = connect(&bound[0]).open().expect("connect");
        let descriptor = client.poll_descriptor().expect("a descriptor");
        assert!(client.turn().expect("a turn"));
        for round in 0..3 {
            let mut call = client.start(ECHO, [round]).expect("start");
            assert_eq!(client.next_timeout(), Some(Duration::ZERO));
            let reply = loop {
                wait(&client, &descriptor);
                assert!(client.turn().expect("a turn"));
                if let Some(reply) = call.poll() {
                    break reply;
                }
            };
            assert_eq!(reply.expect("a reply").payload(), [round]);
        }
        stop(running, &client, &descriptor);
    }

    /// What a call has read besides its reply the descriptor does not tell of, and the time does.
    #[test]
    fn what_others_have_read_makes_a_turn_due() {
        let _watchdog = watchdog(60);
        for endpoint in all_streams() {
            let mut server = server();
            server.on(PUBLISH, |(), request, _| request.publish(TOPIC, request.payload()));
            let (running, bound) = start(server, [usual(&endpoint)]);
            let client = connect(&bound[0]).open().expect("connect");
            let mut events = client.subscribe(TOPIC).expect("subscribe");
            let descriptor = client.poll_descriptor().expect("a descriptor");
            client.call(PUBLISH, "news").expect("a reply");
            client.call(ECHO, "").expect("a reply, behind the event");
            assert!(!is_readable(&descriptor));
            assert_eq!(client.next_timeout(), Some(Duration::ZERO));
            assert!(client.turn().expect("a turn"));
            assert_eq!(client.next_timeout(), None);
            let event = events.next_timeout(Duration::ZERO).expect("events").expect("one");
            assert_eq!(event.payload(), b"news");
            stop(running, &client, &descriptor);
        }
    }

    /// The end is something that comes, and stays so.
    fn stop(running: Running<()>, client: &Client, descriptor: &PollDescriptor) {
        let stopping = std::thread::spawn(move || running.stop().expect("it ends well"));
        let mut turn = client.turn();
        while turn.as_ref().is_ok_and(|goes_on| *goes_on) {
            wait(client, descriptor);
            turn = client.turn();
        }
        assert!(!turn.expect("a goodbye"));
        stopping.join().expect("it has stopped");
        assert!(is_readable(descriptor) && client.next_timeout().is_none() && !client.has_unsent());
        assert!(!client.turn().expect("the same"));
    }

    /// What the system has no room for waits, and the loop is told to watch for room.
    #[test]
    fn a_turn_never_waits_for_room() {
        let _watchdog = watchdog(120);
        for endpoint in all_streams() {
            let mut server = server();
            let (go_on, stuck) = mpsc::channel::<()>();
            server.on(STUCK, move |(), _, _| stuck.recv().map_err(sidewire::Failure::other));
            let (running, bound) = start(server, [usual(&endpoint)]);
            let client = connect(&bound[0]).open().expect("connect");
            let descriptor = client.poll_descriptor().expect("a descriptor");
            client.notify(STUCK, "").expect("notify");
            let large = vec![7; 4 << 20];
            let mut call = client.start(ECHO, &large).expect("start");
            assert!(
                client.turn().expect("a turn") && client.has_unsent(),
                "4 MiB are more than there is room for"
            );
            assert!(call.poll().is_none());
            go_on.send(()).expect("it waits");
            let begun = Instant::now();
            let reply = loop {
                wait(&client, &descriptor);
                assert!(client.turn().expect("a turn") && begun.elapsed() < Duration::from_secs(60));
                if let Some(reply) = call.poll() {
                    break reply.expect("a reply");
                }
            };
            assert!(reply.into_payload() == large);
            stop(running, &client, &descriptor);
        }
    }

    /// One whose end is no goodbye is told why, and each time.
    #[test]
    fn an_end_without_goodbye_is_an_error() {
        let _watchdog = watchdog(60);
        let fake = Fake::v1(|_| {});
        let client = fake.client();
        let descriptor = client.poll_descriptor().expect("a descriptor");
        fake.join();
        wait(&client, &descriptor);
        for _ in 0..2 {
            assert!(client.turn().expect_err("no goodbye").is_peer_gone());
        }
    }
}

/// Where one descriptor would not do.
#[test]
fn clients_of_several_connections_have_no_turns() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(Server::new(()), [usual(&fresh("local"))]);
    let connect = Connect::to(bound[0].clone()).expect("an endpoint").reconnect(Reconnect::new());
    let client = connect.open().expect("connect");
    assert!(client.turn().expect_err("no turn").is_invalid_input());
    assert!(client.poll_descriptor().expect_err("none").is_invalid_input());
    assert!(client.next_timeout().is_none() && !client.has_unsent());
    drop(client);
    running.stop().expect("it ends well");
}

/// A turn needs no descriptor: it can be taken now and then.
#[test]
fn turns_are_taken_everywhere() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(crate::util::store(), [usual(&fresh("local"))]);
    let client = client(&bound[0]);
    assert_eq!(
        client.poll_descriptor().err().map(|error| error.is_unsupported()),
        (!cfg!(unix)).then_some(true)
    );
    let mut call = client.start(4, "x").expect("start");
    let reply = loop {
        assert!(client.turn().expect("a turn"));
        match call.poll() {
            Some(reply) => break reply.expect("a reply"),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    assert_eq!(reply.payload(), b"x");
    running.stop().expect("it ends well");
}
