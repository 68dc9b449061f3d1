//! A ring of records that outlives the process: memory that is a file of the user's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process, thread};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock, ftruncate};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use super::folders::Folders;
use super::identity::euid;
#[cfg(test)]
use crate::fault::{self, Call};
use crate::recording::{self, FILE, RecordingFile, Ring, View};

/// The file of a recording, in memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    view: View,
    placed: Placed,
}

/// A file that is to be mapped.
#[derive(Debug)]
struct Placed {
    /// Locked as long as it is open, here or in a child that was forked.
    file: File,
    path: PathBuf,
    /// What a forked child drops stays its parent's.
    maker: u32,
}

impl Mapped {
    /// See [`Recording::create`](crate::Recording::create).
    pub(crate) fn create(name: &str, text: &[u8]) -> io::Result<Mapped> {
        Mapped::create_in(&Folders::of_this_process(), name, text)
    }

    fn create_in(folders: &Folders, name: &str, text: &[u8]) -> io::Result<Mapped> {
        let socket = folders.private_path("x")?;
        // Who writes beyond that is killed (SIGXFSZ).
        if getrlimit(Resource::Fsize).current.is_some_and(|most| most < FILE as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let (file, path) = loop {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = recording::file_name(name, NEXT.fetch_add(1, Ordering::Relaxed));
            let path = socket.with_file_name(name);
            match options.open(&path) {
                Ok(file) => break (file, path),
                // Of a process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let placed = Placed { file, path, maker: process::id() };
        Ok(Mapped { view: placed.map(text)?, placed })
    }

    #[inline]
    pub(crate) fn ring(&self) -> &Ring {
        self.view.ring()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.placed.path
    }

    pub(crate) fn describe(&self, text: &[u8]) -> io::Result<()> {
        self.placed.file.write_all_at(&recording::header(text), 0)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and nobody borrows any of it any more.
        if let Err(error) = unsafe { munmap(self.view.start(), FILE) } {
            log::debug!("unmapping a recording: {error}");
        }
    }
}

impl Placed {
    /// Locks it first, so that nobody ever takes it for a dead server's.
    fn map(&self, text: &[u8]) -> io::Result<View> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        ftruncate(&self.file, FILE as u64)?;
        // A page that the file system can't provide later would be a SIGBUS.
        if !keeps_room(&self.file) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        #[cfg(test)]
        fault::strikes(Call::Reserve)?;
        fallocate(&self.file, FallocateFlags::empty(), 0, FILE as u64)?;
        self.file.write_all_at(&recording::header(text), 0)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses where, so nothing that is there is replaced. What we map is only used as atomics, of
        // which every pattern of bits is a value.
        let start = unsafe { mmap(ptr::null_mut(), FILE, access, MapFlags::SHARED, &self.file, 0) }?;
        // SAFETY: so much was mapped there, and is unmapped when a `Mapped` is dropped.
        unsafe { View::at(start) }.ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Whether the path leads to our file still.
    fn is_there(&self) -> bool {
        let same =
            |found: fs::Metadata, ours: fs::Metadata| (found.dev(), found.ino()) == (ours.dev(), ours.ino());
        fs::symlink_metadata(&self.path)
            .and_then(|found| Ok(same(found, self.file.metadata()?)))
            .unwrap_or(false)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.maker == process::id() && !thread::panicking() && self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether what fallocate(2) has reserved stays so. Not where each page that is written again needs new room, as on btrfs and
/// ZFS; nor is it said of what others make, on another machine or in a process of theirs.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(clippy::unnecessary_cast)] // It has other types on other architectures.
fn keeps_room(file: &File) -> bool {
    // statfs(2): tmpfs, ramfs, ext2 to ext4, XFS.
    const KNOWN: [i64; 4] = [0x0102_1994, 0x8584_58f6, 0xef53, 0x5846_5342];
    rustix::fs::fstatfs(file).is_ok_and(|found| KNOWN.contains(&(found.f_type as i64)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn keeps_room(_file: &File) -> bool {
    true
}

/// The recordings of this user's servers: of those that run, and of those that did not end in order; of one process, or of all.
///
/// # Platform-specific behavior
///
/// In all folders in which `local:` endpoints are looked for, by what is in the files, not by their names: those that are regular
/// ones of this user, closed to others, and no links. Where the file system knows no flock(2) there are none.
#[must_use]
pub fn recordings(of: Option<u32>) -> Vec<RecordingFile> {
    recordings_in(&Folders::of_this_process(), of)
}

fn recordings_in(folders: &Folders, of: Option<u32>) -> Vec<RecordingFile> {
    let mut found = Vec::<RecordingFile>::new();
    for path in
        folders.private_folders().flat_map(|folder| recording::paths_in(&folder, of).collect::<Vec<_>>())
    {
        found.extend(open(path));
    }
    found
}

fn open(path: PathBuf) -> Option<RecordingFile> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.uid() != euid() || found.mode() & 0o077 != 0 {
        return None;
    }
    // Its lock is its server's. A shared one is in nobody's way: a new server's file has no header before it is locked, and
    // so is none.
    RecordingFile::new(file, path, |file| match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => flock(file, FlockOperation::Unlock).is_ok().then_some(false),
        Err(Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::RING_RECORDS;
    use crate::fault::Answer;
    use crate::recording::RecordCells;

    fn folders() -> (tempfile::TempDir, Folders) {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path());
        (root, folders)
    }

    fn count(root: &tempfile::TempDir) -> usize {
        fs::read_dir(root.path().join("tmp")).map_or(0, Iterator::count)
    }

    #[test]
    fn what_is_written_is_read_while_it_is_there_and_gone_when_it_is_dropped() {
        let (root, folders) = folders();
        let recording = Mapped::create_in(&folders, "app", b"what it is").unwrap();
        let path = recording.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let last = &recording.ring()[RING_RECORDS - 1];
        last.wide()[0].store(7, Relaxed);
        last.narrow()[7].store(8, Relaxed);
        let found = recordings_in(&folders, None);
        assert_eq!((found.len(), found[0].is_alive(), found[0].path()), (1, true, &*path));
        assert!(found[0].text().unwrap().starts_with(b"what it is\0"));
        let ring = found[0].ring().unwrap();
        let record = &ring[(RING_RECORDS - 1) * RecordCells::BYTES..];
        assert_eq!((&record[..8], &record[60..]), (&7_u64.to_ne_bytes()[..], &8_u32.to_ne_bytes()[..]));
        assert!(recordings_in(&folders, None).pop().unwrap().remove().is_err(), "its server is there");
        recording.describe(b"another").unwrap();
        assert!(found[0].text().unwrap().starts_with(b"another\0"));
        drop(recording);
        assert_eq!(count(&root), 0);
    }

    /// As a process leaves it that was killed.
    #[test]
    fn a_dead_ones_stays_until_it_is_removed() {
        let (root, folders) = folders();
        let recording = Mapped::create_in(&folders, "app", b"").unwrap();
        let path = recording.path().to_owned();
        let bytes = fs::read(&path).unwrap();
        drop(recording);
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // Nobody is taken in by what only looks like one.
        let [link, open, short, other] =
            ["a", "b", "c", "d"].map(|name| path.with_file_name(format!("{name}.recorder")));
        symlink(&path, &link).unwrap();
        fs::write(&open, &bytes).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        for (path, bytes) in [(&short, &bytes[..100]), (&other, &vec![b'x'; bytes.len()])] {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::create_dir(path.with_file_name("e.recorder")).unwrap();
        let found = recordings_in(&folders, None);
        assert_eq!((found.len(), found[0].is_alive(), found[0].path()), (1, false, &*path));
        found.into_iter().for_each(|found| found.remove().unwrap());
        assert_eq!(count(&root), 5);
        assert!(recordings_in(&folders, None).is_empty());
    }

    #[test]
    fn a_file_that_gets_no_room_is_not_left_behind() {
        let (root, folders) = folders();
        let script = fault::script(&[(Call::Reserve, Answer::Fails(libc::ENOSPC))]);
        let error = Mapped::create_in(&folders, "app", b"").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        drop(script);
        assert_eq!(count(&root), 0);
    }
}
