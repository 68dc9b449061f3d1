//! What a recording is on all systems: a ring of records, and the file that it may lie in.

use std::ffi::OsStr;
#[cfg(any(unix, windows))]
use std::ffi::c_void;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
#[cfg(any(unix, windows))]
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::SystemTime;

use crate::os::Mapped;

/// Records that a ring has room for.
pub const RING_RECORDS: usize = 2048;
/// Bytes that stand before the ring in a file; also what there may be of a page.
pub(crate) const HEADER: usize = 4096;
/// Bytes of a file.
pub(crate) const FILE: usize = HEADER + size_of::<Ring>();
/// What a file begins with.
pub(crate) const MAGIC: &[u8] = b"sidewire recording 1\n";
/// How the name of a file ends.
pub(crate) const EXTENSION: &str = "recorder";
/// Most bytes of the name that a user chooses, in a file's name.
const NAME: usize = 48;

/// The records of a [`Recording`](crate::Recording).
pub type Ring = [RecordCells; RING_RECORDS];

/// One record of a ring: numbers, each of which is written and read as a whole. What they mean is their writer's.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RecordCells {
    wide: [AtomicU64; 4],
    narrow: [AtomicU32; 8],
}

impl RecordCells {
    /// Bytes of a record in a file: these numbers in this order, as the machine has them in its memory.
    pub const BYTES: usize = 64;

    /// The numbers of 64 bits.
    #[inline]
    #[must_use]
    pub fn wide(&self) -> &[AtomicU64; 4] {
        &self.wide
    }

    /// Those of 32 bits.
    #[inline]
    #[must_use]
    pub fn narrow(&self) -> &[AtomicU32; 8] {
        &self.narrow
    }
}

const _: () = assert!(size_of::<RecordCells>() == RecordCells::BYTES);

/// A ring of records that one thread writes.
#[derive(Debug)]
pub struct Recording(Memory);

/// Where the ring lies.
#[derive(Debug)]
enum Memory {
    /// In a box of our own.
    Boxed(Box<Ring>),
    /// In a file of the user's.
    Mapped(Mapped),
}

impl Recording {
    /// One that ends with the process.
    #[must_use]
    pub fn in_memory() -> Recording {
        // Not on the stack first, which may be small.
        let ring: Vec<_> = std::iter::repeat_with(RecordCells::default).take(RING_RECORDS).collect();
        Recording(Memory::Boxed(ring.try_into().unwrap_or_else(|_| unreachable!("it has that length"))))
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
    /// Windows: in the folder `Sidewire` below `%LOCALAPPDATA%`, with a descriptor of this user and SYSTEM, and of nobody
    /// else. Of an elevated process it is that folder in SYSTEM's profile, which ordinary ones can't change.
    pub fn create(name: &str, text: &[u8]) -> io::Result<Recording> {
        Mapped::create(name, text).map(|mapped| Recording(Memory::Mapped(mapped)))
    }

    /// Its records.
    #[inline]
    #[must_use]
    pub fn ring(&self) -> &Ring {
        match &self.0 {
            Memory::Boxed(ring) => ring,
            Memory::Mapped(mapped) => mapped.ring(),
        }
    }

    /// Where its file is, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Memory::Boxed(_) => None,
            Memory::Mapped(mapped) => Some(mapped.path()),
        }
    }

    /// Says something else of itself.
    ///
    /// # Errors
    ///
    /// What the system says of writing.
    pub fn describe(&self, text: &[u8]) -> io::Result<()> {
        match &self.0 {
            Memory::Boxed(_) => Ok(()),
            Memory::Mapped(mapped) => mapped.describe(text),
        }
    }
}

/// The ring in a whole file that a system has mapped.
#[derive(Debug)]
#[cfg(any(unix, windows))]
pub(crate) struct View(NonNull<Ring>);

// SAFETY: the memory belongs to no thread, and is there as long as this value (see `View::at`); all that is done with it
// goes through atomics.
#[cfg(any(unix, windows))]
unsafe impl Send for View {}
// SAFETY: as above.
#[cfg(any(unix, windows))]
unsafe impl Sync for View {}

#[cfg(any(unix, windows))]
impl View {
    /// Of the file that is mapped at `start`. `None`: there is nothing.
    ///
    /// # Safety
    ///
    /// [`FILE`] bytes are mapped there, to be read and written, at the beginning of a page, and whoever has this unmaps them
    /// when he drops it, and no earlier.
    pub(crate) unsafe fn at(start: *mut c_void) -> Option<View> {
        let start = NonNull::new(start)?;
        // SAFETY: the header lies in what is mapped.
        let ring = unsafe { start.byte_add(HEADER) };
        Some(View(ring.cast()))
    }

    #[inline]
    pub(crate) fn ring(&self) -> &Ring {
        // SAFETY: what is mapped is there as long as this. The ring behind the header is aligned, as pages and the header are,
        // and every pattern of bits is one of its values.
        unsafe { self.0.as_ref() }
    }

