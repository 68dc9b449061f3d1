//! Many starts of one app at the same moment.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver};

use sidewire::SingleInstance;

use crate::stage::{Said, Start, hear};
use crate::util::{unique, watchdog};

/// Wine starts a process in the time in which Linux starts fifty.
const STARTS: usize = if cfg!(windows) { 10 } else { 50 };
const ROUNDS: usize = if cfg!(windows) { 5 } else { 20 };

/// Of all that start one is the instance, and the others are acknowledged; when it is killed meanwhile, one of
/// those that it has not taken is the next.
#[test]
fn one_is_the_instance_and_all_others_reach_it() {
    let _watchdog = watchdog(110);
    let app = unique("com.example.App");
    for round in 0..ROUNDS {
        // At once, or when it has taken some.
        let killed_after = (round % 2 == 1).then_some(round / 2 * (STARTS - 2) / (ROUNDS / 2));
        Round::begin(&app).run(killed_after);
        assert_eq!(left_over(&app), [""; 0], "round {round}");
    }
    SingleInstance::acquire(&app).expect("acquire").first().expect("nobody else is left");
}

struct Round {
    starts: Vec<Start>,
    said: Receiver<Said>,
    instances: Vec<usize>,
    handed: BTreeSet<usize>,
    /// By the instance with this index, the one with that.
    taken: Vec<(usize, usize)>,
}

impl Round {
    /// All have begun, and none has asked.
    fn begin(app: &str) -> Round {
        let (sender, said) = mpsc::channel();
        let starts: Vec<_> = (0..STARTS).map(|index| Start::new(app, index, sender.clone())).collect();
        let ready = BTreeSet::from_iter(starts.iter().map(|_| hear(&said)));
        assert!(ready.len() == STARTS && ready.iter().all(|(_, line)| line == "ready"), "{ready:?}");
        Round { starts, said, instances: Vec::new(), handed: BTreeSet::new(), taken: Vec::new() }
    }

    fn run(mut self, killed_after: Option<usize>) {
        self.starts.iter_mut().for_each(|start| start.tell("go"));
        let mut killed = None;
        while self.handed.len() + self.instances.len() < STARTS {
            self.listen(killed_after);
            let taken = self.taken.len();
            if let (None, Some(after), [first]) = (killed, killed_after, self.instances.as_slice())
                && taken == after
            {
                self.starts[*first].kill();
                killed = Some(*first);
            }
        }
        assert_eq!(self.instances.len(), 1 + usize::from(killed.is_some()), "{:?}", self.instances);
        let last = *self.instances.last().expect("an instance");
        self.starts[last].end();
        for (index, start) in self.starts.iter_mut().enumerate() {
            if Some(index) != killed {
                start.expect_success();
            }
        }
        self.check_taken(killed);
    }

    /// One thing that somebody says.
    fn listen(&mut self, killed_after: Option<usize>) {
        let (who, line) = hear(&self.said);
        match line.split_once(' ') {
            None if line == "first" => {
                let count = killed_after.filter(|_| self.instances.is_empty());
                self.instances.push(who);
                let order = count.map_or("take all".into(), |count| format!("take {count}"));
                self.starts[who].tell(&order);
            }
            Some(("took", whom)) => self.taken.push((who, whom.parse().expect("an index"))),
            Some(("handed", pid)) => {
                let is_instances = |index: &usize| self.starts[*index].child.id().to_string() == pid;
                // Its own word may come later than that of those whom it has taken.
                assert!(self.instances.is_empty() || self.instances.iter().any(is_instances), "{who}: {pid}");
                assert!(self.handed.insert(who));
            }
            _ => panic!("{who}: {line}"),
        }
    }

    fn check_taken(&mut self, killed: Option<usize>) {
        while let Ok((who, line)) = self.said.try_recv() {
            let whom = line.strip_prefix("took ").expect("only this is said late");
            self.taken.push((who, whom.parse().expect("an index")));
        }
        let by_the_living = self.taken.iter().filter(|(by, _)| Some(*by) != killed).count();
        let all = BTreeSet::from_iter(self.taken.iter().map(|(_, whom)| *whom));
        assert!(self.handed.is_subset(&all), "{:?} {all:?}", self.handed);
        match killed {
            None => assert_eq!((by_the_living, all.len()), (STARTS - 1, STARTS - 1)),
            // Those that the other had taken, but had no time to tell, came again.
            Some(_) => assert!(
                (STARTS - 2 - (self.taken.len() - by_the_living)..STARTS - 1).contains(&by_the_living)
            ),
        }
    }
}

/// Files of this app. Windows has none.
pub(crate) fn left_over(app: &str) -> Vec<String> {
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    let user = sidewire_platform::current_user().expect("who we are").to_string().replace("uid ", "");
    let folders = session
        .into_iter()
        .chain([format!("/run/user/{user}").into(), format!("/tmp/sidewire-{user}").into()]);
    let names = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(app)).collect()
}
