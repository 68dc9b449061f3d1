//! Datagrams without frames.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use sidewire::{Address, Server};

use crate::stage::{Socket, all, all_lossless, is_udp, largest, listen_echo, messages, next, with_echo};
use crate::util::{until, usual, watchdog};

#[test]
fn one_client() {
    let _watchdog = watchdog(60);
    with_echo(all(), |endpoint| {
        let client = messages(endpoint);
        for text in ["one", "two", "", "three\0and more"] {
            client.send(text).expect("send");
            assert_eq!(next(&client), text.as_bytes());
        }
    });
}

#[test]
fn fifty_clients() {
    let _watchdog = watchdog(60);
    with_echo(all(), |endpoint| {
        thread::scope(|scope| {
            for number in 0..50 {
                scope.spawn(move || {
                    let client = messages(endpoint);
                    for message in 0..20 {
                        let text = format!("{number}: {message}");
                        client.send(&text).expect("send");
                        assert_eq!(next(&client), text.as_bytes());
                    }
                });
            }
        });
    });
}

#[test]
fn twenty_sizes_keep_their_boundaries() {
    let _watchdog = watchdog(60);
    with_echo(all(), |endpoint| {
        let client = messages(endpoint);
        let sizes: Vec<usize> = (0..20).map(|n| n * n * n % 1_500).collect();
        // Few enough for UDP's buffers, and answers that come while we still send.
        for (number, size) in sizes.iter().enumerate() {
            client.send(vec![number as u8; *size]).expect("send");
        }
        for (number, size) in sizes.iter().enumerate() {
            assert_eq!(next(&client), vec![number as u8; *size]);
        }
    });
}

#[test]
fn an_empty_one_is_a_message() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(0);
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let client = messages(&bound);
        for _ in 0..3 {
            client.send(b"").expect("send");
            assert_eq!(next(&client), b"");
        }
        assert_eq!(running.stop().expect("the server ends well"), 3);
    }
}

#[test]
fn the_largest_come_back_uncut() {
    let _watchdog = watchdog(60);
    with_echo(all(), |endpoint| {
        let client = messages(endpoint);
        let bytes: Vec<u8> = (0..largest(endpoint)).map(|at| (at % 251) as u8).collect();
        for _ in 0..5 {
            client.send(&bytes).expect("send");
            assert!(next(&client) == bytes, "on {endpoint}");
        }
        if is_udp(endpoint) {
            let error = client.send([&bytes[..], b"!"].concat()).expect_err("too large");
            assert!(error.is_invalid_input(), "{error}");
            client.send(b"x").expect("send");
            assert_eq!(next(&client), b"x");
        }
    });
}

/// A buffer that is too small does not pass for a short message.
#[test]
fn the_client_notices_what_is_cut_off() {
    let _watchdog = watchdog(60);
    with_echo(all(), |endpoint| {
        let client = messages(endpoint);
        client.send(b"0123456789").expect("send");
        let error = client.receive(&mut [0; 9]).expect_err("its end is lost");
        assert!(error.is_protocol(), "{error}");
        client.send(b"012345678").expect("send");
        assert_eq!(client.receive(&mut [0; 9]).expect("it fits"), 9);
    });
}

#[test]
fn what_the_server_can_not_take_or_send_whole_is_dropped_and_counted() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(0);
        let counters = server.counters();
        let bound = server
            .listen_messages(usual(&endpoint), |count, message, reply| {
                *count += 1;
                reply.send(vec![7; 8 << 20]);
                reply.send(message.bytes());
            })
            .expect("listen");
        let running = server.spawn().expect("spawn");
        let socket = Socket::connect(&bound);
        // An answer that no transport carries: the other one comes.
        assert_eq!(socket.ask(b"x"), b"x");
        assert_eq!(counters.datagrams_dropped(), 1);
        // A message that is larger than the server's buffer.
        let is_sent = socket.try_send(&vec![7; 300_000]).is_ok();
        assert_eq!(socket.ask(b"y"), b"y");
        assert_eq!(counters.datagrams_dropped(), 2 + u64::from(is_sent));
        assert_eq!(running.stop().expect("the server ends well"), 2);
    }
}

#[test]
fn messages_know_their_addresses() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(Vec::new());
        let bound = server
            .listen_messages(usual(&endpoint), |seen: &mut Vec<_>, message, reply| {
                seen.push((message.sender().cloned(), message.local_address(), message.peer().clone()));
                reply.send(b"");
            })
            .expect("listen");
        let running = server.spawn().expect("spawn");
        let client = messages(&bound);
        client.send(b"x").expect("send");
        next(&client);
        let seen = running.stop().expect("the server ends well");
        let [(sender, local, peer)] = &seen[..] else { panic!("{seen:?}") };
        let ours = client.local_address().expect("our address");
        assert_eq!(sender.as_ref(), Some(&ours));
        assert_eq!(*local, Some(client.peer_address().expect("the server's address")));
        match ours {
            Address::Inet(address) => assert_eq!(peer.address(), Some(address)),
            _ if cfg!(target_os = "linux") => {
                let credentials = peer.credentials().expect("credentials");
                assert_eq!(*credentials.user(), sidewire_platform::current_user().expect("who we are"));
                assert_eq!(credentials.pid(), Some(std::process::id()));
            }
            _ => {}
        }
    }
}

