//! A ring of records that outlives the process: memory that is a file of the user's.
//!
//! Not proven on real Windows, but seen under Wine: that a file reads as its mapped view was written, also when the process has
//! been killed. "MapViewOfFile function" (learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-mapviewoffile)
//! promises no coherence with ReadFile; files of local disks have it, since both go by the same cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, thread};

use windows_sys::Win32::Foundation::{
    ERROR_FILE_EXISTS, ERROR_SHARING_VIOLATION, GENERIC_READ, GENERIC_WRITE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, PAGE_READWRITE,
    UnmapViewOfFile,
};

use super::identity::current_integrity;
use super::pipe::has_code;
use super::private::{create_new, objection};
use super::search::system_directory;
use crate::recording::{self, FILE, RecordingFile, Ring, View};

/// SECURITY_MANDATORY_MEDIUM_RID: the level of ordinary processes.
const MEDIUM: u32 = 0x2000;

/// The file of a recording, in memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    view: View,
    placed: Placed,
}

/// A file that is to be mapped.
#[derive(Debug)]
struct Placed {
    /// Nobody else can open it for writing meanwhile, which is how others see that its server is there.
    file: File,
    path: PathBuf,
}

impl Mapped {
    /// See [`Recording::create`](crate::Recording::create).
    pub(crate) fn create(name: &str, text: &[u8]) -> io::Result<Mapped> {
        let folder =
            folder().ok_or_else(|| io::Error::other("there is no folder for it (%LOCALAPPDATA%)"))?;
        fs::create_dir_all(&folder)?;
        let (file, path) = loop {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let path = folder.join(recording::file_name(name, NEXT.fetch_add(1, Ordering::Relaxed)));
            let share = FILE_SHARE_READ | FILE_SHARE_DELETE;
            match create_new(&path, GENERIC_READ | GENERIC_WRITE, share) {
                Ok(file) => break (file, path),
                // Of a process that had our number.
                Err(error) if has_code(&error, ERROR_FILE_EXISTS) => {}
                Err(error) => return Err(error),
            }
        };
        let mut placed = Placed { file, path };
        match placed.map(text) {
            Ok(view) => Ok(Mapped { view, placed }),
            Err(error) => {
                placed.remove();
                Err(error)
            }
        }
    }

    #[inline]
    pub(crate) fn ring(&self) -> &Ring {
        self.view.ring()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.placed.path
    }

    pub(crate) fn describe(&self, text: &[u8]) -> io::Result<()> {
        self.placed.describe(text)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this is the view that was mapped, and nobody borrows any of it any more.
        unsafe { UnmapViewOfFile(MEMORY_MAPPED_VIEW_ADDRESS { Value: self.view.start() }) };
        if !thread::panicking() {
            self.placed.remove();
        }
    }
}

impl Placed {
    fn map(&mut self, text: &[u8]) -> io::Result<View> {
        // Written, not only made that long: the room is there from now on.
        self.file.write_all(&[0; FILE])?;
        self.describe(text)?;
        // SAFETY: the file is open, and nothing else is given; the section keeps what it needs of it.
        let section = unsafe {
            CreateFileMappingW(self.file.as_raw_handle(), ptr::null(), PAGE_READWRITE, 0, 0, ptr::null())
        };
        if section.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so that the handle is open and nobody else owns it.
        let section = unsafe { OwnedHandle::from_raw_handle(section) };
        // SAFETY: the handle is open; the section is as long as the file, and the view keeps it.
        let view = unsafe { MapViewOfFile(section.as_raw_handle(), FILE_MAP_WRITE, 0, 0, FILE) };
        if view.Value.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: so much was mapped there, and is unmapped when a `Mapped` is dropped.
        unsafe { View::at(view.Value) }.ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn describe(&self, text: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&recording::header(text))
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("removing {}: {error}", self.path.display());
        }
    }
}

/// Of an elevated process it is where SYSTEM has its own: in the user's, his ordinary processes could put a junction in the
/// way, by which we would make and remove files elsewhere for them.
fn folder() -> Option<PathBuf> {
    let profile = match current_integrity()? {
        level if level > MEDIUM => system_directory()?.join(r"config\systemprofile\AppData\Local"),
        _ => PathBuf::from(env::var_os("LOCALAPPDATA")?),
    };
    profile.is_absolute().then(|| profile.join("Sidewire"))
}

/// The recordings of this user's servers: of those that run, and of those that did not end in order; of one process, or of all.
///
/// # Platform-specific behavior
///
/// In the folder `Sidewire` below `%LOCALAPPDATA%`, by what is in the files, not by their names: those of this user that nobody else may
/// read or write, and no links.
#[must_use]
pub fn recordings(of: Option<u32>) -> Vec<RecordingFile> {
    let paths = folder().into_iter().flat_map(|folder| recording::paths_in(&folder, of).collect::<Vec<_>>());
    paths.filter_map(open).collect()
}

fn open(path: PathBuf) -> Option<RecordingFile> {
    let all = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let mut options = OpenOptions::new();
    options.share_mode(all).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    let file = options.read(true).open(&path).ok()?;
    if !matches!(objection(&file), Ok(None)) {
        return None;
    }
    let written = options.read(false).write(true).open(&path);
    RecordingFile::new(file, path, |_| match written {
        Ok(_) => Some(false),
        Err(error) if has_code(&error, ERROR_SHARING_VIOLATION) => Some(true),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::RING_RECORDS;
    use crate::recording::RecordCells;

    #[test]
    fn what_is_written_is_read_while_it_is_there_and_gone_when_it_is_dropped() {
        let recording = Mapped::create("app", b"what it is").unwrap();
        let path = recording.path().to_owned();
        recording.ring()[RING_RECORDS - 1].wide()[0].store(7, Relaxed);
        let ours = || recordings(None).into_iter().find(|found| found.path() == path);
        let found = ours().expect("it is there");
        assert!(found.is_alive() && found.text().unwrap().starts_with(b"what it is\0"));
        let record = &found.ring().unwrap()[(RING_RECORDS - 1) * RecordCells::BYTES..];
        assert_eq!(&record[..8], &7_u64.to_ne_bytes()[..]);
        recording.describe(b"another").unwrap();
        assert!(found.text().unwrap().starts_with(b"another\0"));
        assert!(ours().expect("it is there").remove().is_err(), "its server is there");
        // A file stays until all who have it open have closed it.
        drop(found);
        drop(recording);
        assert!(!path.exists());
    }
}
