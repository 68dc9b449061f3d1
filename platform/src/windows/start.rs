//! How a child process is started: in a job, without a window, with its standard streams and nothing else
//! of ours.
//!
//! "UpdateProcThreadAttribute function",
//! learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-updateprocthreadattribute.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};
use std::process::Command;
use std::ptr;

use windows_sys::Win32::Foundation::{HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::System::Threading::{
    DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT, InitializeProcThreadAttributeList,
    LPPROC_THREAD_ATTRIBUTE_LIST, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROC_THREAD_ATTRIBUTE_JOB_LIST,
    STARTF_USESTDHANDLES, STARTUPINFOEXW, STARTUPINFOW, UpdateProcThreadAttribute,
};

use super::creation::{Created, Creation, Inherits};
use super::job::Job;

/// A process that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: OwnedHandle,
    pub(super) id: u32,
    /// Where its input is written to, if it has any.
    pub(super) stdin: Option<File>,
    pub(super) stdout: File,
    pub(super) stderr: File,
}

/// What a process reads from its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Ours,
}

/// Starts a command in a job, perhaps with one variable more.
pub(super) fn start(
    command: &mut Command,
    job: &Job,
    variable: Option<(&str, &str)>,
    input: Input,
) -> io::Result<Started> {
    let mut creation = Creation::of(command, variable)?;
    let (stdin, stdin_end) = match input {
        Input::Nothing => (None, OwnedHandle::from(OpenOptions::new().read(true).open("NUL")?)),
        Input::Ours => {
            let (end, stdin) = io::pipe()?;
            (Some(OwnedHandle::from(stdin).into()), OwnedHandle::from(end))
        }
    };
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;

    // Inheritable for as short as possible: a child that other code starts meanwhile may get them, too.
    let ends = [stdin_end.as_handle(), stdout_end.as_handle(), stderr_end.as_handle()];
    ends.iter().try_for_each(|end| make_inheritable(*end))?;
    let Created { process, id } = create(&mut creation, ends, job)?;
    Ok(Started {
        process,
        id,
        stdin,
        stdout: OwnedHandle::from(stdout).into(),
        stderr: OwnedHandle::from(stderr).into(),
    })
}

fn make_inheritable(handle: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    let ok =
        unsafe { SetHandleInformation(handle.as_raw_handle(), HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn create(creation: &mut Creation, standard: [BorrowedHandle<'_>; 3], job: &Job) -> io::Result<Created> {
    let standard = standard.map(|handle| handle.as_raw_handle());
    let jobs = [job.handle()];
    let mut attributes = Attributes::new()?;
    // SAFETY: the lists are declared before `attributes`, live on this stack, and so outlive it.
    unsafe { attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &standard) }?;
    // SAFETY: as above. In the job from the start: one that is put there later is left behind,
    // suspended, if we are killed in between.
    unsafe { attributes.set(PROC_THREAD_ATTRIBUTE_JOB_LIST, &jobs) }?;

    let startup = STARTUPINFOEXW {
        StartupInfo: STARTUPINFOW {
            cb: size_of::<STARTUPINFOEXW>() as u32,
            dwFlags: STARTF_USESTDHANDLES,
            hStdInput: standard[0],
            hStdOutput: standard[1],
            hStdError: standard[2],
            ..STARTUPINFOW::default()
        },
        lpAttributeList: attributes.list(),
    };
    // SAFETY: it is of the longer kind, as the flag says; it and the attributes in it live until the call returns.
    unsafe { creation.create((&raw const startup).cast(), Inherits::Listed, EXTENDED_STARTUPINFO_PRESENT) }
}

/// What a process is started with beyond what its startup information holds.
struct Attributes(Box<[MaybeUninit<usize>]>);

impl Attributes {
    const COUNT: u32 = 2;

    fn new() -> io::Result<Attributes> {
        let mut size = 0;
        // SAFETY: without a list the call only says the size, by failing; `size` lives on this stack.
        unsafe { InitializeProcThreadAttributeList(ptr::null_mut(), Attributes::COUNT, 0, &raw mut size) };
        let mut room = Box::new_uninit_slice(size.div_ceil(size_of::<usize>()));
        // SAFETY: `room` has at least `size` bytes, as aligned as anything in the list; both live
        // until the call returns.
        let ok = unsafe {
            InitializeProcThreadAttributeList(room.as_mut_ptr().cast(), Attributes::COUNT, 0, &raw mut size)
        };
        if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(Attributes(room)) }
    }

    fn list(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.0.as_mut_ptr().cast()
    }

    /// # Safety
    ///
    /// The handles must outlive `self`, which keeps their address.
    unsafe fn set(&mut self, attribute: u32, handles: &[HANDLE]) -> io::Result<()> {
        // SAFETY: the list is initialised; the handles stay where they are by this function's contract.
        let ok = unsafe {
            UpdateProcThreadAttribute(
                self.list(),
                0,
                attribute as usize,
                handles.as_ptr().cast::<c_void>(),
                size_of_val(handles),
                ptr::null_mut(),
                ptr::null(),
            )
        };
        if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the list was initialised, and nobody uses it any more.
        unsafe { DeleteProcThreadAttributeList(self.list()) };
    }
}
