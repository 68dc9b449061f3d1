//! What a pipe's security descriptor, instances and peers look like from outside. Wine keeps the
//! descriptor but refuses nobody by it: on real Windows these tests prove more than here.
#![cfg(windows)]

mod windows_support;

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use mio::{Interest, Token};
use sidewire_platform::{
    BindOptions, Channel, Endpoint, Events, Executable, Group, Listener, Poll, Sid, Stream, User,
    current_integrity, current_user,
};
use widestring::{U16CStr, U16CString};
use windows_support::*;
use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, ImpersonateSelf, LABEL_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION,
    RevertToSelf, SecurityImpersonation, TOKEN_QUERY,
};
use windows_sys::Win32::Storage::FileSystem::SECURITY_ANONYMOUS;
use windows_sys::Win32::System::Pipes::GetNamedPipeHandleStateW;
use windows_sys::Win32::System::Threading::{GetCurrentThread, OpenThreadToken};

const PARTS: u32 = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;

/// A security descriptor on the local heap.
struct Descriptor(*mut c_void);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system allocated it for us to free, and it is freed once.
        unsafe { LocalFree(self.0) };
    }
}

impl Descriptor {
    fn of(pipe: &File) -> Descriptor {
        let mut descriptor = ptr::null_mut();
        let none = ptr::null_mut();
        // SAFETY: the handle is open, and `descriptor` lives on this stack until the call returns.
        let code = unsafe {
            GetSecurityInfo(
                pipe.as_raw_handle(),
                SE_KERNEL_OBJECT,
                PARTS,
                none,
                none,
                ptr::null_mut(),
                ptr::null_mut(),
                &raw mut descriptor,
            )
        };
        assert_eq!(code, 0);
        Descriptor(descriptor)
    }

    fn parse(text: &str) -> Descriptor {
        let text = U16CString::from_str(text).unwrap();
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text is NUL-terminated; it and `descriptor` live until the call returns.
        let ok = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        Descriptor(descriptor)
    }

