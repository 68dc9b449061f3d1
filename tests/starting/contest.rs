//! Who want the same endpoint in the same millisecond, again and again: one gets it, and the others are told who.
//!
//! Each of them is a process that lives for many rounds and is told over its standard input when to begin.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sidewire::{Endpoint, Server};

use crate::program::{Place, kill, pid_of};
use crate::util::{fresh, times, until, usual, watchdog};

/// Rounds of each kind in the ordinary suite.
const ROUNDS: usize = 20;
/// So long before they begin they are told when.
const NOTICE: Duration = Duration::from_millis(2);
/// Before each of its answers, since a test says other things on its standard output, too.
const ANSWER: &str = "answer: ";

fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).expect("a clock that is set").as_nanos()
}

/// Awake, and on its processor.
fn wait_until(nanoseconds_since_1970: u128) -> u128 {
    loop {
        let now = nanoseconds(SystemTime::now());
        if now >= nanoseconds_since_1970 {
            return now;
        }
        std::hint::spin_loop();
    }
}

/// What one of these processes does.
pub(crate) fn contend(place: &Place) {
    let mut server = None;
    for line in std::io::stdin().lines() {
        let line = line.expect("an order");
        let (order, at) = line.split_once(' ').unwrap_or((&line, "0"));
        let began = wait_until(at.parse().expect("a time"));
        let answer = match order {
            "listen" => {
                let mut mine = Server::new(());
                match mine.listen(usual(&place.endpoint)) {
                    Ok(_) => {
                        server = Some(mine);
                        "mine".to_owned()
                    }
                    Err(error) if error.is_in_use() => format!("taken {error}"),
                    Err(error) => format!("failed {error}"),
                }
            }
            "leave" => {
                drop(server.take());
                "left".to_owned()
            }
            "ask" => {
                match place.connect(Duration::from_secs(600)).open().and_then(|client| pid_of(&client)) {
                    Ok(pid) => format!("asked {pid}"),
                    Err(error) => format!("failed {error}"),
                }
            }
            _ => panic!("no such order: {line}"),
        };
        println!("\n{ANSWER}{began} {}", answer.escape_debug());
    }
}

/// What came of one of them.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Mine,
    /// Another has it, says the error.
    Taken(String),
    Left,
    /// This process serves.
    Asked(u32),
}

/// One of these processes, as the test sees it.
struct Contender {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Contender {
    fn new(place: &Place) -> Contender {
        let mut command = place.program("contend");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let (input, output) =
            (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Contender { child, input, output: BufReader::new(output) }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn order(&mut self, what: &str, at: u128) {
        writeln!(self.input, "{what} {at}").expect("an order");
    }

    /// When it began, and what came of it.
    fn answer(&mut self) -> (u128, Answer) {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).expect("an answer"), 0, "it has ended");
            let Some((began, answer)) =
                line.trim_end().strip_prefix(ANSWER).and_then(|it| it.split_once(' '))
            else {
                continue;
            };
            let answer = match answer.split_once(' ').unwrap_or((answer, "")) {
                ("mine", _) => Answer::Mine,
                ("taken", error) => Answer::Taken(error.to_owned()),
                ("left", _) => Answer::Left,
                ("asked", pid) => Answer::Asked(pid.parse().expect("a number")),
                _ => panic!("process {}: {answer}", self.pid()),
            };
            return (began.parse().expect("a time"), answer);
        }
    }

    fn do_now(&mut self, what: &str) -> Answer {
        self.order(what, 0);
        self.answer().1
    }

