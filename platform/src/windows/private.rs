//! Small files that only their owner reads.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::offset_of;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle};
use std::path::Path;
use std::ptr;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptorExt, SecurityDescriptor};
use widestring::U16CString;
use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE, LocalFree};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_FILE_OBJECT};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, OWNER_SECURITY_INFORMATION, PSID,
    SECURITY_ATTRIBUTES,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateFileW, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_NORMAL, FILE_ATTRIBUTE_REPARSE_POINT,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_SHARE_DELETE, FILE_SHARE_READ, MOVEFILE_WRITE_THROUGH, MoveFileExW,
    SECURITY_IDENTIFICATION,
};
use windows_sys::Win32::System::SystemServices::{ACCESS_ALLOWED_ACE_TYPE, ACCESS_DENIED_ACE_TYPE};

use super::reasons::invalid;
use super::security::{copy_sid, process_token, token_user};
use crate::{Sid, User};

/// Creates a file with these bytes, which only this user may read. What is there already is left as it is; nobody sees a
/// part of the file under its name, whenever this ends.
///
/// # Errors
///
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists); what "CreateFileW function"
/// (learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew) says.
///
/// # Platform-specific behavior
///
/// Windows: a descriptor of this user and SYSTEM, and of nobody else. Unix: mode 0600.
pub fn create_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = crate::private::beside(path);
    let (name, final_name) = (wide(&beside)?, wide(path)?);
    let mut file = create_new(&beside, GENERIC_WRITE, 0)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let placed = written.and_then(|()| {
        // SAFETY: both names end with a NUL, and live until the call returns. Without MOVEFILE_REPLACE_EXISTING a file
        // that is there stays ("MoveFileExW function",
        // learn.microsoft.com/windows/win32/api/winbase/nf-winbase-movefileexw).
        match unsafe { MoveFileExW(name.as_ptr(), final_name.as_ptr(), MOVEFILE_WRITE_THROUGH) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    });
    placed.inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

/// Creates a file that is this user's and SYSTEM's alone, and opens it. `share`: as what others may open it meanwhile.
pub(super) fn create_new(path: &Path, access: u32, share: u32) -> io::Result<File> {
    let user = token_user(process_token()?.as_handle())?;
    let text = U16CString::from_str_truncate(format!("O:{user}D:P(A;;FA;;;{user})(A;;FA;;;SY)"));
    let descriptor = SecurityDescriptor::deserialize(&text)?;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: ptr::null_mut(),
        bInheritHandle: 0,
    };
    descriptor.write_to_security_attributes(&mut attributes);
    let name = wide(path)?;
    // SAFETY: the name ends with a NUL; it, the descriptor and `attributes` live until the call returns.
    let handle = unsafe {
        CreateFileW(
            name.as_ptr(),
            access,
            share,
            &raw const attributes,
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT,
            ptr::null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
    Ok(unsafe { File::from_raw_handle(handle) })
}

/// With a NUL behind it, and none within.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let mut name: Vec<u16> = path.as_os_str().encode_wide().collect();
    if name.contains(&0) {
        return Err(invalid("a path can't hold a NUL character"));
    }
    name.push(0);
    Ok(name)
}

/// Reads such a file, at most so many bytes. Whether nobody else may read or write it, nor may have written it, is looked
/// at in the file that is read, not by its name.
///
/// # Errors
///
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if others may, or if it is no file;
/// [`InvalidData`](io::ErrorKind::InvalidData) if it is longer; what the system says of opening it.
///
/// # Platform-specific behavior
///
/// Windows: it belongs to this user, to SYSTEM or to the Administrators, nobody else is allowed anything with it, and it is
/// no link. Unix: it belongs to this user or to root, and has no bit of mode 0077.
pub fn read_private_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.access_mode(GENERIC_READ).share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
    // Should the path lead to a pipe, its server learns who we are and can do nothing in our name.
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).security_qos_flags(SECURITY_IDENTIFICATION);
    let file = options.open(path)?;
    if let Some(objection) = objection(&file)? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, objection));
    }
    crate::private::read_at_most(file, most)
}

