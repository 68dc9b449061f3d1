//! A broker that is killed and comes back while many call: each call has one outcome, and it is the right one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sidewire::Server;

use crate::util::{Line, Nats, client, refusal, until, watchdog};

const NOTE: u16 = 1;
/// Clients, and what each of them asks in a second.
const CLIENTS: u32 = 10;
const EACH: u32 = 100;
const KILLS: u32 = 3;

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    NotExecuted,
    Perhaps,
}

/// Keeps each number that it was asked to note, once for each time.
fn server(noted: Arc<Mutex<Vec<u32>>>) -> Server<()> {
    let mut server = Server::new(());
    server.on(NOTE, move |(), request, reply| {
        let number = request.payload().try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
        noted.lock().expect("whole").push(number);
        reply.write(request.payload());
        Ok(())
    });
    server
}

#[test]
fn a_broker_is_killed_and_restarted_under_a_thousand_calls_a_second() {
    let _watchdog = watchdog();
    let noted = Arc::new(Mutex::new(Vec::new()));
    let (mut line, _running) = Line::over(Nats::start(), server(Arc::clone(&noted)), &["--silence", "3"]);
    let end = Arc::new(Mutex::new(false));
    let callers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (far, end) = (line.far.clone(), Arc::clone(&end));
            std::thread::spawn(move || call_until(&far, &end, number << 24))
        })
        .collect();
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(700));
        line.nats.kill();
        std::thread::sleep(Duration::from_millis(500));
        line.nats.start_again();
        until("calls are answered again", || line.client.call(NOTE, u32::MAX.to_le_bytes()).is_ok());
    }
    *end.lock().expect("whole") = true;
    let outcomes: Vec<(u32, Outcome)> =
        callers.into_iter().flat_map(|caller| caller.join().expect("its calls")).collect();
    // What was on its way is done by now: nothing waits for anything.
    std::thread::sleep(Duration::from_millis(500));
    let noted: Vec<u32> =
        noted.lock().expect("whole").iter().copied().filter(|number| *number != u32::MAX).collect();
    let executed: HashSet<u32> = noted.iter().copied().collect();
    assert_eq!(noted.len(), executed.len(), "a call was executed twice");
    let count = |outcome| outcomes.iter().filter(|(_, other)| *other == outcome).count();
    let counts = [Outcome::Done, Outcome::NotExecuted, Outcome::Perhaps].map(count);
    println!("done, not executed, perhaps: {counts:?}; executed: {}", executed.len());
    for (number, outcome) in &outcomes {
        match outcome {
            Outcome::Done => assert!(executed.contains(number), "{number:x} was answered and not executed"),
            Outcome::NotExecuted => {
                assert!(!executed.contains(number), "{number:x} was refused and executed")
            }
            Outcome::Perhaps => {}
        }
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    // Only those that were under way when the broker was killed, of which a busy machine has more.
    assert!(counts[2] < counts[0] + counts[1], "{counts:?}");
}

/// Calls at its rate, and says what became of each.
fn call_until(far: &sidewire::Endpoint, end: &Mutex<bool>, first: u32) -> Vec<(u32, Outcome)> {
    let (client, began) = (client(far), Instant::now());
    let (mut outcomes, mut open) = (Vec::new(), Vec::new());
    for n in 0.. {
        if *end.lock().expect("whole") {
            break;
        }
        let number = first + n;
        open.push((number, client.start(NOTE, number.to_le_bytes()).expect("a call")));
        client.flush().expect("it is on its way");
        let due = began + Duration::from_secs(1) * n / EACH;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    for (number, call) in open {
        let outcome = match call.wait() {
            Ok(answer) => {
                assert_eq!(answer.payload(), number.to_le_bytes());
                Outcome::Done
            }
            Err(error) => match refusal(&error) {
                (-6, text) if text.contains("not executed") => Outcome::NotExecuted,
                (-7, text) if text.contains("may have been executed") => Outcome::Perhaps,
                _ => panic!("{number:x}: {error}"),
            },
        };
        outcomes.push((number, outcome));
    }
    outcomes
}
