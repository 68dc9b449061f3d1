//! Who does not read is not read from: what a server keeps for one client has a limit.

use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Endpoint, Limits, Session};

use crate::util::watchdog;
use crate::witness::{BOTH, Carry, Notes, Play, Stage, Why, content, everywhere, limits, stuff};

const LENGTH: usize = 8 << 20;

/// Waits until nothing more is taken from the client. Says how much was.
fn taken(notes: &Notes) -> usize {
    let (mut taken, mut since) = (notes.received(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        thread::sleep(Duration::from_millis(20));
        if notes.received() != taken {
            (taken, since) = (notes.received(), Instant::now());
        }
    }
    taken
}

/// It sends 8 MiB without reading, and then reads: the server has kept as much as it may and not
/// more, and nothing is lost.
fn send_first_and_read_later(limits: &Limits) {
    for carry in BOTH {
        everywhere(limits, carry, Play::echo(carry), |stage| {
            let client = stage.connect();
            let sent = content(carry, LENGTH);
            thread::scope(|scope| {
                let sending = scope.spawn(|| client.send(&sent));
                let taken = taken(&stage.notes);
                // What is on its way both ways belongs to the system: up to some MiB on TCP, less elsewhere.
                let on_its_way =
                    if matches!(stage.endpoint, Endpoint::Tcp { .. }) { LENGTH } else { 2 << 20 };
                assert!(
                    taken < LENGTH.min(limits.listener.connection.outbox_soft + on_its_way),
                    "{taken} bytes were taken"
                );
                let received = client.receive(LENGTH);
                assert!(received == sent, "it came back changed");
                sending.join().expect("all is sent");
            });
            drop(client);
            assert_eq!(stage.notes.end(), Why::InOrder);
        });
    }
}

#[test]
fn eight_mebibytes_before_anything_is_read() {
    let _watchdog = watchdog(120);
    send_first_and_read_later(&Limits::default());
}

#[test]
fn the_same_with_a_small_mark() {
    let _watchdog = watchdog(120);
    send_first_and_read_later(&limits(|limits| limits.listener.connection.outbox_soft = 10_000));
}

/// The answer to each piece passes the mark, and the system takes it at once: then reading goes on
/// although no event tells it to.
#[test]
fn reading_goes_on_when_everything_was_taken() {
    let _watchdog = watchdog(120);
    fn answer(session: &mut Session<'_>, bytes: &[u8]) {
        session.write(vec![b'.'; bytes.len().div_ceil(100)]);
    }
    let small = limits(|limits| limits.listener.connection.outbox_soft = 1);
    for carry in BOTH {
        everywhere(&small, carry, Play { data: answer, ..Play::silent() }, |stage| {
            let client = stage.connect();
            // Each line takes a turn of its own.
            let sent = content(carry, if carry == Carry::Raw { 2 << 20 } else { 512 << 10 });
            let ends =
                if carry == Carry::Raw { 0 } else { sent.iter().filter(|byte| **byte == b'\n').count() };
            thread::scope(|scope| {
                scope.spawn(|| client.send(&sent));
                let reading = scope.spawn(|| client.receive_to_end());
                stage.notes.wait_for(sent.len() - ends);
                client.0.shutdown();
                reading.join().expect("an answer");
            });
            drop(client);
            stage.notes.end();
            assert_eq!(stage.notes.received(), sent.len() - ends);
        });
    }
}

/// One client that does not read does not hold up the others.
#[test]
fn others_are_served_meanwhile() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        everywhere(&Limits::default(), carry, Play::echo(carry), |stage| {
            let stuck = stage.connect();
            stuff(&stuck);
            for _ in 0..100 {
                let client = stage.connect();
                client.send(b"hello\n");
                assert_eq!(client.receive(6), b"hello\n");
            }
        });
    }
}

/// An answer that is larger than all that may wait ends its connection, from wherever it is written.
#[test]
fn the_hard_mark_closes() {
    let _watchdog = watchdog(60);
    fn flood(session: &mut Session<'_>) {
        (0..64).for_each(|_| session.write(vec![0; 1 << 20]));
    }
    let small = limits(|limits| limits.listener.connection.outbox_hard = 8 << 20);
    let silent = Play::silent();
    for play in [
        Play { opened: flood, ..silent },
        Play { data: |session, _| flood(session), ..silent },
        Play { half_closed: flood, ..silent },
    ] {
        for carry in BOTH {
            everywhere(&small, carry, play, |stage: &Stage| {
                let client = stage.connect();
                let _ = client.try_send(b"x\n");
                let _ = client.0.shutdown_write();
                drop(client);
                stage.notes.end().expect_ended("hard mark");
            });
        }
    }
}