    /// Where the file begins.
    pub(crate) fn start(&self) -> *mut c_void {
        // SAFETY: the ring lies that far behind the start of what is mapped.
        unsafe { self.0.byte_sub(HEADER) }.as_ptr().cast()
    }
}

/// A whole header with this text.
pub(crate) fn header(text: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&text[..text.len().min(HEADER - MAGIC.len())]);
    header.resize(HEADER, 0);
    header
}

/// The name of a file: nothing of what a user chooses may lead elsewhere.
pub(crate) fn file_name(name: &str, number: u32) -> String {
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    let name: String = name.chars().filter(is_plain).take(NAME).collect();
    format!("{name}-{}-{number}.{EXTENSION}", std::process::id())
}

/// The paths in a folder that may be recordings: of the process with this number, by [`file_name`], or of any.
pub(crate) fn paths_in(folder: &Path, of: Option<u32>) -> impl Iterator<Item = PathBuf> {
    let part = of.map(|pid| format!("-{pid}-"));
    let is_wanted = move |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.extension() == Some(OsStr::new(EXTENSION))
            && part.as_ref().is_none_or(|part| name.contains(part))
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_wanted)
}

/// A recording that lies in one of the user's folders: of a server that runs, or of one that did not end in order.
/// From [`recordings`](crate::recordings).
///
/// It is read, never mapped: whatever becomes of the file meanwhile, nothing worse than an error comes of that.
#[derive(Debug)]
pub struct RecordingFile {
    file: File,
    path: PathBuf,
    is_alive: bool,
}

impl RecordingFile {
    /// Of a file that is the user's alone, and of whose server we are told how to see whether it is there. `None`: it is
    /// no recording, or nobody can tell that.
    pub(crate) fn new(
        file: File,
        path: PathBuf,
        is_alive: impl FnOnce(&File) -> Option<bool>,
    ) -> Option<RecordingFile> {
        let is_long = file.metadata().is_ok_and(|found| found.is_file() && found.len() == FILE as u64);
        let mut recording = RecordingFile { file, path, is_alive: true };
        if !is_long || recording.read(0, MAGIC.len()).ok()? != MAGIC {
            return None;
        }
        recording.is_alive = is_alive(&recording.file)?;
        Some(recording)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its server was there when this was looked for.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// When it was made, or its text was last changed.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// What its server says of itself: the text of [`Recording::create`](crate::Recording::create), and zeros behind it.
    ///
    /// # Errors
    ///
    /// What the system says of reading; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if somebody has cut the file.
    pub fn text(&self) -> io::Result<Vec<u8>> {
        self.read(MAGIC.len(), HEADER - MAGIC.len())
    }

    /// The ring's bytes: [`RING_RECORDS`] records of [`RecordCells::BYTES`]. Those that are written meanwhile come in part
    /// as they were and in part as they will be.
    ///
    /// # Errors
    ///
    /// As [`text`](RecordingFile::text).
    pub fn ring(&self) -> io::Result<Vec<u8>> {
        self.read(HEADER, size_of::<Ring>())
    }

    /// Removes the file, if its server has gone. That it is a recording was looked at when it was opened.
    ///
    /// # Errors
    ///
    /// What the system says; [`ResourceBusy`](io::ErrorKind::ResourceBusy) while its server is there.
    pub fn remove(self) -> io::Result<()> {
        if self.is_alive {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // Another may have removed it, and begun one of the same name.
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let (found, ours) = (fs::symlink_metadata(&self.path)?, self.file.metadata()?);
            if (found.dev(), found.ino()) != (ours.dev(), ours.ino()) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        drop(self.file);
        fs::remove_file(&self.path)
    }

    fn read(&self, offset: usize, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use super::*;

    #[test]
    fn one_in_memory_is_a_ring_and_nothing_else() {
        let recording = Recording::in_memory();
        recording.ring()[RING_RECORDS - 1].wide()[0].store(1, std::sync::atomic::Ordering::Relaxed);
        recording.describe(b"nothing").unwrap();
        assert_eq!(recording.path(), None);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let pid = std::process::id();
        assert_eq!(file_name("my-app_2", 3), format!("my-app_2-{pid}-3.recorder"));
        assert_eq!(file_name("../a b\\c:\u{202e}.exe\0", 0), format!("abcexe-{pid}-0.recorder"));
        assert!(file_name(&"x".repeat(1000), 0).len() < 80);
    }

    #[test]
    fn a_header_has_its_size_whatever_is_said() {
        let whole = header(&[b'x'; 2 * HEADER]);
        assert_eq!((whole.len(), whole.starts_with(MAGIC)), (HEADER, true));
        assert_eq!(header(b"").iter().filter(|byte| **byte != 0).count(), MAGIC.len());
    }
}
