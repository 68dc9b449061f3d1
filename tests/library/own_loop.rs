//! Servers in a loop that is not their own: it watches their descriptor, and asks after their time limits.

use sidewire::Server;

#[cfg(unix)]
mod descriptor {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use sidewire::{Limits, Listen, PollDescriptor, Server};

    use crate::util::{Raw, all_streams, client, fresh, store, store_with, usual, watchdog};

    const ECHO: u16 = 4;

    /// Waits as a loop does that knows nothing of servers. Says whether the descriptor was readable.
    fn wait(descriptor: &PollDescriptor, timeout: Option<Duration>) -> bool {
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).expect("a short time"));
        let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => false,
            polled => polled.expect("poll") > 0,
        }
    }

    /// Is that loop until the server has stopped or `is_done`.
    fn drive<S>(server: &mut Server<S>, mut is_done: impl FnMut() -> bool) {
        let descriptor = server.poll_descriptor().expect("a descriptor");
        while !is_done() {
            wait(&descriptor, server.next_timeout());
            if !server.turn(Some(Duration::ZERO)).expect("a turn") {
                return;
            }
        }
    }

    /// More at once than a turn does.
    #[test]
    fn what_a_turn_leaves_is_done_in_the_next() {
        let _watchdog = watchdog(60);
        for endpoint in all_streams() {
            let mut limits = Limits::default();
            limits.turn_frames = 1;
            let mut server = store_with(limits);
            let bound = server.listen(usual(&endpoint)).expect("listen");
            let remote = server.remote().expect("a remote");
            thread::scope(|scope| {
                scope.spawn(|| {
                    let client = client(&bound);
                    let calls: Vec<_> = (0..200).map(|_| client.start(ECHO, "x").expect("start")).collect();
                    for call in calls {
                        assert_eq!(call.wait().expect("a reply").payload(), b"x");
                    }
                    remote.stop().expect("its loop lives");
                });
                drive(&mut server, || false);
            });
        }
    }

    /// Nothing is due, and nothing comes, but for what other threads say.
    #[test]
    fn what_others_say_wakes_a_loop_that_waits_without_end() {
        let _watchdog = watchdog(60);
        let mut server = Server::new(0);
        assert_eq!(server.next_timeout(), None);
        let remote = server.remote().expect("a remote");
        let descriptor = server.poll_descriptor().expect("a descriptor");
        assert_eq!(server.next_timeout(), None);
        for round in 1..=3 {
            assert!(!wait(&descriptor, Some(Duration::ZERO)), "nothing has come");
            let other = remote.clone();
            let other = thread::spawn(move || other.with(|count| *count += 1).expect("room"));
            assert!(wait(&descriptor, None));
            other.join().expect("no panic");
            assert!(server.turn(Some(Duration::ZERO)).expect("a turn"));
            assert_eq!((*server.state(), server.next_timeout()), (round, None));
        }
        remote.stop().expect("its loop lives");
        drive(&mut server, || false);
    }

    /// The loop's own thread, too: it may be asleep when the time limit is asked for next.
    #[test]
    fn what_the_loops_own_thread_says_between_turns_wakes_it() {
        let _watchdog = watchdog(60);
        let mut server = Server::new(0);
        let remote = server.remote().expect("a remote");
        let descriptor = server.poll_descriptor().expect("a descriptor");
        for round in 1..=3 {
            remote.with(|count| *count += 1).expect("room");
            assert!(wait(&descriptor, None), "it was woken");
            assert_eq!(server.next_timeout(), Some(Duration::ZERO));
            assert!(server.turn(Some(Duration::ZERO)).expect("a turn"));
            assert_eq!(*server.state(), round);
        }
    }

    /// What a handler asks of its own server, and what it leaves for later.
    #[test]
    fn what_handlers_leave_is_done() {
        let _watchdog = watchdog(60);
        let mut server = Server::new(Vec::new());
        let remote = server.remote().expect("a remote");
        server.on(1, move |waiting: &mut Vec<_>, _request, reply| {
            waiting.push(reply.defer()?);
            remote
                .with(|waiting| {
                    waiting.drain(..).for_each(|responder: sidewire::Responder| responder.reply("later"))
                })
                .expect("room");
            Ok(())
        });
        let bound = server.listen(usual(&fresh("local"))).expect("listen");
        let is_done = AtomicBool::new(false);
        let remote = server.remote().expect("a remote");
        thread::scope(|scope| {
            scope.spawn(|| {
                let client = client(&bound);
                for _ in 0..50 {
                    assert_eq!(client.call(1, "").expect("a reply").payload(), b"later");
                }
                is_done.store(true, Relaxed);
                remote.with(|_| {}).expect("room");
            });
            drive(&mut server, || is_done.load(Relaxed));
        });
    }

    /// Nothing comes any more, and the loop sleeps until the limit has passed.
    #[test]
    fn time_limits_are_asked_after() {
        let _watchdog = watchdog(60);
        let mut limits = Limits::default();
        limits.listener.connection.idle_timeout = Some(Duration::from_millis(200));
        let mut server = store_with(limits);
        let bound = server.listen(usual(&fresh("local"))).expect("listen");
        let (done, ended) = mpsc::channel();
        // Before the server looks: the limit counts from then on, and would be over where a busy machine holds us up in between.
        let raw = Raw::connect(&bound);
        raw.send_classic(i32::from(ECHO), b"x");
        thread::scope(|scope| {
            scope.spawn(move || {
                raw.receive_classic();
                raw.receive_to_end_or_reset(); // Whichever: it is the end.
                drop(raw);
                done.send(()).expect("the test waits");
            });
            drive(&mut server, || ended.try_recv().is_ok());
        });
    }

    #[test]
    fn files_are_looked_for_in_time() {
        let _watchdog = watchdog(60);
        let mut server = store();
        server.listen(Listen::on(fresh("unix")).expect("an endpoint")).expect("listen");
        let due = server.next_timeout().expect("a look at its file");
        assert!(due > Duration::ZERO && due <= Duration::from_millis(2500), "{due:?}");
    }
}

