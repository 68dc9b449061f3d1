//! What has to hold all along, and whether it did.

use std::time::Duration;

/// What a server holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes that it has allocated and not given back.
    pub(super) allocated: u64,
    /// Bytes that it has from the system: what its heap keeps for later, its stacks and its program, too.
    pub(super) resident: u64,
    pub(super) descriptors: u64,
}

impl Usage {
    /// Of each the higher one.
    fn max(self, other: Usage) -> Usage {
        Usage {
            allocated: self.allocated.max(other.allocated),
            resident: self.resident.max(other.resident),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

/// What is allowed. What the numbers are for is said in the command's help.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) p99: Duration,
    pub(super) longest: Duration,
    /// Clients that may be connected at a time, good and bad; none over datagrams.
    pub(super) clients: u64,
    /// Whether the system is Wine, which counts no handles, and whose heap does not fill its holes: it takes more memory long
    /// after a program has all that it will ever hold.
    pub(super) is_wine: bool,
}

/// Memory may grow by a quarter, and by this, over the most that it was while the crowd came.
const SPARE_MEMORY: u64 = 16 << 20;
/// Under Wine what it has from the system may grow to so many times as much.
const TIMES_UNDER_WINE: u64 = 3;
/// Descriptors for each client: Windows has more than one for each.
const DESCRIPTORS_EACH: u64 = 4;
/// Descriptors that a server may have besides while the crowd is there: connections that are being closed.
const CLOSING: u64 = 64;
/// Descriptors that may be more at the end than before the first client: what the system's library opens
/// when it is first needed.
const SPARE_DESCRIPTORS: u64 = 8;
/// Bytes that it may have allocated then over those before the first client: queues keep room.
const SPARE_ALLOCATED: u64 = 4 << 20;
/// And for each client that may have been connected at a time, whose place is kept.
const SPARE_EACH: u64 = 512;

/// How the server's memory and descriptors went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    /// Connections when nobody is there but who asks how many there are.
    pub(super) own_connections: u64,
    /// Before the first client.
    pub(super) before: Usage,
    /// The most while the crowd came.
    pub(super) warm: Option<Usage>,
    /// The most since.
    pub(super) most: Usage,
    /// The last while clients were there.
    pub(super) last: Usage,
    /// When all of them had gone; `None`: nobody could look.
    pub(super) after: Option<Usage>,
    /// Connections that the server counted then.
    pub(super) connections_after: Option<u64>,
}

impl Course {
    /// One look at it, while the crowd still comes, or later.
    pub(super) fn saw(&mut self, usage: Usage, is_warming_up: bool) {
        self.last = usage;
        let most = if is_warming_up { self.warm.get_or_insert(usage) } else { &mut self.most };
        *most = most.max(usage);
    }

    /// When clients have gone, whether the server has let go of all that was theirs.
    pub(super) fn has_settled(&self, clients: u64) -> bool {
        let Some(after) = self.after else { return false };
        after.descriptors <= self.before.descriptors + SPARE_DESCRIPTORS
            && after.allocated <= self.allocated_at_end(clients)
            && self.connections_after == Some(self.own_connections)
    }

    fn allocated_at_end(&self, clients: u64) -> u64 {
        self.before.allocated + SPARE_ALLOCATED + clients * SPARE_EACH
    }
}

/// All that is judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) answered: u64,
    pub(super) wrong: u64,
    pub(super) failed: u64,
    pub(super) p99: Duration,
    pub(super) longest: Duration,
    pub(super) course: Course,
    /// How the server ended, if not when and as it was asked to.
    pub(super) end: Option<String>,
    pub(super) panics: u64,
}

/// One thing that has to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) name: &'static str,
    pub(super) holds: bool,
    pub(super) text: String,
}

/// In the order of the report.
pub(super) fn judge(evidence: &Evidence, bounds: &Bounds) -> Vec<Verdict> {
    let Evidence { answered, wrong, failed, p99, longest, course, end, panics } = evidence;
    let verdict = |name, holds, text| Verdict { name, holds, text };
    let warm = course.warm.unwrap_or_default();
    let resident =
        if bounds.is_wine { TIMES_UNDER_WINE * warm.resident } else { a_quarter_more(warm.resident) };
    vec![
        verdict("server lives", end.is_none(), end.clone().unwrap_or("it ended when it was asked to".into())),
        verdict("no panic", *panics == 0, format!("{panics} panics")),
        verdict("replies right", *wrong == 0 && *answered > 0, format!("{answered} answers, {wrong} wrong")),
        verdict("all served", *failed == 0, format!("{failed} calls or connections of probes failed")),
        memory("memory flat", course.most.allocated, a_quarter_more(warm.allocated)),
        memory("resident flat", course.most.resident, resident),
        descriptors(course, bounds),
        let_go(course, bounds),
        verdict("latency p99", p99 <= &bounds.p99, format!("{}, bound {}", ms(*p99), ms(bounds.p99))),
        verdict("latency longest", longest <= &bounds.longest, {
            format!("{}, bound {}", ms(*longest), ms(bounds.longest))
        }),
    ]
}

fn a_quarter_more(bytes: u64) -> u64 {
    bytes + bytes / 4
}

fn memory(name: &'static str, most: u64, may_be: u64) -> Verdict {
    let bound = may_be + SPARE_MEMORY;
    let text = format!("{} at most behind the warm-up, bound {}", mib(most), mib(bound));
    Verdict { name, holds: most <= bound, text }
}

