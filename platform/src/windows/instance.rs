//! The one instance of an app: a named object of the session.

use std::io;
use std::os::windows::io::{AsHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use interprocess::os::windows::security_descriptor::AsSecurityDescriptorExt;
use widestring::{U16CStr, U16CString};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_INVALID_HANDLE, GetLastError,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::READ_CONTROL;
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{CREATE_EVENT_MANUAL_RESET, CreateEventExW, OpenEventW};
use windows_sys::Win32::UI::WindowsAndMessaging::AllowSetForegroundWindow;

use super::reasons::invalid;
use super::{identity, security};
use crate::instance::{Claim, Holder};
use crate::{BindOptions, Endpoint, User};

/// The right to be the one instance of an app: the object `Local\sidewire-SID-APP.instance`, which is there as
/// long as its maker has not closed it. Nobody ever waits for it or sets it.
#[derive(Debug)]
pub struct InstanceLock {
    _object: OwnedHandle,
}

impl InstanceLock {
    /// Asks to be the instance of this app. Never waits.
    ///
    /// `Local\` is the namespace of the session ("Kernel object namespaces",
    /// learn.microsoft.com/windows/win32/termserv/kernel-object-namespaces). Whoever finds the object there closes
    /// it at once, so that it is gone with its maker.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` for an object of another kind under the name; what the system says.
    pub fn claim(app: &str) -> io::Result<Claim> {
        let name = object_name(app)?;
        let descriptor = security::descriptor(&BindOptions::default())?;
        let mut attributes = SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: ptr::null_mut(),
            bInheritHandle: 0,
        };
        descriptor.write_to_security_attributes(&mut attributes);
        // The least that there is, so that an object made with any rights for us can be opened.
        // SAFETY: name and descriptor are borrowed and `attributes` lives on this stack until the call returns,
        // which copies them.
        let handle = unsafe {
            CreateEventExW(&raw const attributes, name.as_ptr(), CREATE_EVENT_MANUAL_RESET, READ_CONTROL)
        };
        // SAFETY: takes no arguments. Also set when the call succeeds.
        let code = unsafe { GetLastError() };
        if handle.is_null() {
            return match code {
                ERROR_ACCESS_DENIED => Ok(Claim::OutOfReach(holder(&name))),
                ERROR_INVALID_HANDLE => {
                    let text = format!("{} is the name of an object of another kind", name.display());
                    Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
                }
                code => Err(io::Error::from_raw_os_error(code.cast_signed())),
            };
        }
        // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
        let object = unsafe { OwnedHandle::from_raw_handle(handle) };
        if code != ERROR_ALREADY_EXISTS {
            return Ok(Claim::Ours(InstanceLock { _object: object }));
        }
        Ok(judge(&object).map_or(Claim::Taken, Claim::OutOfReach))
    }

    /// Where the instance of this app is to be met: a pipe with the user's SID and the session's number in its
    /// name.
    ///
    /// # Errors
    ///
    /// What the system says about who we are.
    pub fn endpoint(app: &str) -> io::Result<Endpoint> {
        let (user, session) = (identity::current_user()?, session()?);
        Ok(Endpoint::Pipe(format!("sidewire-{user}-{}.instance-{session}", app.to_ascii_lowercase())))
    }
}

/// Pipes know no upper and lower case, objects do: one name for both.
fn object_name(app: &str) -> io::Result<U16CString> {
    let user = identity::current_user()?;
    let name = format!(r"Local\sidewire-{user}-{}.instance", app.to_ascii_lowercase());
    U16CString::from_str(&name).map_err(|_| invalid("a name can't hold a NUL character"))
}

fn session() -> io::Result<u32> {
    let mut session = 0;
    // SAFETY: `session` lives on this stack until the call returns.
    if unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(session)
}

/// Who has made an object that we may not open as we did.
fn holder(name: &U16CStr) -> Holder {
    // SAFETY: the name is borrowed until the call returns.
    let handle = unsafe { OpenEventW(READ_CONTROL, 0, name.as_ptr()) };
    if handle.is_null() {
        return Holder::OtherUser(None);
    }
    // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
    let object = unsafe { OwnedHandle::from_raw_handle(handle) };
    judge(&object).unwrap_or(Holder::OtherUser(None))
}

/// Whether the maker of an object is out of our reach; `None` for one like us.
fn judge(object: &OwnedHandle) -> Option<Holder> {
    let (owner, level) = security::owner_and_integrity(object.as_handle()).ok()?;
    let owner = User::Sid(owner);
    if identity::current_user().is_ok_and(|us| us != owner) && !owner.is_superuser() {
        return Some(Holder::OtherUser(Some(owner)));
    }
    (level > identity::current_integrity()?).then_some(Holder::Elevated(level))
}

/// Lets this process put its window in front, if we may do so ourselves; says whether that was to be had.
///
/// "AllowSetForegroundWindow function"
/// (learn.microsoft.com/windows/win32/api/winuser/nf-winuser-allowsetforegroundwindow).
#[must_use]
pub fn allow_foreground(pid: u32) -> bool {
    // SAFETY: takes a number.
    unsafe { AllowSetForegroundWindow(pid) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> String {
        format!("Test-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "-")
    }

    fn is_taken(app: &str) -> bool {
        matches!(InstanceLock::claim(app).unwrap(), Claim::Taken)
    }

    #[test]
    fn the_object_is_there_as_long_as_its_maker_holds_it() {
        let app = app();
        let claim = InstanceLock::claim(&app).unwrap();
        assert!(matches!(claim, Claim::Ours(_)), "{claim:?}");
        assert!(is_taken(&app) && is_taken(&app.to_ascii_uppercase()));
        drop(claim);
        assert!(!is_taken(&app));
    }

    /// Wine does not enforce the descriptor; that it is set can be seen.
    #[test]
    fn the_object_is_ours_and_at_our_level() {
        let Claim::Ours(lock) = InstanceLock::claim(&app()).unwrap() else { panic!("it is taken") };
        let (owner, level) = security::owner_and_integrity(lock._object.as_handle()).unwrap();
        assert_eq!(User::Sid(owner), identity::current_user().unwrap());
        assert_eq!(Some(level), identity::current_integrity());
        assert_eq!(judge(&lock._object), None);
        // No such window, and nothing that could hurt.
        let _ = allow_foreground(std::process::id());
    }

    #[test]
    fn each_session_has_a_pipe_of_its_own() {
        let Endpoint::Pipe(name) = InstanceLock::endpoint("Com.Example").unwrap() else { panic!("no pipe") };
        let session = session().unwrap();
        assert!(
            name.starts_with("sidewire-S-1-") && name.ends_with(&format!("-com.example.instance-{session}"))
        );
    }
}