#[test]
fn a_message_may_have_many_answers_or_none() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(());
        let bound = server
            .listen_messages(usual(&endpoint), |(), message, reply| {
                for number in 0..message.bytes().len() as u8 {
                    reply.send([number]);
                }
            })
            .expect("listen");
        let running = server.spawn().expect("spawn");
        let socket = Socket::connect(&bound);
        socket.send(b"");
        socket.send(&[0; 100]);
        for number in 0..100 {
            assert_eq!(socket.receive(), [number]);
        }
        running.stop().expect("the server ends well");
    }
}

#[test]
fn senders_that_die_harm_nobody() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(0);
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        for _ in 0..5 {
            let socket = Socket::connect(&bound);
            socket.send(b"x");
        }
        until("all are handled", || {
            server.turn(Some(Duration::ZERO)).expect("a turn");
            *server.state() == 5
        });
        assert_eq!(counters.datagrams_dropped(), if is_udp(&bound) { 0 } else { 5 });
        let running = server.spawn().expect("spawn");
        let client = messages(&bound);
        client.send(b"y").expect("send");
        assert_eq!(next(&client), b"y");
        running.stop().expect("the server ends well");
    }
}

#[test]
fn a_handler_that_panics_harms_nobody() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let mut server = Server::new(());
        let bound = server
            .listen_messages(usual(&endpoint), |(), message, reply| {
                assert_ne!(message.bytes(), b"panic", "on purpose");
                reply.send(message.bytes());
            })
            .expect("listen");
        let running = server.spawn().expect("spawn");
        let client = messages(&bound);
        client.send(b"panic").expect("send");
        client.send(b"fine").expect("send");
        assert_eq!(next(&client), b"fine");
        running.stop().expect("the server ends well");
    }
}

/// One server, many endpoints, each with a handler of its own.
#[test]
fn each_endpoint_has_its_own_handler() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    let mut bound = Vec::new();
    for (number, endpoint) in all().iter().chain(&all()).enumerate() {
        let endpoint =
            server.listen_messages(usual(endpoint), move |(), _, reply| reply.send([number as u8]));
        bound.push(endpoint.expect("listen"));
    }
    let running = server.spawn().expect("spawn");
    for (number, endpoint) in bound.iter().enumerate() {
        assert_eq!(Socket::connect(endpoint).ask(b"which?"), [number as u8]);
    }
    running.stop().expect("the server ends well");
}

/// A burst that nobody reads meanwhile: all of it comes back, in order and one by one.
#[test]
fn a_burst_of_a_thousand() {
    let _watchdog = watchdog(60);
    with_echo(all_lossless(), |endpoint| {
        let client = messages(endpoint);
        for number in 0..1_000_u32 {
            let size = 4 + number as usize % 50;
            client.send(&number.to_le_bytes().repeat(20)[..size]).expect("send");
        }
        for number in 0..1_000_u32 {
            let size = 4 + number as usize % 50;
            assert_eq!(next(&client), &number.to_le_bytes().repeat(20)[..size], "message {number}");
        }
        let socket = Socket::connect(endpoint);
        assert_eq!(socket.ask(b"x"), b"x");
    });
}

/// UDP's buffers hold less, so the answers are read as they come.
#[test]
fn a_thousand_over_udp() {
    let _watchdog = watchdog(60);
    let udp = all().into_iter().filter(is_udp).collect();
    with_echo(udp, |endpoint| {
        let client = messages(endpoint);
        for first in (0..1_000_u32).step_by(20) {
            (first..first + 20).for_each(|number| client.send(number.to_le_bytes()).expect("send"));
            (first..first + 20).for_each(|number| assert_eq!(next(&client), number.to_le_bytes()));
        }
    });
}

/// One thread sends while another receives, on one socket.
#[test]
fn two_threads_share_a_socket() {
    let _watchdog = watchdog(60);
    with_echo(all_lossless(), |endpoint| {
        let (client, is_done) = (messages(endpoint), AtomicBool::new(false));
        thread::scope(|scope| {
            // Whoever reads too slowly may lose some, the last ones too, but never sees them out of order.
            scope.spawn(|| {
                let mut numbers = (0..1_000_000_u32).take_while(|_| !is_done.load(Relaxed));
                numbers.try_for_each(|number| client.send(number.to_le_bytes())).expect("send");
            });
            let mut last = None;
            while last.is_none_or(|last| last < 4_999) {
                let mut bytes = [0; 4];
                let length = client.receive(&mut bytes).expect("an answer");
                assert_eq!(length, 4);
                let number = u32::from_le_bytes(bytes);
                assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
                last = Some(number);
            }
            is_done.store(true, Relaxed);
        });
    });
}
