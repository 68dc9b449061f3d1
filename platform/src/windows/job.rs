//! A job: the processes of a child, and of all that it starts, which end together.
//!
//! "Job Objects", learn.microsoft.com/windows/win32/procthread/job-objects.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::JobObjects::{
    CreateJobObjectW, IsProcessInJob, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
    TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION};

/// A job that ends all its processes when this handle of it, the only one, is closed: when it is
/// dropped, and when our process ends, however that comes about.
#[derive(Debug)]
pub(super) struct Job(OwnedHandle);

impl Job {
    pub(super) fn new() -> io::Result<Job> {
        // SAFETY: neither attributes nor a name are given.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `job` is open and nobody else owns it.
        let job = Job(unsafe { OwnedHandle::from_raw_handle(job) });
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: the handle is open; `limits` is of the kind and the size that are said, and lives on
        // this stack until the call returns.
        let ok = unsafe {
            SetInformationJobObject(
                job.handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
            )
        };
        if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(job) }
    }

    pub(super) fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// Ends all of its processes with this exit code. One that has none is left in peace.
    pub(super) fn terminate(&self, code: u32) -> io::Result<()> {
        // SAFETY: the handle is open as long as `self`.
        if unsafe { TerminateJobObject(self.handle(), code) } == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Whether a process that runs belongs to it.
    pub(super) fn has(&self, pid: u32) -> bool {
        const INHERIT: i32 = 0;
        // SAFETY: takes numbers.
        let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, INHERIT, pid) };
        if process.is_null() {
            return false;
        }
        // SAFETY: the call succeeded, so `process` is open and nobody else owns it.
        let process = unsafe { OwnedHandle::from_raw_handle(process) };
        let mut found = 0;
        // SAFETY: both handles are open; `found` lives on this stack until the call returns.
        let ok = unsafe { IsProcessInJob(process.as_raw_handle(), self.handle(), &raw mut found) };
        ok != 0 && found != 0
    }
}