    /// With "full access" for "generic all", into which Windows turns it on files and pipes.
    fn text(&self) -> String {
        let mut text = ptr::null_mut();
        // SAFETY: the descriptor is valid as long as `self`; `text` lives until the call returns.
        let ok = unsafe {
            ConvertSecurityDescriptorToStringSecurityDescriptorW(
                self.0,
                SDDL_REVISION_1,
                PARTS,
                &raw mut text,
                ptr::null_mut(),
            )
        };
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        // SAFETY: the call made a NUL-terminated text, which is freed only afterwards.
        let copy = unsafe { U16CStr::from_ptr_str(text) }.to_string().unwrap();
        // SAFETY: the system allocated it for us to free, and it is freed once.
        unsafe { LocalFree(text.cast()) };
        copy.replace(";GA;", ";FA;")
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

fn path(endpoint: &Endpoint) -> String {
    let Endpoint::Pipe(name) = endpoint else { panic!("{endpoint} is not a pipe") };
    format!(r"\\.\pipe\{name}")
}

fn instances(pipe: &File) -> u32 {
    let mut count = 0;
    let none = ptr::null_mut();
    // SAFETY: the handle is open, and `count` lives on this stack until the call returns.
    let ok = unsafe {
        GetNamedPipeHandleStateW(pipe.as_raw_handle(), none, &raw mut count, none, none, ptr::null_mut(), 0)
    };
    assert_ne!(ok, 0, "{}", io::Error::last_os_error());
    count
}

#[test]
fn descriptor_reads_back_as_set() {
    let _watchdog = Watchdog::new();
    let user = current_user().unwrap();
    let own = current_integrity().unwrap();
    for (anyone, lower_integrity) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bind = BindOptions::default();
        bind.anyone = anyone;
        bind.lower_integrity = lower_integrity;
        let listener = Listener::bind(&random_pipe(), &bind).unwrap();
        let everyone = if anyone { "(A;;0x12019b;;;WD)" } else { "" };
        let level = if lower_integrity { own.min(0x1000) } else { own };
        let expected =
            format!("O:{user}D:P(A;;FA;;;{user})(A;;FA;;;SY){everyone}S:(ML;;NW;;;S-1-16-{level})");
        let pipe = options().open(path(listener.endpoint())).unwrap();
        assert_eq!(Descriptor::of(&pipe).text(), Descriptor::parse(&expected).text());
    }
}

/// Who is named gets what a client needs, and the label is that of ordinary processes: so an elevated server that
/// names its own user lets in the ordinary processes of that.
#[test]
fn a_descriptor_names_those_who_may_connect() {
    let _watchdog = Watchdog::new();
    let user = current_user().unwrap();
    let sid = |subs: &[u32]| Sid::new(5, subs).unwrap();
    let mut bind = BindOptions::default();
    bind.users = vec![User::Sid(sid(&[20])), user.clone(), User::Uid(7)];
    bind.groups = vec![Group::Sid(sid(&[32, 545])), Group::Gid(7)];
    let listener = Listener::bind(&random_pipe(), &bind).unwrap();
    let named = ["S-1-5-20", &user.to_string(), "S-1-5-32-545"].map(|sid| format!("(A;;0x12019b;;;{sid})"));
    let (named, level) = (named.concat(), current_integrity().unwrap().min(0x2000));
    let expected = format!("O:{user}D:P(A;;FA;;;{user})(A;;FA;;;SY){named}S:(ML;;NW;;;S-1-16-{level})");
    let pipe = options().open(path(listener.endpoint())).unwrap();
    assert_eq!(Descriptor::of(&pipe).text(), Descriptor::parse(&expected).text());
}

/// Of a client: its groups and its program. Of a server: its program.
#[test]
fn more_is_told_of_peers_when_it_is_asked_for() {
    let _watchdog = Watchdog::new();
    let endpoint = random_pipe();
    let mut channel = None;
    let (mut stream, mut file, listener, mut poll) = accepted(&endpoint, || {
        let file = options().open(path(&endpoint)).unwrap();
        channel = Some(Channel::connect(&endpoint, SECOND).unwrap());
        file
    });
    file.write_all(b"x").unwrap();
    while stream.read(&mut [0; 8]).is_err() {
        poll.poll(&mut Events::with_capacity(16), SECOND).unwrap();
    }
    let group = |authority, subs: &[u32]| Group::Sid(Sid::new(authority, subs).unwrap());
    let (everyone, nobody) = (group(1, &[0]), group(5, &[21, 1, 2, 3, 54321]));
    assert!(stream.is_member(&[nobody.clone(), everyone.clone()]).unwrap());
    assert!(!stream.is_member(&[nobody, Group::Gid(0)]).unwrap());
    let (own, channel) = (Executable::own().unwrap(), channel.unwrap());
    assert!(stream.executable().unwrap().is_same(&own));
    assert!(channel.executable().unwrap().is_same(&own));
    assert_eq!(channel.is_member(&[everyone]).unwrap_err().kind(), io::ErrorKind::Unsupported);
    drop((file, listener));
    // The client has gone, and its number may be another's.
    assert_eq!(stream.executable().unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn further_instances_are_like_the_first() {
    let _watchdog = Watchdog::new();
    let mut bind = BindOptions::default();
    bind.pending_instances = 2;
    let server = Server::new(&random_pipe(), &bind, echo());
    let first = options().open(path(&server.endpoint)).unwrap();
    let expected = Descriptor::of(&first).text();
    for _ in 0..4 {
        let channel = server.connect();
        ask(&channel, b"hello");
        let next = options().open(path(&server.endpoint)).unwrap();
        assert_eq!(Descriptor::of(&next).text(), expected);
    }
}

#[test]
fn as_many_instances_wait_as_asked_for() {
    let _watchdog = Watchdog::new();
    for (asked, expected) in [(0, 1), (1, 1), (3, 3)] {
        let mut bind = BindOptions::default();
        bind.pending_instances = asked;
        let listener = Listener::bind(&random_pipe(), &bind).unwrap();
        let first = options().open(path(listener.endpoint())).unwrap();
        assert_eq!(instances(&first), expected);
        let server = Server::with_listener(listener, echo());
        let channels: Vec<_> = (0..3)
            .map(|_| {
                let channel = server.connect();
                ask(&channel, b"hello");
                channel
            })
            .collect();
        // Four have a client, and as many as before wait for the next.
        assert_eq!(instances(&first), expected + 4);
        drop(channels);
    }
}

/// A stream that has got `bytes` from `client`, and the things that must live as long.
fn accepted(endpoint: &Endpoint, client: impl FnOnce() -> File) -> (Stream, File, Listener, Poll) {
    let mut listener = Listener::bind(endpoint, &BindOptions::default()).unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    listener.register(&registry, Token(0)).unwrap();
    let file = client();
    poll.poll(&mut Events::with_capacity(16), SECOND).unwrap();
    let mut stream = listener.accept(&registry, Token(0)).unwrap();
    stream.register(&registry, Token(1), Interest::READABLE).unwrap();
    (stream, file, listener, poll)
}

#[test]
fn nobody_is_known_before_the_first_read() {
    let _watchdog = Watchdog::new();
    let endpoint = random_pipe();
    let (mut stream, mut file, _listener, mut poll) =
        accepted(&endpoint, || options().open(path(&endpoint)).unwrap());
    assert_eq!(stream.peer().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    file.write_all(b"x").unwrap();
    while stream.read(&mut [0; 8]).is_err() {
        poll.poll(&mut Events::with_capacity(16), SECOND).unwrap();
    }
    assert_eq!(*stream.peer().unwrap().credentials().unwrap().user(), current_user().unwrap());
}

#[test]
fn anonymous_clients_have_no_credentials() {
    let _watchdog = Watchdog::new();
    let endpoint = random_pipe();
    let (mut stream, mut file, _listener, mut poll) = accepted(&endpoint, || {
        options().security_qos_flags(SECURITY_ANONYMOUS).open(path(&endpoint)).unwrap()
    });
    file.write_all(b"x").unwrap();
    while stream.read(&mut [0; 8]).is_err() {
        poll.poll(&mut Events::with_capacity(16), SECOND).unwrap();
    }
    match stream.peer() {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        Ok(peer) => {
            assert!(is_wine(), "{peer}");
            assert_eq!(*peer.credentials().unwrap().user(), current_user().unwrap());
        }
    }
    // The thread is itself again.
    assert_eq!(File::options().read(true).open(path(&endpoint)).map(drop).ok(), Some(()));
}

/// Whether this thread impersonates somebody.
fn impersonates() -> bool {
    let mut token = ptr::null_mut();
    // SAFETY: GetCurrentThread is a constant; `token` lives on this stack until the call returns.
    let ok = unsafe { OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &raw mut token) } != 0;
    if ok {
        // SAFETY: the call above opened it, and nobody else owns it.
        drop(unsafe { OwnedHandle::from_raw_handle(token) });
    }
    ok
}

#[test]
fn who_impersonates_goes_on_doing_so() {
    let _watchdog = Watchdog::new();
    let endpoint = random_pipe();
    let (mut stream, mut file, _listener, mut poll) =
        accepted(&endpoint, || options().open(path(&endpoint)).unwrap());
    file.write_all(b"x").unwrap();
    while stream.read(&mut [0; 8]).is_err() {
        poll.poll(&mut Events::with_capacity(16), SECOND).unwrap();
    }
    stream.peer().unwrap();
    assert!(!impersonates());
    // SAFETY: it changes this thread's token, which is changed back below.
    assert_ne!(unsafe { ImpersonateSelf(SecurityImpersonation) }, 0, "{}", io::Error::last_os_error());
    let peer = stream.peer();
    let still = impersonates();
    // SAFETY: takes no arguments.
    assert_ne!(unsafe { RevertToSelf() }, 0, "{}", io::Error::last_os_error());
    assert_eq!(*peer.unwrap().credentials().unwrap().user(), current_user().unwrap());
    assert!(still);
}

#[test]
fn the_label_of_a_server_s_pipe_is_read() {
    let _watchdog = Watchdog::new();
    let ours = current_integrity().unwrap();
    for (lower_integrity, anyone, expected) in [
        (false, false, ours),
        (false, true, ours.min(0x2000)),
        (true, false, ours.min(0x1000)),
        (true, true, ours.min(0x1000)),
    ] {
        let mut bind = BindOptions::default();
        bind.lower_integrity = lower_integrity;
        bind.anyone = anyone;
        let listener = Listener::bind(&random_pipe(), &bind).unwrap();
        let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
        assert_eq!(channel.peer().credentials().unwrap().integrity(), Some(expected));
    }
}

#[test]
fn foreign_servers_are_known_by_their_owner() {
    let _watchdog = Watchdog::new();
    let endpoint = random_pipe();
    // With a default descriptor, whose owner depends on the process's token.
    let _pipe = mio::windows::NamedPipe::new(path(&endpoint)).unwrap();
    let channel = Channel::connect(&endpoint, SECOND).unwrap();
    match channel.peer().credentials() {
        Some(credentials) => assert_eq!(credentials.pid(), Some(std::process::id())),
        // Such a pipe has no owner there.
        None if !is_wine() => panic!("no owner"),
        None => assert_eq!(channel.peer().to_string(), "unknown peer"),
    }
}
