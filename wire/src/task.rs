//! What a connection may be for besides calls: something about the server itself.

use std::fmt;

/// What an initiator asks of the responder with its hello. Its connection is for that, and carries no calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Task {
    /// To end in order.
    Stop,
    /// To leave its endpoint to the initiator.
    Handover,
}

impl Task {
    /// All that there are.
    const ALL: [Task; 2] = [Task::Stop, Task::Handover];

    /// Its bit among the features that a hello requires.
    pub(crate) const fn bit(self) -> u32 {
        match self {
            Task::Stop => 1,
            Task::Handover => 2,
        }
    }

    /// The tasks among these bits, and the bits that stand for none.
    pub(crate) fn among(bits: u32) -> (impl Iterator<Item = Task>, u32) {
        let known = Task::ALL.iter().fold(0, |all, task| all | task.bit());
        (Task::ALL.into_iter().filter(move |task| bits & task.bit() != 0), bits & !known)
    }
}

/// As in "it is not to be asked to stop".
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Stop => "stop",
            Task::Handover => "hand its endpoint over",
        })
    }
}

/// The tasks that an owner lets its peers ask for. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks(u32);

impl Tasks {
    /// These, and that one.
    #[must_use]
    pub fn and(self, task: Task) -> Tasks {
        Tasks(self.0 | task.bit())
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn include(self, task: Task) -> bool {
        self.0 & task.bit() != 0
    }
}