/// In a task, whose runtime has one thread.
#[cfg(all(unix, feature = "tokio"))]
mod tasks {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, OnceLock};
    use std::thread;
    use std::time::Duration;

    use sidewire::{Limits, Responder, Server};
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc::unbounded_channel;

    use crate::util::{Raw, all_streams, client, fresh, store_with, usual, watchdog};

    const ECHO: u16 = 4;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// Also what one turn leaves for the next, and from the first request to the word to stop.
    #[test]
    fn a_task_serves_until_it_is_stopped() {
        let _watchdog = watchdog(60);
        for endpoint in all_streams() {
            let mut limits = Limits::default();
            limits.turn_frames = 1;
            let mut server = store_with(limits);
            let bound = server.listen(usual(&endpoint)).expect("listen");
            let remote = server.remote().expect("a remote");
            thread::scope(|scope| {
                scope.spawn(|| {
                    let clients = [client(&bound), client(&bound)];
                    for _ in 0..3 {
                        let calls: Vec<_> =
                            (0..200).map(|n| clients[n % 2].start(ECHO, "x").expect("start")).collect();
                        for call in calls {
                            assert_eq!(call.wait().expect("a reply").payload(), b"x");
                        }
                    }
                    remote.stop().expect("its loop lives");
                });
                runtime().block_on(server.run_async()).expect("it serves");
            });
        }
    }

    /// Other tasks get their turn, and what they say in the same thread wakes a loop that waits without end.
    #[test]
    fn another_task_answers_what_a_handler_has_deferred() {
        let _watchdog = watchdog(60);
        let mut server = Server::new(());
        let (tell, mut asked) = unbounded_channel::<Responder>();
        server.on(1, move |(), _request, reply| {
            let _ = tell.send(reply.defer()?);
            Ok(())
        });
        let bound = server.listen(usual(&fresh("local"))).expect("listen");
        let remote = server.remote().expect("a remote");
        let asking = thread::spawn(move || {
            let client = client(&bound);
            for _ in 0..100 {
                assert_eq!(client.call(1, "").expect("a reply").payload(), b"later");
            }
            remote.stop().expect("its loop lives");
        });
        runtime().block_on(async {
            tokio::spawn(async move {
                while let Some(responder) = asked.recv().await {
                    responder.reply("later");
                }
            });
            server.run_async().await.expect("it serves");
        });
        asking.join().expect("no panic");
    }

    /// Nothing comes any more, and the task sleeps until the limit has passed. Dropped meanwhile, and called again, it goes on.
    #[test]
    fn a_task_keeps_time_limits() {
        let _watchdog = watchdog(60);
        let mut limits = Limits::default();
        limits.listener.connection.idle_timeout = Some(Duration::from_millis(200));
        let mut server = store_with(limits);
        let bound = server.listen(usual(&fresh("local"))).expect("listen");
        let remote = server.remote().expect("a remote");
        // Before the server looks, as above.
        let raw = Raw::connect(&bound);
        raw.send_classic(i32::from(ECHO), b"x");
        let asking = thread::spawn(move || {
            raw.receive_classic();
            raw.receive_to_end_or_reset(); // Whichever: it is the end.
            remote.stop().expect("its loop lives");
        });
        runtime().block_on(async {
            for _ in 0..3 {
                let _ = tokio::time::timeout(Duration::from_millis(5), server.run_async()).await;
            }
            server.run_async().await.expect("it serves");
        });
        asking.join().expect("no panic");
    }

    /// It is not even dropped.
    #[test]
    fn a_task_that_is_forgotten_is_not_woken_in_place_of_a_loop() {
        let _watchdog = watchdog(60);
        let mut server = store_with(Limits::default());
        server.listen(usual(&fresh("local"))).expect("listen");
        let remote = server.remote().expect("a remote");
        runtime().block_on(async {
            let mut serving = Box::pin(server.run_async());
            let polled = poll_fn(|task| std::task::Poll::Ready(serving.as_mut().poll(task))).await;
            assert!(polled.is_pending());
            std::mem::forget(serving);
        });
        thread::scope(|scope| {
            let serving = scope.spawn(|| server.run());
            thread::sleep(Duration::from_millis(50)); // It sleeps by then, or hears it before it does.
            remote.stop().expect("its loop lives");
            serving.join().expect("no panic").expect("it serves");
        });
    }

    /// With a client that says nothing it is woken by nothing.
    #[test]
    fn a_task_sleeps_while_nothing_happens() {
        let _watchdog = watchdog(60);
        let mut server = store_with(Limits::default());
        let bound = server.listen(usual(&fresh("local"))).expect("listen");
        let remote = server.remote().expect("a remote");
        let asking = thread::spawn(move || {
            let client = client(&bound);
            assert_eq!(client.call(ECHO, "x").expect("a reply").payload(), b"x");
            thread::sleep(Duration::from_millis(300));
            remote.stop().expect("its loop lives");
        });
        let mut polls = 0;
        let mut serving = pin!(server.run_async());
        runtime().block_on(poll_fn(|task| {
            polls += 1;
            serving.as_mut().poll(task).map(|served| served.expect("it serves"))
        }));
        assert!(polls < 100, "{polls} polls for one call, its connection and the end");
        asking.join().expect("no panic");
    }

    /// Whenever a turn is over the next request is there: each handler sends it to its own server.
    #[test]
    fn another_task_gets_its_turn_while_the_server_is_busy() {
        const ALL: usize = 1000;
        let _watchdog = watchdog(60);
        let mut server = Server::new(());
        let handled = Arc::new(AtomicUsize::new(0));
        let endpoint = fresh("local");
        let (first, counts) = (Arc::new(OnceLock::<Raw>::new()), Arc::clone(&handled));
        let again = Arc::clone(&first);
        server.on(1, move |(), _request, _reply| {
            let raw = again.get().expect("it has asked");
            let count = counts.fetch_add(1, Ordering::Relaxed);
            if count > 0 {
                raw.receive_classic(); // The reply before this one.
            }
            if count < ALL {
                raw.send_classic(1, b"");
            }
            Ok(())
        });
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let remote = server.remote().expect("a remote");
        let raw = Raw::connect(&bound);
        raw.send_classic(1, b"");
        assert!(first.set(raw).is_ok());
        let longest = runtime().block_on(async {
            let other = tokio::spawn(async move {
                let (mut seen, mut longest) = (0, 0);
                while seen <= ALL {
                    let before = std::mem::replace(&mut seen, handled.load(Ordering::Relaxed));
                    longest = longest.max(seen - before);
                    tokio::task::yield_now().await;
                }
                remote.stop().expect("its loop lives");
                longest
            });
            server.run_async().await.expect("it serves");
            other.await.expect("no panic")
        });
        assert!(longest <= 4, "{longest} turns without another's");
    }
}

/// Before anything is served.
#[cfg(feature = "tokio")]
#[test]
fn where_a_task_can_not_serve_it_is_said() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut server = Server::new(());
    let remote = server.remote().expect("a remote");
    remote.stop().expect("its loop lives");
    let served = runtime.block_on(server.run_async());
    assert_eq!(served.is_err_and(|error| error.is_unsupported()), cfg!(not(unix)));
    if cfg!(unix) {
        let mut served = std::pin::pin!(server.run_async());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let nowhere = served.as_mut().poll(&mut context);
        assert!(matches!(nowhere, std::task::Poll::Ready(Err(_))), "there is no runtime");
    }
}

#[test]
fn where_there_is_no_descriptor_it_is_said() {
    let mut server = Server::new(());
    let refused = server.poll_descriptor().err().map(|error| error.is_unsupported());
    assert_eq!(refused, if cfg!(unix) { None } else { Some(true) });
}
