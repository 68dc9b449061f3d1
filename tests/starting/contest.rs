//! Who want the same endpoint in the same millisecond, again and again: one gets it, and the others are told who.
//!
//! Each of them is a process that lives for many rounds and is told over its standard input when to begin.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use sidewire::{Endpoint, Error, Server};

use crate::meeting::{Meeting, meet};
use crate::program::{Place, kill, pid_of};
use crate::util::{fresh, times, until, usual, watchdog};

/// Rounds of each kind in the ordinary suite.
const ROUNDS: usize = 20;
/// Before each of its answers, since a test says other things on its standard output, too.
const ANSWER: &str = "answer: ";

/// What one of these processes does.
pub(crate) fn contend(place: &Place) {
    let mut server = None;
    for line in std::io::stdin().lines() {
        let line = line.expect("an order");
        let mut words = line.split(' ');
        let order = words.next().unwrap_or_default();
        let mut number = || words.next().map(|word| word.parse::<u8>().expect("a number"));
        let began = match (number(), number()) {
            (Some(side), Some(round)) => meet(place, side.into(), round),
            _ => 0,
        };
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
            "ask" => asked(ask(place)),
            // As a client does that connects anew when its server has gone.
            "insist" => asked(match ask(place) {
                Err(error) if error.is_peer_gone() => ask(place),
                answer => answer,
            }),
            _ => panic!("no such order: {line}"),
        };
        println!("\n{ANSWER}{began} {}", answer.escape_debug());
    }
}

/// Asks the server who it is, and starts it if there is none.
fn ask(place: &Place) -> Result<u32, Error> {
    place.connect(Duration::from_secs(600)).open().and_then(|client| pid_of(&client))
}

