//! What a child process holds of the system: for the tool, which looks at a server for as long as it is tried.
//!
//! One file for all systems, since they have nothing in common here but the answer.

use std::io;
use std::process::Child;

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of memory that it has from the system, and that its heap may keep for later (Linux: VmRSS; Windows: its private
    /// bytes, since the system takes from a working set as it likes).
    pub memory: u64,
    /// Open descriptors (Linux), or handles (Windows).
    pub descriptors: u64,
}

/// What this child holds now.
///
/// # Errors
/// If it has ended, or the system does not tell (only Linux and Windows do).
pub fn usage(child: &Child) -> io::Result<Usage> {
    read(child)
}

/// Whether this is Wine, of which [`usage`] tells less: it counts no handles, and its heap keeps two or three times what it has
/// given out. Wine's ntdll exports a function that Windows' does not have ("Developer FAQ",
/// gitlab.winehq.org/wine/wine/-/wikis/Developer-FAQ).
///
/// # Platform-specific behavior
/// Elsewhere than on Windows it is not.
#[must_use]
pub fn is_wine() -> bool {
    #[cfg(windows)]
    {
        use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
        use windows_sys::core::w;

        // SAFETY: the name is a constant that ends with 0; the library is part of every process, for good.
        let library = unsafe { GetModuleHandleW(w!("ntdll.dll")) };
        // SAFETY: as above; the function is looked for, not called.
        let version = unsafe { GetProcAddress(library, c"wine_get_version".as_ptr().cast()) };
        version.is_some()
    }
    #[cfg(not(windows))]
    false
}

/// proc(5).
#[cfg(target_os = "linux")]
fn read(child: &Child) -> io::Result<Usage> {
    let folder = std::path::PathBuf::from(format!("/proc/{}", child.id()));
    let status = std::fs::read_to_string(folder.join("status"))?;
    // A process that has ended and that nobody has waited for has no memory.
    let memory = resident(&status).ok_or_else(|| io::Error::other("the process has ended"))?;
    let descriptors = std::fs::read_dir(folder.join("fd"))?.count() as u64;
    Ok(Usage { memory, descriptors })
}

#[cfg(target_os = "linux")]
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// GetProcessHandleCount and GetProcessMemoryInfo (K32GetProcessMemoryInfo of kernel32).
#[cfg(windows)]
fn read(child: &Child) -> io::Result<Usage> {
    use std::os::windows::io::AsRawHandle;
    use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
    use windows_sys::Win32::System::Threading::GetProcessHandleCount;

    let (mut handles, mut counters) = (0, PROCESS_MEMORY_COUNTERS::default());
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: the child keeps its handle open, and the number outlives the call.
    let counted = unsafe { GetProcessHandleCount(child.as_raw_handle(), &raw mut handles) };
    if counted == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above; the structure is as long as its size says.
    let measured = unsafe { K32GetProcessMemoryInfo(child.as_raw_handle(), &raw mut counters, size) };
    if measured == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Usage { memory: counters.PagefileUsage as u64, descriptors: handles.into() })
}

#[cfg(not(any(target_os = "linux", windows)))]
fn read(_child: &Child) -> io::Result<Usage> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not tell what a process holds"))
}

#[cfg(all(test, any(target_os = "linux", windows)))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_holds_something_until_it_ends() {
        // Both read their input until it ends.
        let program = if cfg!(windows) { "cmd" } else { "cat" };
        let mut command = Command::new(program);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(program);
        // At first it is still what has begun it. Wine counts no handles.
        let looks = (0..1000).map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            usage(&child)
        });
        let usage = looks.take_while(Result::is_ok).find(|found| {
            found
                .as_ref()
                .is_ok_and(|found| found.memory > 10_000 && (cfg!(windows) || found.descriptors >= 3))
        });
        child.kill().expect("kill it");
        child.wait().expect("its end");
        assert!(usage.is_some(), "a living child holds something");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    5108 kB\nRssAnon:\t 1 kB\n"), Some(5108 << 10));
        assert_eq!(resident("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_that_has_ended_holds_nothing() {
        let mut child = Command::new("true").spawn().expect("true(1)");
        child.wait().expect("its end");
        usage(&child).expect_err("it has ended");
    }
}
