//! A ring of records that outlives the process: memory that is a file of the user's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
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
use crate::recording::{self, FILE, HEADER, RecordingFile, Ring};

/// A ring of records that one thread writes.
#[derive(Debug)]
pub struct Recording {
    /// In `memory`.
    ring: NonNull<Ring>,
    memory: Memory,
}

/// Where the ring lies.
#[derive(Debug)]
enum Memory {
    /// In a box of our own.
    Boxed,
    Mapped(Placed),
}

/// A file that is mapped.
#[derive(Debug)]
struct Placed {
    /// Locked as long as it is open, here or in a child that was forked.
    file: File,
    path: PathBuf,
    /// What a forked child drops stays its parent's.
    maker: u32,
}

// SAFETY: the memory belongs to this value and to no thread, and is there until it is dropped; all that is done with it
// goes through atomics.
unsafe impl Send for Recording {}
// SAFETY: as above.
unsafe impl Sync for Recording {}

impl Recording {
    /// One that ends with the process.
    #[must_use]
    pub fn in_memory() -> Recording {
        Recording { ring: NonNull::from(Box::leak(recording::boxed())), memory: Memory::Boxed }
    }

    /// One in a file, which others of this user find by [`recordings`](crate::recordings), also when this process has been
    /// killed, and which is gone when this is dropped; not if that is because its thread panics. `name` becomes a part of the file's name,
    /// `text` is what it says of itself, of which it takes about 4,000 bytes.
    ///
    /// # Errors
    ///
    /// What the system says of creating, locking and mapping it; that there is no folder for it, or no room: that is
    /// reserved now, so that none is missing later.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: where `local:` sockets are, mode 0600; Linux: if that is a tmpfs, ext2 to ext4, or XFS, since others may lack room later.
    /// Windows: in the folder `Sidewire` below `%LOCALAPPDATA%`, with a
    /// descriptor of this user and SYSTEM, and of nobody else.
    pub fn create(name: &str, text: &[u8]) -> io::Result<Recording> {
        Recording::create_in(&Folders::of_this_process(), name, text)
    }

    fn create_in(folders: &Folders, name: &str, text: &[u8]) -> io::Result<Recording> {
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
        let ring = placed.map(text)?;
        Ok(Recording { ring, memory: Memory::Mapped(placed) })
    }

    /// Its records.
    #[inline]
    #[must_use]
    pub fn ring(&self) -> &Ring {
        // SAFETY: `ring` points to a ring, of zeros at first, in memory that goes only with this value.
        unsafe { self.ring.as_ref() }
    }

    /// Where its file is, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&std::path::Path> {
        match &self.memory {
            Memory::Boxed => None,
            Memory::Mapped(placed) => Some(&placed.path),
        }
    }

    /// Says something else of itself.
    ///
    /// # Errors
    ///
    /// What the system says of writing.
    pub fn describe(&self, text: &[u8]) -> io::Result<()> {
        match &self.memory {
            Memory::Boxed => Ok(()),
            Memory::Mapped(placed) => placed.file.write_all_at(&recording::header(text), 0),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        match &self.memory {
            // SAFETY: it was boxed, and nobody borrows it any more.
            Memory::Boxed => drop(unsafe { Box::from_raw(self.ring.as_ptr()) }),
            Memory::Mapped(_) => {
                // SAFETY: this is what was mapped, and nobody borrows any of it any more.
                let unmapped = unsafe { munmap(self.ring.as_ptr().byte_sub(HEADER).cast(), FILE) };
                if let Err(error) = unmapped {
                    log::debug!("unmapping a recording: {error}");
                }
            }
        }
    }
}

impl Placed {
    /// Locks it first, so that nobody ever takes it for a dead server's.
    fn map(&self, text: &[u8]) -> io::Result<NonNull<Ring>> {
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
        // SAFETY: the header lies in what was mapped. The ring behind it is aligned, as pages and the header are.
        let ring = unsafe { start.byte_add(HEADER) };
        NonNull::new(ring.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
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
        let recording = Recording::create_in(&folders, "app", b"what it is").unwrap();
        let path = recording.path().unwrap().to_owned();
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
        let recording = Recording::create_in(&folders, "app", b"").unwrap();
        let path = recording.path().unwrap().to_owned();
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
        let error = Recording::create_in(&folders, "app", b"").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        drop(script);
        assert_eq!(count(&root), 0);
        let recording = Recording::in_memory();
        recording.ring()[0].wide()[0].store(1, Relaxed);
        recording.describe(b"nothing").unwrap();
        assert_eq!(recording.path(), None);
    }
}
