//! Which program a process runs, as the file that it was started from.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle};
use std::path::{Component, Path, PathBuf, Prefix};
use std::time::Duration;

use windows_sys::Win32::Storage::FileSystem::{
    FILE_ID_INFO, FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FileIdInfo,
    GetDriveTypeW, GetFileInformationByHandleEx,
};
use windows_sys::Win32::System::Threading::{PROCESS_NAME_WIN32, QueryFullProcessImageNameW};

use super::wait::wait_for_any;
use super::{foreign, pipe};
use crate::deadline::Deadline;

/// The file of a program, held so that no other file gets its number meanwhile.
#[derive(Debug)]
pub struct Executable {
    path: PathBuf,
    volume: u64,
    id: [u8; 16],
    _file: File,
}

impl Executable {
    /// Whether the system tells of a peer which program it runs: of one over a pipe it does.
    ///
    /// # Errors
    ///
    /// None on Windows.
    pub fn can_be_told() -> io::Result<()> {
        Ok(())
    }

    /// The file at this path, which is absolute.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the path is relative; what the system says: a folder, for example, can't be opened so.
    pub fn at(path: &Path) -> io::Result<Executable> {
        if !path.is_absolute() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path of a program is to be absolute",
            ));
        }
        let file = OpenOptions::new()
            .access_mode(FILE_READ_ATTRIBUTES)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
            .open(path)?;
        let (volume, id) = file_id(file.as_handle())?;
        Ok(Executable { path: path.to_owned(), volume, id, _file: file })
    }

    /// The program that this process runs.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn own() -> io::Result<Executable> {
        Executable::at(&std::env::current_exe()?)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the same file, by whatever path: on the same volume, with the same id.
    #[must_use]
    pub fn is_same(&self, other: &Executable) -> bool {
        (self.volume, self.id) == (other.volume, other.id)
    }
}

/// The program of the process with this number, which has opened the other end of a pipe, or made it.
///
/// The process is held, and then the pipe has to be open and the process alive: so the number is not another's
/// already, unless its end of the pipe has another owner since.
pub(super) fn of_peer(pipe: BorrowedHandle<'_>, pid: u32) -> io::Result<Executable> {
    let process = foreign::open(pid).map_err(|error| {
        let text = format!("the system does not let us see which program pid {pid} runs: {error}");
        io::Error::new(error.kind(), text)
    })?;
    let path = image(process.as_handle())?;
    let executable = of_image(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let has_ended = wait_for_any(&[process.as_handle()], Deadline::after(Some(Duration::ZERO)))?.is_some();
    match (has_ended, pipe::is_connected(pipe)) {
        (false, true) => Ok(executable),
        (true, _) => Err(io::Error::new(io::ErrorKind::NotFound, "its process has ended")),
        (false, false) => Err(io::Error::new(io::ErrorKind::NotFound, "it has left")),
    }
}

/// The peer chooses this path: one on another machine would have us log on there, and wait for it.
fn of_image(path: &Path) -> io::Result<Executable> {
    let Some(Component::Prefix(prefix)) = path.components().next() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let is_here = match prefix.kind() {
        Prefix::Disk(letter) | Prefix::VerbatimDisk(letter) => !is_remote(letter),
        _ => false,
    };
    match is_here {
        true => Executable::at(path),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is on no disk of this machine")),
    }
}

/// "GetDriveTypeW function", learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getdrivetypew.
fn is_remote(letter: u8) -> bool {
    const DRIVE_REMOTE: u32 = 4;
    let root = [letter, b':', b'\\', 0].map(u16::from);
    // SAFETY: the name is NUL-terminated, and lives on this stack until the call returns.
    unsafe { GetDriveTypeW(root.as_ptr()) == DRIVE_REMOTE }
}

/// What nobody tells of a peer.
pub(super) fn untold(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the system does not tell {what}"))
}

/// "QueryFullProcessImageNameW function",
/// learn.microsoft.com/windows/win32/api/winbase/nf-winbase-queryfullprocessimagenamew.
fn image(process: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    // The longest path that there is (UNICODE_STRING).
    let mut name = vec![0u16; 32_768];
    let mut length = name.len() as u32;
    // SAFETY: the handle is borrowed, hence open; `name` has room for `length` characters, and both live until the call
    // returns.
    let ok = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            name.as_mut_ptr(),
            &raw mut length,
        )
    };
    if ok == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(OsString::from_wide(name.get(..length as usize).unwrap_or_default()).into())
}

/// "GetFileInformationByHandleEx function",
/// learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getfileinformationbyhandleex.
fn file_id(file: BorrowedHandle<'_>) -> io::Result<(u64, [u8; 16])> {
    // SAFETY: FILE_ID_INFO is integers, for all of which zero is a value.
    let mut found: FILE_ID_INFO = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is borrowed, hence open; `found` lives on this stack until the call returns, and its size is
    // given.
    let ok = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileIdInfo,
            (&raw mut found).cast(),
            size_of::<FILE_ID_INFO>() as u32,
        )
    };
    if ok == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((found.VolumeSerialNumber, found.FileId.Identifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_file() {
        let own = Executable::own().unwrap();
        assert!(Executable::at(own.path()).unwrap().is_same(&own));
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a.exe", "b.exe"].map(|name| folder.path().join(name));
        std::fs::copy(own.path(), &first).unwrap();
        std::fs::hard_link(&first, &second).unwrap();
        let copy = Executable::at(&first).unwrap();
        assert!(!copy.is_same(&own), "{copy:?} {own:?}");
        assert!(copy.is_same(&Executable::at(&second).unwrap()));
        assert_eq!(Executable::at(Path::new("a.exe")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Executable::at(&folder.path().join("c")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_is_asked_for_its_image() {
        use std::os::windows::io::AsHandle;
        let process = foreign::open(std::process::id()).unwrap();
        let path = image(process.as_handle()).unwrap();
        assert!(of_image(&path).unwrap().is_same(&Executable::own().unwrap()), "{path:?}");
        for elsewhere in [r"\\server\share\a.exe", r"\\?\UNC\server\share\a.exe", r"\\.\pipe\a.exe", "a.exe"]
        {
            assert!(of_image(Path::new(elsewhere)).is_err(), "{elsewhere}");
        }
    }
}
