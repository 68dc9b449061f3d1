//! Security descriptors, tokens and SIDs.

use std::ffi::c_void;
use std::io;
use std::mem::offset_of;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use widestring::U16CString;
use windows_sys::Win32::Foundation::{ERROR_NO_TOKEN, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_KERNEL_OBJECT};
use windows_sys::Win32::Security::{
    ACE_HEADER, ACL, CheckTokenMembership, GetAce, GetLengthSid, GetTokenInformation,
    LABEL_SECURITY_INFORMATION, LookupAccountSidW, OWNER_SECURITY_INFORMATION, PSID, RevertToSelf,
    SYSTEM_MANDATORY_LABEL_ACE, TOKEN_ACCESS_MASK, TOKEN_IMPERSONATE, TOKEN_INFORMATION_CLASS,
    TOKEN_MANDATORY_LABEL, TOKEN_QUERY, TOKEN_USER, TokenIntegrityLevel, TokenUser,
};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::SystemServices::SYSTEM_MANDATORY_LABEL_ACE_TYPE;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken, SetThreadToken,
};

use crate::{BindOptions, Group, Sid, User};

/// The integrity level of sandboxed processes ("Well-known SIDs",
/// learn.microsoft.com/windows/win32/secauthz/well-known-sids: S-1-16-4096).
const LOW_INTEGRITY: u32 = 0x1000;

/// The integrity level of ordinary processes (S-1-16-8192), and of objects that have no label
/// ("Mandatory Integrity Control",
/// learn.microsoft.com/windows/win32/secauthz/mandatory-integrity-control).
const MEDIUM_INTEGRITY: u32 = 0x2000;

/// What a client needs on a pipe and no more: FILE_GENERIC_READ and FILE_GENERIC_WRITE without
/// FILE_CREATE_PIPE_INSTANCE, the right to set up a server of one's own under the same name
/// ("Named Pipe Security and Access Rights", learn.microsoft.com/windows/win32/ipc/named-pipe-security-and-access-rights).
pub(super) const CLIENT_ACCESS: u32 = 0x0012_019b;

/// The descriptor that a listener's pipe gets.
pub(super) fn descriptor(options: &BindOptions) -> io::Result<SecurityDescriptor> {
    let token = process_token()?;
    let user = token_user(token.as_handle())?;
    let integrity = token_integrity(token.as_handle())?;
    let text = U16CString::from_str_truncate(sddl(&user, integrity, options));
    SecurityDescriptor::deserialize(&text)
}

/// In the language of "Security Descriptor String Format"
/// (learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format).
///
/// * `O:` the user, not the Administrators group, which would own what an elevated process makes
///   by default: clients check the owner, and are mostly not elevated.
/// * `D:P` full access (GA) for the user and SYSTEM (SY), nothing inherited; for those whom the options
///   name, what a client needs; nobody else.
/// * `S:(ML;;NW;;;…)` no writing (NW) from below this integrity level, and so no connecting.
fn sddl(user: &Sid, integrity: u32, options: &BindOptions) -> String {
    let others = others(CLIENT_ACCESS, options);
    let label = label_level(integrity, options);
    format!("O:{user}D:P(A;;GA;;;{user})(A;;GA;;;SY){others}S:(ML;;NW;;;S-1-16-{label})")
}

/// The entries for those other than the owner who may have this access.
pub(super) fn others(access: u32, options: &BindOptions) -> String {
    if options.anyone {
        return format!("(A;;{access:#x};;;WD)");
    }
    let users = options.users.iter().filter_map(|user| match user {
        User::Sid(sid) => Some(sid),
        User::Uid(_) => None,
    });
    let groups = options.groups.iter().filter_map(|group| match group {
        Group::Sid(sid) => Some(sid),
        Group::Gid(_) => None,
    });
    users.chain(groups).map(|sid| format!("(A;;{access:#x};;;{sid})")).collect()
}

/// The integrity level of the label on what a process of this one listens on. Who names others does
/// not mean elevated processes only.
pub(super) fn label_level(integrity: u32, options: &BindOptions) -> u32 {
    match options {
        BindOptions { lower_integrity: true, .. } => integrity.min(LOW_INTEGRITY),
        options if options.lets_in_others() => integrity.min(MEDIUM_INTEGRITY),
        _ => integrity,
    }
}

/// This process's primary token, for queries.
pub(super) fn process_token() -> io::Result<OwnedHandle> {
    // SAFETY: GetCurrentProcess is a constant, which stands for a handle that is always open.
    token_of(unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) })
}

