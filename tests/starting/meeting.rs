//! Two processes that begin at the same moment, however busy the machine is.
//!
//! They share a file in which each writes and reads again and again, until one of them finds that the other has written just
//! now. Then both are on a processor, and that one gives the sign. A time that both are told would not do: at that time a
//! busy machine may have a processor for one of them only.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::program::Place;

/// Where in the file the sign is, behind one byte of each side: the number of the round that begins.
const SIGN: u64 = 2;
/// What was written within that time was just now. A look takes a few microseconds.
const JUST_NOW: Duration = Duration::from_micros(50);
/// So long they wait for each other, since there may be no two processors.
const PATIENCE: Duration = Duration::from_millis(100);

/// As who tells them to begin has it.
pub(crate) struct Meeting {
    file: File,
    round: u8,
}

fn open(place: &Place) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(place.folder().join("meeting")).expect("a file")
}

fn read(file: &File, at: u64) -> u8 {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the file can be read");
    byte[0]
}

fn write(file: &File, at: u64, byte: u8) {
    file.write_all_at(&[byte], at).expect("the file can be written");
}

impl Meeting {
    pub(crate) fn new(place: &Place) -> Meeting {
        let file = open(place);
        file.set_len(SIGN + 1).expect("room for three bytes");
        Meeting { file, round: 0 }
    }

    /// The next round, which nobody has begun.
    pub(crate) fn next(&mut self) -> u8 {
        self.round = self.round.wrapping_add(1);
        self.round
    }

    /// Waits until they have begun, or as good as that.
    pub(crate) fn wait(&self) {
        let end = Instant::now() + 2 * PATIENCE;
        while read(&self.file, SIGN) != self.round && Instant::now() < end {
            thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Waits for the other one. When that was: nanoseconds since 1970.
pub(crate) fn meet(place: &Place, side: u64, round: u8) -> u128 {
    let (file, other) = (open(place), 1 - side);
    let mut looked = Instant::now();
    let (mut ours, mut theirs) = (read(&file, side), read(&file, other));
    let end = looked + PATIENCE;
    while read(&file, SIGN) != round && looked < end {
        ours = ours.wrapping_add(1);
        write(&file, side, ours);
        let (now, before) = (Instant::now(), theirs);
        theirs = read(&file, other);
        if theirs != before && now.duration_since(looked) < JUST_NOW {
            write(&file, SIGN, round);
        }
        looked = now;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_nanos()
}
