//! The event by which a process is asked to end by another of its user's: what SIGTERM is elsewhere.
//!
//! `Local\sidewire-stop-PID` is there from the first [`StopSignals`](crate::StopSignals) of a process on, and as long
//! as the process. It has the rights of a pipe's listener: the user's own and SYSTEM, at the process's integrity level.
//! Whoever sets it could end the process (TerminateProcess) as well.

use std::os::windows::io::AsHandle;
use std::sync::Once;
use std::{io, process, thread};

use widestring::U16CString;
use windows_sys::Win32::Storage::FileSystem::READ_CONTROL;
use windows_sys::Win32::System::Threading::EVENT_MODIFY_STATE;

use super::wait::{Event, wait_for_any};
use super::{security, signals};
use crate::deadline::Deadline;
use crate::{BindOptions, User};

/// Hears from now on, if it can be done, when this process is asked to end.
pub(super) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = create(process::id()).and_then(hear) {
            log::warn!(
                "'sidewire stop' can't ask this process to end, Ctrl-C can; making its event: {error}"
            );
        }
    });
}

/// Somebody may have taken the name before: then it is not ours to wait for.
fn create(pid: u32) -> io::Result<Event> {
    Event::create_named(&name(pid), &security::descriptor(&BindOptions::default())?)
}

fn hear(event: Event) -> io::Result<()> {
    let run = move || loop {
        match wait_for_any(&[event.as_handle()], Deadline::after(None)) {
            Ok(_) => answer(),
            Err(error) => return log::error!("requests to end are no longer heard: {error}"),
        }
    };
    thread::Builder::new().name("sidewire-stop".into()).spawn(run).map(drop)
}

/// On a thread of its own, as the system does at Ctrl-C: a second request counts while the first is being answered.
fn answer() {
    if thread::Builder::new().spawn(signals::on_terminate).is_err() {
        signals::on_terminate();
    }
}

/// Asks a process of this user, which is held.
///
/// # Errors
///
/// `Unsupported` for one that does not listen; what the system says.
pub(super) fn ask(pid: u32, user: &User) -> io::Result<()> {
    let unsupported = |text: String| Err(io::Error::new(io::ErrorKind::Unsupported, text));
    let event = match Event::open_named(&name(pid), EVENT_MODIFY_STATE | READ_CONTROL) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return unsupported(
                "listens to no request of the system in this session (stop_on_signals)".into(),
            );
        }
        event => event?,
    };
    // Whoever knows the number can make such an event first.
    let owner = User::Sid(security::owner_and_integrity(event.as_handle())?.0);
    if owner != *user {
        return unsupported(format!("the event to ask it by is not its own but {owner}'s"));
    }
    event.set();
    Ok(())
}

/// In the session's own namespace, where anybody may make events ("Kernel object namespaces",
/// learn.microsoft.com/windows/win32/termserv/kernel-object-namespaces).
fn name(pid: u32) -> U16CString {
    U16CString::from_str_truncate(format!(r"Local\sidewire-stop-{pid}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::identity;
    use super::*;
    use crate::Sid;

    /// Numbers of processes are multiples of four: these are nobody's.
    #[test]
    fn one_that_listens_is_asked() {
        let (pid, us) = (u32::MAX, identity::current_user().unwrap());
        assert_eq!(ask(pid, &us).unwrap_err().kind(), io::ErrorKind::Unsupported);
        let event = create(pid).unwrap();
        let is_set = || {
            let at_once = Deadline::after(Some(Duration::ZERO));
            wait_for_any(&[event.as_handle()], at_once).unwrap().is_some()
        };
        assert!(!is_set());
        ask(pid, &us).unwrap();
        assert!(is_set() && !is_set(), "it is heard once");
    }

    #[test]
    fn a_name_that_is_taken_is_not_waited_for() {
        let pid = u32::MAX - 1;
        let theirs = create(pid).unwrap();
        assert_eq!(create(pid).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        let other = User::Sid(Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 7, 0, 0, 0]).unwrap());
        assert_eq!(ask(pid, &other).unwrap_err().kind(), io::ErrorKind::Unsupported);
        drop(theirs);
        create(pid).unwrap();
    }
}
