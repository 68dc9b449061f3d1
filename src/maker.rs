//! Which process made something. A child that is forked later has a copy of it and the same descriptors, but
//! what others see of it, files and connections and their ends, is its maker's: the child only closes what it has.

use std::process;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker(u32);

impl Maker {
    /// This process.
    pub(crate) fn here() -> Maker {
        Maker(process::id())
    }

    pub(crate) fn is_here(self) -> bool {
        self.0 == process::id()
    }
}