/// A process's primary token, for queries.
pub(super) fn token_of(process: BorrowedHandle<'_>) -> io::Result<OwnedHandle> {
    let mut token = ptr::null_mut();
    // SAFETY: the process is borrowed, hence open; `token` lives on this stack until the call returns.
    if unsafe { OpenProcessToken(process.as_raw_handle(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `token` is an open handle that nobody else owns.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// The token that the client at the other end of a server's pipe connected with, for queries.
///
/// "ImpersonateNamedPipeClient function"
/// (learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-impersonatenamedpipeclient):
/// it is the context of the last message read, so there is none before the first read. A token at
/// identification level, which is what [`crate::Channel`] offers, can be opened and queried; it
/// can't be used to act as the client, and nobody here does.
pub(super) fn client_token(pipe: BorrowedHandle<'_>) -> io::Result<OwnedHandle> {
    // What the caller impersonates comes first: what can't be put back is not taken away.
    let before = thread_token(TOKEN_QUERY | TOKEN_IMPERSONATE)?;
    // SAFETY: the handle is borrowed, hence open during the call. What the call changes, this
    // thread's token, is changed back below before anything else runs on this thread.
    if unsafe { ImpersonateNamedPipeClient(pipe.as_raw_handle()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let token = thread_token(TOKEN_QUERY);
    restore(before);
    token?.ok_or_else(|| io::Error::other("the system impersonates nobody"))
}

/// Puts back what this thread impersonated before.
fn restore(before: Option<OwnedHandle>) {
    let ok = match before {
        // SAFETY: null stands for this thread; the token is open until the call returns.
        Some(token) => unsafe { SetThreadToken(ptr::null(), token.as_raw_handle()) },
        // SAFETY: takes no arguments.
        None => unsafe { RevertToSelf() },
    };
    if ok == 0 {
        // "If RevertToSelf fails, your application continues to run in the context of the client,
        // which is not appropriate. You should shut down the process if RevertToSelf fails."
        // (learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-reverttoself)
        log::error!(
            "ending an impersonation failed: {}; the process must not go on as its client",
            io::Error::last_os_error()
        );
        std::process::abort();
    }
}

/// The impersonation token of this thread, if it has one, opened with the process's own rights (the
/// client's might not suffice to open it).
fn thread_token(access: TOKEN_ACCESS_MASK) -> io::Result<Option<OwnedHandle>> {
    const OPEN_AS_SELF: i32 = 1;
    let mut token = ptr::null_mut();
    // SAFETY: GetCurrentThread is a constant; `token` lives on this stack until the call returns.
    if unsafe { OpenThreadToken(GetCurrentThread(), access, OPEN_AS_SELF, &raw mut token) } == 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error().map(i32::cast_unsigned) {
            Some(ERROR_NO_TOKEN) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the call succeeded, so `token` is an open handle that nobody else owns.
    Ok(Some(unsafe { OwnedHandle::from_raw_handle(token) }))
}

/// Whose token it is.
pub(super) fn token_user(token: BorrowedHandle<'_>) -> io::Result<Sid> {
    let buffer = token_information(token, TokenUser)?;
    // SAFETY: for TokenUser the buffer begins with a TOKEN_USER, and is aligned to 8 bytes.
    let user = unsafe { buffer.as_ptr().cast::<TOKEN_USER>().read() };
    // SAFETY: the SID lies in `buffer`, which lives until the end of this function.
    unsafe { copy_sid(user.User.Sid) }
}

/// Whether the client at the other end of a server's pipe is in one of these groups, as far as its token has
/// them enabled: a group that only denies, such as that of the administrators for one who is not elevated, is none.
///
/// "CheckTokenMembership function",
/// learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-checktokenmembership. It takes an
/// impersonation token, which that of a client is.
pub(super) fn client_is_member(pipe: BorrowedHandle<'_>, groups: &[Group]) -> io::Result<bool> {
    let token = client_token(pipe)?;
    for group in groups {
        if let Group::Sid(sid) = group
            && is_member(token.as_handle(), sid)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_member(token: BorrowedHandle<'_>, sid: &Sid) -> io::Result<bool> {
    let aligned = aligned(sid);
    let mut is_member = 0;
    // SAFETY: the handle is borrowed, hence open; the copy of the SID and `is_member` live until the call returns.
    let ok = unsafe {
        CheckTokenMembership(token.as_raw_handle(), aligned.as_ptr().cast_mut().cast(), &raw mut is_member)
    };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(is_member != 0) }
}

/// A token's mandatory integrity level.
pub(super) fn token_integrity(token: BorrowedHandle<'_>) -> io::Result<u32> {
    let buffer = token_information(token, TokenIntegrityLevel)?;
    // SAFETY: for TokenIntegrityLevel the buffer begins with a TOKEN_MANDATORY_LABEL, and is
    // aligned to 8 bytes.
    let label = unsafe { buffer.as_ptr().cast::<TOKEN_MANDATORY_LABEL>().read() };
    // SAFETY: the SID lies in `buffer`, which lives until the end of this function.
    let sid = unsafe { copy_sid(label.Label.Sid) }?;
    integrity_level(&sid)
}

/// The level is the only sub-authority of S-1-16-LEVEL.
fn integrity_level(sid: &Sid) -> io::Result<u32> {
    match sid.as_bytes() {
        [1, 1, 0, 0, 0, 0, 0, 16, level @ ..] if level.len() == 4 => {
            Ok(u32::from_le_bytes([level[0], level[1], level[2], level[3]]))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{sid} is not an integrity level"))),
    }
}

/// One piece of information about a token, in a buffer that is aligned for any of them.
fn token_information(token: BorrowedHandle<'_>, class: TOKEN_INFORMATION_CLASS) -> io::Result<Vec<u64>> {
    // The structures asked for end in a SID of at most 68 bytes: this is always enough.
    let mut buffer = vec![0u64; 32];
    let size = u32::try_from(size_of_val(buffer.as_slice())).unwrap_or(u32::MAX);
    let mut needed = 0;
    // SAFETY: `buffer` has `size` bytes; it and `needed` live until the call returns, and the
    // handle is borrowed, hence open.
    let ok = unsafe {
        GetTokenInformation(token.as_raw_handle(), class, buffer.as_mut_ptr().cast(), size, &raw mut needed)
    };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(buffer) }
}

/// Who owns an open kernel object, and the level of its integrity label. It takes READ_CONTROL, which
/// [`CLIENT_ACCESS`] holds.
///
/// "GetSecurityInfo function" (learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo).
pub(super) fn owner_and_integrity(object: BorrowedHandle<'_>) -> io::Result<(Sid, u32)> {
    let mut owner: PSID = ptr::null_mut();
    let mut labels: *mut ACL = ptr::null_mut();
    let mut descriptor: *mut c_void = ptr::null_mut();
    let handle: HANDLE = object.as_raw_handle();
    // SAFETY: the handle is borrowed, hence open; `owner`, `labels` and `descriptor` live on this
    // stack until the call returns, the other results are not asked for.
    let code = unsafe {
        GetSecurityInfo(
            handle,
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut labels,
            &raw mut descriptor,
        )
    };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code.cast_signed()));
    }
    // SAFETY: `owner` is null or points into `descriptor`, which is freed only after this.
    let sid = unsafe { copy_sid(owner) };
    // SAFETY: as for `owner`.
    let integrity = unsafe { label(labels) };
    // SAFETY: the call above allocated `descriptor` for us to free; nothing points into it any more.
    unsafe { LocalFree(descriptor) };
    Ok((sid?, integrity?))
}

/// The level of the label in an access control list: the one that counts for objects without a label
/// if there is none.
///
/// # Safety
///
/// `labels` is null or points to a valid ACL that stays there until this returns.
unsafe fn label(labels: *const ACL) -> io::Result<u32> {
    if labels.is_null() {
        return Ok(MEDIUM_INTEGRITY);
    }
    // SAFETY: by this function's contract; an ACL begins with its header.
    let count = unsafe { labels.read() }.AceCount;
    for index in 0..u32::from(count) {
        let mut entry: *mut c_void = ptr::null_mut();
        // SAFETY: by this function's contract; `entry` lives on this stack until the call returns.
        if unsafe { GetAce(labels, index, &raw mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: each entry begins with a header.
        let header = unsafe { entry.cast::<ACE_HEADER>().read() };
        if u32::from(header.AceType) == SYSTEM_MANDATORY_LABEL_ACE_TYPE {
            let sid = entry.wrapping_byte_add(offset_of!(SYSTEM_MANDATORY_LABEL_ACE, SidStart));
            // SAFETY: in an entry of this type a SID begins there, and all of it belongs to the list.
            return integrity_level(&unsafe { copy_sid(sid) }?);
        }
    }
    Ok(MEDIUM_INTEGRITY)
}

/// Copies a SID that the system wrote.
///
/// # Safety
///
/// `sid` is null or points to a valid SID that stays there until this returns.
pub(super) unsafe fn copy_sid(sid: PSID) -> io::Result<Sid> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "the system gave no valid SID");
    if sid.is_null() {
        return Err(invalid());
    }
    // SAFETY: by this function's contract.
    let length = unsafe { GetLengthSid(sid) } as usize;
    // SAFETY: a valid SID has as many bytes as GetLengthSid says; they are only read, and copied
    // before this returns.
    let bytes = unsafe { std::slice::from_raw_parts(sid.cast::<u8>(), length) };
    Sid::from_bytes(bytes).ok_or_else(invalid)
}

/// A copy that is aligned as the system wants its SIDs (four bytes).
fn aligned(sid: &Sid) -> Vec<u32> {
    sid.as_bytes()
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}

/// `DOMAIN\name` of a SID.
pub(super) fn account_name(sid: &Sid) -> io::Result<String> {
    let mut aligned = aligned(sid);
    let (mut name, mut domain) = ([0u16; 257], [0u16; 257]);
    let (mut name_size, mut domain_size) = (257, 257);
    let mut kind = 0;
    // SAFETY: `aligned` holds a SID that Sid::from_bytes found valid; the buffers have as many
    // elements as their sizes say. All of it lives on this stack until the call returns.
    let ok = unsafe {
        LookupAccountSidW(
            ptr::null(),
            aligned.as_mut_ptr().cast(),
            name.as_mut_ptr(),
            &raw mut name_size,
            domain.as_mut_ptr(),
            &raw mut domain_size,
            &raw mut kind,
        )
    };
    if ok == 0 {
        return Err(io::Error::last_os_error());
    }
    let text = |wide: &[u16]| String::from_utf16_lossy(wide.split(|&c| c == 0).next().unwrap_or_default());
    Ok(match (text(&domain), text(&name)) {
        (domain, name) if domain.is_empty() => name,
        (domain, name) => format!(r"{domain}\{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_text() {
        let user = Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]).unwrap();
        let mut options = BindOptions::default();
        assert_eq!(
            sddl(&user, 0x2000, &options),
            "O:S-1-5-18D:P(A;;GA;;;S-1-5-18)(A;;GA;;;SY)S:(ML;;NW;;;S-1-16-8192)"
        );
        options.lower_integrity = true;
        assert!(sddl(&user, 0x3000, &options).ends_with("S:(ML;;NW;;;S-1-16-4096)"));
        assert!(sddl(&user, 0, &options).ends_with("S:(ML;;NW;;;S-1-16-0)"));
        options.anyone = true;
        assert!(sddl(&user, 0x2000, &options).contains("(A;;GA;;;SY)(A;;0x12019b;;;WD)S:"));
        assert!(sddl(&user, 0x3000, &options).ends_with("S:(ML;;NW;;;S-1-16-4096)"));
        descriptor(&options).unwrap();
        options.anyone = false;
        options.users = vec![User::Sid(Sid::new(5, &[20]).unwrap()), User::Uid(7)];
        options.groups = vec![Group::Sid(Sid::new(5, &[32, 545]).unwrap()), Group::Gid(7)];
        let named = "(A;;GA;;;SY)(A;;0x12019b;;;S-1-5-20)(A;;0x12019b;;;S-1-5-32-545)S:";
        assert!(sddl(&user, 0x2000, &options).contains(named));
        descriptor(&options).unwrap();
        // Others can't mean those only who are elevated, too.
        options.lower_integrity = false;
        assert!(sddl(&user, 0x3000, &options).ends_with("S:(ML;;NW;;;S-1-16-8192)"));
        assert!(sddl(&user, 0x4000, &options).ends_with("S:(ML;;NW;;;S-1-16-8192)"));
        assert!(sddl(&user, 0x1000, &options).ends_with("S:(ML;;NW;;;S-1-16-4096)"));
    }

    #[test]
    fn only_labels_have_a_level() {
        let sid = |bytes: &[u8]| Sid::from_bytes(bytes).unwrap();
        assert_eq!(integrity_level(&sid(&[1, 1, 0, 0, 0, 0, 0, 16, 0, 0x20, 0, 0])).unwrap(), 0x2000);
        assert!(integrity_level(&sid(&[1, 1, 0, 0, 0, 0, 0, 5, 0, 0x20, 0, 0])).is_err());
        assert!(integrity_level(&sid(&[1, 2, 0, 0, 0, 0, 0, 16, 0, 0x20, 0, 0, 0, 0, 0, 0])).is_err());
        // SAFETY: null stands for no list.
        assert_eq!(unsafe { label(ptr::null()) }.unwrap(), MEDIUM_INTEGRITY);
    }
}
