//! The right to start a server at an endpoint.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use widestring::U16CString;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile,
    PAGE_READWRITE, UnmapViewOfFile,
};

use super::identity;
use super::names::{self, StreamAddress};
use super::pipe::has_code;
use crate::endpoint::Endpoint;
use crate::start::{Busy, key};

/// The right to start a server at an endpoint, or to leave it as one, among all programs of this user: until it is
/// dropped, or the process ends, however it may. Whoever binds there needs it not.
///
/// # Platform-specific behavior
///
/// Windows: a named section of eight bytes, which is there as long as somebody has it open; so the one who has made it
/// has the right, and those who only find it look what it says and close it again. Its name holds the user's SID and
/// is the session's: sessions of one user do not see each other, and there the pipe itself decides. Unix: locks on files.
#[derive(Debug)]
pub struct StartLock(OwnedHandle);

impl StartLock {
    /// Asks for it. Never waits: if another has it, this says what he is at, and is to be asked again.
    ///
    /// # Errors
    ///
    /// What the system says; `InvalidInput` and `Unsupported` for an endpoint that is none for streams here.
    pub fn try_acquire(endpoint: &Endpoint) -> io::Result<Result<StartLock, Busy>> {
        let endpoint = match names::stream_address(endpoint)? {
            // Windows takes upper and lower case for one.
            StreamAddress::Pipe(name) => Endpoint::Pipe(name.text().to_lowercase()),
            StreamAddress::Tcp(_) => endpoint.clone(),
        };
        let user = identity::current_user()?;
        let name = U16CString::from_str(format!(r"Local\sidewire-start-{user}-{}", key(&endpoint)))
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the name is NUL-terminated and lives until the call returns; no file and no descriptor are given.
        let section = unsafe {
            CreateFileMappingW(
                INVALID_HANDLE_VALUE,
                ptr::null(),
                PAGE_READWRITE,
                0,
                SIZE as u32,
                name.as_ptr(),
            )
        };
        let told = io::Error::last_os_error();
        if section.is_null() {
            // A more trusted process of ours has it.
            return if has_code(&told, ERROR_ACCESS_DENIED) { Ok(Err(Busy::Unknown)) } else { Err(told) };
        }
        // SAFETY: the call succeeded, so that the handle is open and nobody else owns it.
        let lock = StartLock(unsafe { OwnedHandle::from_raw_handle(section) });
        match has_code(&told, ERROR_ALREADY_EXISTS) {
            true => Ok(Err(lock.read())),
            false => Ok(Ok(lock)),
        }
    }

    /// Says what its holder is at, to those who ask meanwhile.
    pub fn tell(&self, busy: Busy) {
        let (what, pid) = match busy {
            Busy::Unknown => (0, 0),
            Busy::Starting(pid) => (STARTING, pid),
            Busy::Leaving(pid) => (LEAVING, pid),
        };
        let word = what << 32 | u64::from(pid);
        if let Err(error) = self.with_word(FILE_MAP_WRITE, |shared| shared.store(word, Ordering::Relaxed)) {
            log::debug!("can't say what the holder of a starter's lock is at: {error}");
        }
    }

    fn read(&self) -> Busy {
        let word = self.with_word(FILE_MAP_READ, |shared| shared.load(Ordering::Relaxed)).unwrap_or_default();
        match (word >> 32, word as u32) {
            (STARTING, pid) => Busy::Starting(pid),
            (LEAVING, pid) => Busy::Leaving(pid),
            _ => Busy::Unknown,
        }
    }

    fn with_word<R>(&self, access: u32, run: impl FnOnce(&AtomicU64) -> R) -> io::Result<R> {
        // SAFETY: the handle is open as long as `self`; the section has so many bytes.
        let view = unsafe { MapViewOfFile(self.0.as_raw_handle(), access, 0, 0, SIZE) };
        if view.Value.is_null() {
            return Err(io::Error::last_os_error());
        }
        let view = View(view);
        // SAFETY: views begin at page boundaries, this one is that large and there until the end of this function,
        // and whoever else has one reads and writes this word as a whole.
        Ok(run(unsafe { AtomicU64::from_ptr(view.0.Value.cast()) }))
    }
}

const SIZE: usize = size_of::<u64>();
const STARTING: u64 = 1;
const LEAVING: u64 = 2;

struct View(MEMORY_MAPPED_VIEW_ADDRESS);

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the view was mapped and nobody uses it any more.
        unsafe { UnmapViewOfFile(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_says_what_he_is_at() {
        let name = format!("pipe:Start-Lock-{}", std::process::id());
        let [endpoint, same, other] =
            [name.clone(), name.to_lowercase(), name + "-2"].map(|name| name.parse().unwrap());
        let held = StartLock::try_acquire(&endpoint).unwrap().unwrap();
        assert_eq!(StartLock::try_acquire(&same).unwrap().unwrap_err(), Busy::Unknown);
        for busy in [Busy::Starting(7), Busy::Leaving(u32::MAX)] {
            held.tell(busy);
            assert_eq!(StartLock::try_acquire(&endpoint).unwrap().unwrap_err(), busy);
        }
        StartLock::try_acquire(&other).unwrap().unwrap();
        drop(held);
        let held = StartLock::try_acquire(&endpoint).unwrap().unwrap();
        assert_eq!(StartLock::try_acquire(&endpoint).unwrap().unwrap_err(), Busy::Unknown);
        drop(held);
        let error = StartLock::try_acquire(&"udp:127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
