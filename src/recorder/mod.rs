//! The flight recorder: what a server's loop did last, to be read when it hangs, and when it has died.
//!
//! Each server notes in a ring what it is about to handle, before it does: the header of each request, never its payload, and connections that come and go. The
//! ring lies in a file of its user's, which is memory to the server, so that it costs no system call and stays when
//! the process is killed; a server that ends in order removes it. [`Recording`] finds and reads these files, without the
//! server's help; so does `sidewire recorder`.
//!
//! ```
//! use sidewire::recorder::Recording;
//!
//! for recording in Recording::all() {
//!     println!("{} (pid {}): {}", recording.program(), recording.pid(), recording.doing().unwrap_or_default());
//! }
//! ```
//!
//! A server makes its file when it gets its first endpoint, its parent's channel or its first stream, and names all
//! its endpoints in it. Where no file is to be had, as on a full disk or some file systems, and with
//! [`ServerBuilder::without_recording`](crate::ServerBuilder::without_recording), the ring is ordinary memory, and nothing else changes.
//!
//! # What is left behind
//! A file has 132 KiB. When a server starts, it removes those of dead servers of this user that had one of its endpoints,
//! those that are older than a day, and all but the 16 newest.
//!
//! # Platform-specific behavior
//! Unix: `NAME-PID-N.recorder`, mode 0600, in the folder where `local:` sockets are. That a server is there is told by a lock
//! (flock(2)). Where that folder is on a disk, as in a container that has none for the session, the system writes the ring's pages
//! back every few seconds, and a store may have to wait for that; in memory (tmpfs) it never does. Windows: in
//! `%LOCALAPPDATA%\Sidewire`, open to this user and SYSTEM only; of an elevated server in the `Sidewire` folder of SYSTEM's profile, which
//! only elevated readers find.

mod found;
mod kept;
mod record;
#[cfg(test)]
mod tests;
mod text;
mod writing;

pub use found::Recording;
pub use record::{Record, RecordKind, RecordState};

pub(crate) use found::doing;
pub(crate) use kept::{Label, begin, sweep};
pub(crate) use record::Ran;
pub(crate) use writing::{Begun, NOBODY, Recorder};