    /// As the system kills: what it had in the file system stays.
    fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both are told to begin at one moment, which a third may use as well. How far apart they began, and what came of them.
fn at_one_moment(
    [one, other]: [&mut Contender; 2],
    what: &str,
    meanwhile: impl FnOnce(u128),
) -> (Duration, [Answer; 2]) {
    let at = nanoseconds(SystemTime::now() + NOTICE);
    one.order(what, at);
    other.order(what, at);
    meanwhile(at);
    let ((began, first), (also, second)) = (one.answer(), other.answer());
    let apart = Duration::from_nanos(began.abs_diff(also).try_into().unwrap_or(u64::MAX));
    (apart, [first, second])
}

/// How close they were in all rounds.
#[derive(Default)]
struct Closeness(Vec<Duration>);

impl Closeness {
    /// Until there were so many rounds that both began within a millisecond: a busy machine lets one of them wait. But not
    /// for ever.
    fn goes_on(&self, rounds: usize) -> bool {
        self.close() < rounds && self.0.len() < 5 * rounds
    }

    fn close(&self) -> usize {
        self.0.iter().filter(|apart| **apart < Duration::from_millis(1)).count()
    }

    fn tell(mut self, what: &str) {
        self.0.sort_unstable();
        let close = self.close();
        let (rounds, half) = (self.0.len(), self.0[self.0.len() / 2]);
        println!(
            "{what}: {rounds} rounds, of which {close} begun within a millisecond, half within {half:?}"
        );
        // Of a few there may be none.
        assert!(times() == 1 || close >= rounds / 20, "too few were close to prove anything");
    }
}

/// A path of its own, and what is at it.
struct Scene {
    place: Place,
    path: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let endpoint = fresh("unix");
        let Endpoint::Unix(path) = endpoint.clone() else { panic!("{endpoint}") };
        Scene { place: Place::at(endpoint), path }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Which of them has it. The other was told whose it is: that one's.
#[track_caller]
fn winner(place: &Place, pids: [u32; 2], answers: &[Answer; 2]) -> usize {
    let winner = match answers {
        [Answer::Mine, Answer::Taken(_)] => 0,
        [Answer::Taken(_), Answer::Mine] => 1,
        _ => panic!("not one of them has it: {answers:?}"),
    };
    let Answer::Taken(error) = &answers[1 - winner] else { unreachable!("as above") };
    expect_named(place, pids[winner], error);
    winner
}

#[track_caller]
fn expect_named(place: &Place, pid: u32, error: &str) {
    let named = format!("opened by pid {pid})");
    assert!(
        error.contains("another server is there already") && error.contains(&named),
        "not {pid}: {error}"
    );
    assert!(error.contains(&place.endpoint.to_string()), "{error}");
}

/// What lies there when they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    /// The socket of one that was not killed here, but might have been.
    Stale,
    /// That of the last winner, which was killed.
    Killed,
}

fn one_of_two_gets_it(there: There) {
    let rounds = ROUNDS * times();
    let _watchdog = watchdog(60 + 5 * rounds as u64);
    let scene = Scene::new();
    let (place, path) = (&scene.place, scene.path());
    let mut contenders = [Contender::new(place), Contender::new(place)];
    let mut closeness = Closeness::default();
    let mut wins = [0; 2];
    for round in 0.. {
        if !closeness.goes_on(rounds) {
            break;
        }
        if there == There::Stale {
            // The standard library removes nothing.
            drop(std::os::unix::net::UnixListener::bind(path).expect("a stale socket"));
        }
        assert_eq!(path.exists(), there == There::Stale || there == There::Killed && round > 0);
        let pids = [contenders[0].pid(), contenders[1].pid()];
        let [one, other] = &mut contenders;
        let (apart, answers) = at_one_moment([one, other], "listen", |_| ());
        closeness.0.push(apart);
        let winner = winner(place, pids, &answers);
        wins[winner] += 1;
        // And it is still so a moment later.
        let Answer::Taken(error) = contenders[1 - winner].do_now("listen") else { panic!("round {round}") };
        expect_named(place, pids[winner], &error);
        match there {
            There::Nothing | There::Stale => {
                assert_eq!(contenders[winner].do_now("leave"), Answer::Left);
                assert!(!path.exists(), "round {round}");
            }
            There::Killed => {
                contenders[winner].kill();
                contenders[winner] = Contender::new(place);
            }
        }
    }
    closeness.tell(&format!("two at a path, there is {there:?}, {wins:?} wins"));
}

#[test]
fn where_nothing_is_one_of_two_gets_it() {
    one_of_two_gets_it(There::Nothing);
}

#[test]
fn where_a_stale_socket_is_one_of_two_gets_it() {
    one_of_two_gets_it(There::Stale);
}

#[test]
fn where_the_last_one_was_killed_one_of_two_gets_it() {
    one_of_two_gets_it(There::Killed);
}

/// The server is killed at the very moment at which two others begin: they find it alive, or one of them takes its
/// place. Never do two of the three have it.
#[test]
fn one_of_two_at_most_gets_it_from_one_who_is_killed_meanwhile() {
    let rounds = ROUNDS * times();
    let _watchdog = watchdog(60 + 5 * rounds as u64);
    let scene = Scene::new();
    let place = &scene.place;
    let mut contenders = [(); 3].map(|()| Contender::new(place));
    let (mut closeness, mut found_alive) = (Closeness::default(), 0);
    while closeness.goes_on(rounds) {
        let round = closeness.0.len();
        let first = contenders[0].do_now("listen");
        assert_eq!(first, Answer::Mine, "round {round}");
        let [victim, one, other] = &mut contenders;
        let pids = [victim.pid(), one.pid(), other.pid()];
        // As it happens, they look before, while or after it dies.
        let sooner = u128::from(getrandom::u32().expect("randomness") % 1_000_000);
        let (apart, answers) = at_one_moment([one, other], "listen", |at| {
            wait_until(at - sooner);
            victim.kill();
        });
        closeness.0.push(apart);
        let has_it = |answer: &Answer| *answer == Answer::Mine;
        match answers.iter().filter(|answer| has_it(answer)).count() {
            0 => {
                found_alive += 1;
                // Then the place is free now, and one of them gets it.
                let (_, answers) = at_one_moment([one, other], "listen", |_| ());
                winner(place, [pids[1], pids[2]], &answers);
            }
            // The other has met either of the two, or one that was gone when its name was to be told.
            1 => assert!(answers.iter().any(|answer| matches!(answer, Answer::Taken(_))), "{answers:?}"),
            _ => panic!("round {round}: two have it: {answers:?}"),
        }
        contenders[0] = Contender::new(place);
        for contender in &mut contenders[1..] {
            assert_eq!(contender.do_now("leave"), Answer::Left);
        }
    }
    closeness
        .tell(&format!("two at a path whose server is killed meanwhile, {found_alive} times found alive"));
}

/// Two clients that start the server if there is none, where nothing is, and where the last server was killed.
#[test]
fn of_two_clients_one_starts_the_server() {
    // Each takes the start of a process.
    let rounds = (ROUNDS * times()).div_ceil(2);
    let _watchdog = watchdog(60 + 10 * rounds as u64);
    for endpoint in [fresh("local"), fresh("unix")] {
        let place = Place::at(endpoint);
        let mut contenders = [Contender::new(&place), Contender::new(&place)];
        let mut closeness = Closeness::default();
        while closeness.goes_on(rounds) {
            let round = closeness.0.len() + 1;
            let [one, other] = &mut contenders;
            let (apart, answers) = at_one_moment([one, other], "ask", |_| ());
            closeness.0.push(apart);
            let [Answer::Asked(pid), Answer::Asked(same)] = answers else { panic!("{answers:?}") };
            assert!(
                pid == same && place.servers() == round && !place.had_two(),
                "round {round}: {pid} {same}"
            );
            kill(pid);
            until("the server has gone", || place.connect_only().open().is_err());
        }
        let what = format!("two clients of {}, whose server is killed each time", place.endpoint.scheme());
        closeness.tell(&what);
        if let Endpoint::Unix(path) = &place.endpoint {
            let _ = std::fs::remove_file(path);
        }
    }
}