fn asked(answer: Result<u32, Error>) -> String {
    match answer {
        Ok(pid) => format!("asked {pid}"),
        Err(error) => format!("failed {error}"),
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

    fn order(&mut self, what: &str) {
        writeln!(self.input, "{what}").expect("an order");
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
        self.order(what);
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

/// Both begin at one moment, at which something else may be done as well. How far apart they began, and what came of them.
fn at_one_moment(
    meeting: &mut Meeting,
    [one, other]: [&mut Contender; 2],
    what: &str,
    meanwhile: impl FnOnce(),
) -> (Duration, [Answer; 2]) {
    let round = meeting.next();
    one.order(&format!("{what} 0 {round}"));
    other.order(&format!("{what} 1 {round}"));
    // Who would fall asleep here leaves its processor to both of them.
    meeting.wait();
    meanwhile();
    let ((began, first), (also, second)) = (one.answer(), other.answer());
    let apart = Duration::from_nanos(began.abs_diff(also).try_into().unwrap_or(u64::MAX));
    (apart, [first, second])
}

/// As long as those take who have begun: what is killed then dies before, while or after they look, as it happens.
fn a_moment() -> Duration {
    Duration::from_micros(u64::from(getrandom::u32().expect("randomness") % 1000))
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
    let mut meeting = Meeting::new(place);
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
        let (apart, answers) = at_one_moment(&mut meeting, [one, other], "listen", || ());
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
    let mut meeting = Meeting::new(place);
    let (mut closeness, mut found_alive) = (Closeness::default(), 0);
    while closeness.goes_on(rounds) {
        let round = closeness.0.len();
        let first = contenders[0].do_now("listen");
        assert_eq!(first, Answer::Mine, "round {round}");
        let [victim, one, other] = &mut contenders;
        let pids = [victim.pid(), one.pid(), other.pid()];
        let later = a_moment();
        let (apart, answers) = at_one_moment(&mut meeting, [one, other], "listen", || {
            thread::sleep(later);
            victim.kill();
        });
        closeness.0.push(apart);
        let has_it = |answer: &Answer| *answer == Answer::Mine;
        match answers.iter().filter(|answer| has_it(answer)).count() {
            0 => {
                found_alive += 1;
                // Then the place is free now, and one of them gets it.
                let (_, answers) = at_one_moment(&mut meeting, [one, other], "listen", || ());
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

/// The endpoints at which clients find nobody, and whether a server that was killed has left something there.
fn places_without_a_server() -> [(Endpoint, bool); 3] {
    [(fresh("local"), true), (fresh("unix"), true), (fresh("unix"), false)]
}

/// Two clients that start the server if there is none, where nothing is, and where the last server was killed.
#[test]
fn of_two_clients_one_starts_the_server() {
    // Each takes the start of a process.
    let rounds = (ROUNDS * times()).div_ceil(2);
    let _watchdog = watchdog(60 + 15 * rounds as u64);
    for (endpoint, is_left) in places_without_a_server() {
        let place = Place::at(endpoint);
        let mut contenders = [Contender::new(&place), Contender::new(&place)];
        let mut meeting = Meeting::new(&place);
        let mut closeness = Closeness::default();
        while closeness.goes_on(rounds) {
            let round = closeness.0.len() + 1;
            let [one, other] = &mut contenders;
            let (apart, answers) = at_one_moment(&mut meeting, [one, other], "ask", || ());
            closeness.0.push(apart);
            let [Answer::Asked(pid), Answer::Asked(same)] = answers else { panic!("{answers:?}") };
            assert!(
                pid == same && place.servers() == round && !place.had_two(),
                "round {round}: {pid} {same}"
            );
            kill(pid);
            until("the server has gone", || place.connect_only().open().is_err());
            if !is_left {
                place.clear();
            }
        }
        let left = if is_left { "its socket is left" } else { "nothing is left" };
        let scheme = place.endpoint.scheme();
        closeness.tell(&format!("two clients of {scheme}, whose server is killed each time, and {left}"));
        place.clear();
    }
}

/// A program that kills would take milliseconds to begin.
fn kill_at_once(pid: u32) {
    // SAFETY: it takes numbers.
    let killed = unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    assert_eq!(killed, 0, "{}", std::io::Error::last_os_error());
}

/// The server is killed at the very moment at which two clients come: each has its answer of that one, or of the one that
/// takes its place, which one of them has started.
#[test]
fn of_two_clients_one_starts_the_server_anew_that_is_killed_meanwhile() {
    let rounds = (ROUNDS * times()).div_ceil(2);
    let _watchdog = watchdog(60 + 10 * rounds as u64);
    let place = Place::at(fresh("unix"));
    let mut contenders = [Contender::new(&place), Contender::new(&place)];
    let mut meeting = Meeting::new(&place);
    let (mut closeness, mut found_alive, mut victim) = (Closeness::default(), 0, 0);
    while closeness.goes_on(rounds) {
        // The last one may still be about to die.
        until("there is another server", || {
            let Answer::Asked(pid) = contenders[0].do_now("insist") else { panic!("nobody has started one") };
            std::mem::replace(&mut victim, pid) != pid
        });
        let before = place.servers();
        let later = a_moment();
        let [one, other] = &mut contenders;
        let (apart, answers) = at_one_moment(&mut meeting, [one, other], "insist", || {
            thread::sleep(later);
            kill_at_once(victim);
        });
        closeness.0.push(apart);
        let asked = answers.each_ref().map(|answer| match answer {
            Answer::Asked(pid) => *pid,
            _ => panic!("{answers:?}"),
        });
        let others: Vec<u32> = asked.into_iter().filter(|pid| *pid != victim).collect();
        found_alive += 2 - others.len();
        let round = closeness.0.len();
        assert!(!place.had_two() && others.iter().all(|pid| *pid == others[0]), "round {round}: {asked:?}");
        assert_eq!(place.servers() - before, usize::from(!others.is_empty()), "round {round}: {asked:?}");
    }
    if let Answer::Asked(last) = contenders[0].do_now("insist") {
        kill(last);
    }
    closeness.tell(&format!("two clients whose server is killed meanwhile, {found_alive} times found alive"));
    place.clear();
}