/// What is against taking it for a file that is the user's alone.
pub(super) fn objection(file: &File) -> io::Result<Option<String>> {
    if file.metadata()?.file_attributes() & (FILE_ATTRIBUTE_REPARSE_POINT | FILE_ATTRIBUTE_DIRECTORY) != 0 {
        return Ok(Some("it is no file".to_owned()));
    }
    let us = token_user(process_token()?.as_handle())?;
    let is_ours = |sid: &Sid| *sid == us || User::Sid(sid.clone()).is_superuser();
    let (owner, allowed) = owner_and_allowed(file.as_handle())?;
    if !is_ours(&owner) {
        return Ok(Some(format!("it belongs to {owner}, and this is {us}")));
    }
    let Some(allowed) = allowed else { return Ok(Some("everyone may read and write it".to_owned())) };
    let other = allowed.iter().find(|sid| !is_ours(sid));
    Ok(other.map(|sid| format!("others may read or write it ({sid})")))
}

/// Who owns an open file, and who is allowed something with it; `None`: everyone everything, since it has no list.
///
/// "GetSecurityInfo function" (learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo), "Null DACLs and
/// empty DACLs" (learn.microsoft.com/windows/win32/secauthz/null-dacls-and-empty-dacls).
fn owner_and_allowed(file: BorrowedHandle<'_>) -> io::Result<(Sid, Option<Vec<Sid>>)> {
    let mut owner: PSID = ptr::null_mut();
    let mut list: *mut ACL = ptr::null_mut();
    let mut descriptor: *mut c_void = ptr::null_mut();
    // SAFETY: the handle is borrowed, hence open; the three results live on this stack until the call returns, the others
    // are not asked for.
    let code = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            &raw mut list,
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code.cast_signed()));
    }
    // SAFETY: `owner` is null or points into `descriptor`, which is freed only after this.
    let owner = unsafe { copy_sid(owner) };
    // SAFETY: as for `owner`.
    let allowed = unsafe { allowed(list) };
    // SAFETY: the call above allocated `descriptor` for us to free; nothing points into it any more.
    unsafe { LocalFree(descriptor) };
    Ok((owner?, allowed?))
}

/// Whom the entries of an access control list allow something.
///
/// # Errors
///
/// It has entries of a kind that is not known here: they may allow anybody anything.
///
/// # Safety
///
/// `list` is null or points to a valid ACL that stays there until this returns.
unsafe fn allowed(list: *const ACL) -> io::Result<Option<Vec<Sid>>> {
    if list.is_null() {
        return Ok(None);
    }
    // SAFETY: by this function's contract; an ACL begins with its header.
    let count = unsafe { list.read() }.AceCount;
    let mut sids = Vec::new();
    for index in 0..u32::from(count) {
        let mut entry: *mut c_void = ptr::null_mut();
        // SAFETY: by this function's contract; `entry` lives on this stack until the call returns.
        if unsafe { GetAce(list, index, &raw mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: each entry begins with a header.
        let header = unsafe { entry.cast::<ACE_HEADER>().read() };
        match u32::from(header.AceType) {
            ACCESS_ALLOWED_ACE_TYPE => {
                let sid = entry.wrapping_byte_add(offset_of!(ACCESS_ALLOWED_ACE, SidStart));
                // SAFETY: in an entry of this type a SID begins there, and all of it belongs to the list.
                sids.push(unsafe { copy_sid(sid) }?);
            }
            ACCESS_DENIED_ACE_TYPE => {}
            other => {
                let text = format!("its list of who may do what has an entry of kind {other}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
        }
    }
    Ok(Some(sids))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wine makes its lists of a mode, with the owner's rights and everyone's; real systems keep what was said.
    #[test]
    fn what_everyone_may_read_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, b"secret").unwrap();
        // SAFETY: null stands for no list.
        assert_eq!(unsafe { allowed(ptr::null()) }.unwrap(), None);
        let file = File::open(&path).unwrap();
        let (owner, allowed) = owner_and_allowed(file.as_handle()).unwrap();
        println!("{owner} {allowed:?}");
        let is_private = allowed.is_some_and(|sids| sids.iter().all(|sid| *sid == owner));
        assert_eq!(read_private_file(&path, 6).is_ok(), is_private);
    }
}
