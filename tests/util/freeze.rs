//! A process of which no thread goes on, as under a debugger.

/// SIGSTOP, which has been heard when this returns.
#[cfg(unix)]
pub(crate) fn freeze(id: u32) {
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::kill(id.cast_signed(), libc::SIGSTOP) }, 0);
    #[cfg(target_os = "linux")]
    crate::util::until("it has stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
        stat.is_ok_and(|stat| stat.contains(") T "))
    });
}

/// NtSuspendProcess, which is what debuggers use; nothing documented stops all threads at once.
#[cfg(windows)]
pub(crate) fn freeze(id: u32) {
    use std::ffi::c_void;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn OpenProcess(access: u32, inherit: i32, id: u32) -> *mut c_void;
        fn CloseHandle(object: *mut c_void) -> i32;
    }
    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn NtSuspendProcess(process: *mut c_void) -> i32;
    }
    const PROCESS_SUSPEND_RESUME: u32 = 0x0800;
    // SAFETY: numbers.
    let process = unsafe { OpenProcess(PROCESS_SUSPEND_RESUME, 0, id) };
    assert!(!process.is_null(), "process {id} can't be opened");
    // SAFETY: the handle is open, and is closed behind it, once.
    let status = unsafe {
        let status = NtSuspendProcess(process);
        CloseHandle(process);
        status
    };
    assert!(status >= 0, "NtSuspendProcess: {status:x}");
}
