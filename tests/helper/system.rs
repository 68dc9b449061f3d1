//! What the tests ask of the system about processes, this one and others.

pub(crate) use own::{held, held_by, is_gone, kill};

#[cfg(unix)]
mod own {
    use std::fs;

    /// SIGKILL.
    pub(crate) fn kill(id: u32) {
        // SAFETY: numbers.
        assert_eq!(unsafe { libc::kill(id as i32, libc::SIGKILL) }, 0);
    }

    /// Whether it has ended. Of one that is nobody's child here the system may keep the status for as long as it likes.
    pub(crate) fn is_gone(id: u32) -> bool {
        match fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => {
                stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
            }
            Err(_) => true,
        }
    }

    /// What this process has: descriptors, threads, and children, zombies among them.
    pub(crate) fn held() -> [usize; 3] {
        let count = |path: &str| fs::read_dir(path).expect(path).count();
        let children = fs::read_dir("/proc/self/task").expect("our threads").flatten().map(|task| {
            let children = fs::read_to_string(task.path().join("children"));
            children.map_or(0, |children| children.split_whitespace().count())
        });
        [count("/proc/self/fd"), count("/proc/self/task"), children.sum()]
    }

    /// How many descriptors another process has.
    pub(crate) fn held_by(id: u32) -> usize {
        fs::read_dir(format!("/proc/{id}/fd")).expect("its descriptors").count()
    }
}

#[cfg(windows)]
mod own {
    use std::ffi::c_void;

    type Handle = *mut c_void;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn OpenProcess(access: u32, inherits: i32, id: u32) -> Handle;
        fn TerminateProcess(process: Handle, status: u32) -> i32;
        fn WaitForSingleObject(object: Handle, millis: u32) -> u32;
        fn CloseHandle(object: Handle) -> i32;
        fn GetCurrentProcess() -> Handle;
        fn GetProcessHandleCount(process: Handle, count: *mut u32) -> i32;
    }

    /// PROCESS_TERMINATE, PROCESS_QUERY_INFORMATION, SYNCHRONIZE.
    const ACCESS: u32 = 0x0001 | 0x0400 | 0x0010_0000;

    fn with<T>(id: u32, asked: impl FnOnce(Handle) -> T) -> Option<T> {
        // SAFETY: numbers.
        let process = unsafe { OpenProcess(ACCESS, 0, id) };
        let answer = (!process.is_null()).then(|| asked(process))?;
        // SAFETY: it is ours, and nobody uses it any more.
        unsafe { CloseHandle(process) };
        Some(answer)
    }

    /// TerminateProcess.
    pub(crate) fn kill(id: u32) {
        // SAFETY: the handle is open.
        assert_ne!(with(id, |process| unsafe { TerminateProcess(process, 9) }), Some(0));
    }

    /// Whether it has ended.
    pub(crate) fn is_gone(id: u32) -> bool {
        // SAFETY: the handle is open.
        with(id, |process| unsafe { WaitForSingleObject(process, 0) }).is_none_or(|state| state == 0)
    }

    /// How many handles this process has.
    pub(crate) fn held() -> [usize; 1] {
        let mut count = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        assert_ne!(unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) }, 0);
        [count as usize]
    }

    /// How many handles another process has.
    pub(crate) fn held_by(id: u32) -> usize {
        let mut count = 0;
        // SAFETY: the handle is open, and the pointer to a local that outlives the call.
        let asked = with(id, |process| unsafe { GetProcessHandleCount(process, &raw mut count) });
        assert!(asked.is_some_and(|asked| asked != 0));
        count as usize
    }
}