fn descriptors(course: &Course, bounds: &Bounds) -> Verdict {
    let bound = course.before.descriptors + DESCRIPTORS_EACH * bounds.clients + CLOSING;
    let highest = course.most.descriptors.max(course.warm.unwrap_or_default().descriptors);
    let text = match bounds.is_wine {
        true => "not known: Wine counts no handles".into(),
        false => format!("{highest} at most, bound {bound}"),
    };
    Verdict { name: "descriptors bounded", holds: highest <= bound, text }
}

fn let_go(course: &Course, bounds: &Bounds) -> Verdict {
    let Course { own_connections, before, after, connections_after, .. } = course;
    let known = |number: Option<String>| number.unwrap_or("not known".into());
    let descriptors = match bounds.is_wine {
        true => String::new(),
        false => {
            let at_end = known(after.map(|after| after.descriptors.to_string()));
            format!("{at_end} descriptors at the end, bound {}; ", before.descriptors + SPARE_DESCRIPTORS)
        }
    };
    let text = format!(
        "{descriptors}{} allocated, bound {}; {} connections, bound {own_connections}",
        known(after.map(|after| mib(after.allocated))),
        mib(course.allocated_at_end(bounds.clients)),
        known(connections_after.map(|count| count.to_string())),
    );
    Verdict { name: "all let go", holds: course.has_settled(bounds.clients), text }
}

pub(super) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        p99: Duration::from_millis(100),
        longest: Duration::from_secs(1),
        clients: 10,
        is_wine: false,
    };

    /// One that has as much again from the system as it has allocated.
    fn usage(mib: u64, descriptors: u64) -> Usage {
        Usage { allocated: mib << 20, resident: 2 * (mib << 20), descriptors }
    }

    fn allocated(mib: u64) -> Usage {
        Usage { allocated: mib << 20, ..Usage::default() }
    }

    fn good() -> Evidence {
        let mut course = Course { own_connections: 1, before: usage(5, 12), ..Course::default() };
        course.saw(usage(20, 20), true);
        course.saw(usage(21, 22), false);
        (course.after, course.connections_after) = (Some(usage(5, 12)), Some(1));
        let (p99, longest) = (BOUNDS.p99, BOUNDS.longest);
        Evidence { answered: 1, p99, longest, course, ..Evidence::default() }
    }

    /// What does not hold, if this is so besides.
    fn broken(but: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        broken_within(BOUNDS, but)
    }

    fn broken_within(bounds: Bounds, but: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        let mut evidence = good();
        but(&mut evidence);
        judge(&evidence, &bounds).into_iter().filter(|verdict| !verdict.holds).map(|it| it.name).collect()
    }

    #[test]
    fn all_can_hold() {
        assert_eq!(broken(|_| ()), [""; 0]);
    }

    #[test]
    fn each_can_fail_alone() {
        let nano = Duration::from_nanos(1);
        assert_eq!(broken(|it| it.end = Some("killed".into())), ["server lives"]);
        assert_eq!(broken(|it| it.panics = 1), ["no panic"]);
        assert_eq!(broken(|it| it.wrong = 1), ["replies right"]);
        assert_eq!(broken(|it| it.answered = 0), ["replies right"]);
        assert_eq!(broken(|it| it.failed = 1), ["all served"]);
        // A quarter of 20 MiB, and 16; of 40, and 16.
        assert_eq!(broken(|it| it.course.saw(allocated(41), false)), [""; 0]);
        assert_eq!(broken(|it| it.course.saw(allocated(42), false)), ["memory flat"]);
        assert_eq!(broken(|it| it.course.saw(usage(33, 20), false)), [""; 0]);
        assert_eq!(broken(|it| it.course.saw(usage(34, 20), false)), ["resident flat"]);
        assert_eq!(broken(|it| it.course.saw(usage(5, 12 + 40 + 64), false)), [""; 0]);
        assert_eq!(broken(|it| it.course.saw(usage(5, 12 + 40 + 65), false)), ["descriptors bounded"]);
        assert_eq!(broken(|it| it.course.saw(usage(5, 12 + 40 + 65), true)), ["descriptors bounded"]);
        assert_eq!(broken(|it| it.course.after = Some(usage(5, 21))), ["all let go"]);
        assert_eq!(broken(|it| it.course.after = Some(usage(9, 12))), [""; 0]);
        assert_eq!(broken(|it| it.course.after = Some(usage(10, 12))), ["all let go"]);
        assert_eq!(broken(|it| it.course.after = None), ["all let go"]);
        assert_eq!(broken(|it| it.course.connections_after = Some(2)), ["all let go"]);
        assert_eq!(broken(|it| it.course.connections_after = None), ["all let go"]);
        assert_eq!(broken(|it| it.p99 += nano), ["latency p99"]);
        assert_eq!(broken(|it| it.longest += nano), ["latency longest"]);
    }

    #[test]
    fn under_wine_the_system_s_memory_grows_and_what_is_allocated_does_not() {
        let wine = Bounds { is_wine: true, ..BOUNDS };
        // Three times 40 MiB, and 16.
        let resident = |mib: u64| Usage { resident: mib << 20, ..Usage::default() };
        assert_eq!(broken_within(wine, |it| it.course.saw(resident(136), false)), [""; 0]);
        assert_eq!(broken_within(wine, |it| it.course.saw(resident(137), false)), ["resident flat"]);
        assert_eq!(broken_within(wine, |it| it.course.saw(allocated(42), false)), ["memory flat"]);
    }

    #[test]
    fn what_was_most_is_kept() {
        let mut course = Course::default();
        course.saw(usage(30, 5), true);
        course.saw(usage(10, 9), true);
        course.saw(usage(7, 3), false);
        let (warm, most, last) = (course.warm, course.most, course.last);
        assert_eq!((warm, most, last), (Some(usage(30, 9)), usage(7, 3), usage(7, 3)));
    }
}
