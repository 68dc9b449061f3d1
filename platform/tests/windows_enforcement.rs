//! What only Windows itself can enforce: access rights, integrity levels, the first instance, exclusive
//! ports, remote clients. Wine takes note of rights and enforces none, so that there most tests say that
//! they are skipped, and prove nothing.
//!
//! Clients that may do less than we may are threads of this process that impersonate: a copy of our
//! token in which our own SID only denies (as if we were another user), or of low integrity. A real
//! other user takes part where the environment names one: see `DEVELOPERS.md`.
#![cfg(windows)]

mod windows_support;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::thread;

use sidewire_platform::{
    BindOptions, Channel, DatagramChannel, Datagrams, Endpoint, Listener, Peer, User, current_integrity,
    current_user, user_name,
};
use widestring::U16CString;
use windows_support::*;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_LOCAL, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Security::{
    CreateRestrictedToken, DuplicateTokenEx, ImpersonateLoggedOnUser, LOGON32_LOGON_INTERACTIVE,
    LOGON32_PROVIDER_DEFAULT, LogonUserW, RevertToSelf, SID_AND_ATTRIBUTES, SecurityImpersonation,
    SetTokenInformation, TOKEN_ADJUST_DEFAULT, TOKEN_DUPLICATE, TOKEN_IMPERSONATE, TOKEN_MANDATORY_LABEL,
    TOKEN_QUERY, TokenImpersonation, TokenIntegrityLevel,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_FIRST_PIPE_INSTANCE, PIPE_ACCESS_DUPLEX};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, GetNamedPipeClientComputerNameW, PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

const LOW: u32 = 0x1000;

/// A token that a thread can take on.
struct Token(OwnedHandle);

impl Token {
    fn of_this_process() -> Token {
        let mut token = ptr::null_mut();
        let access = TOKEN_QUERY | TOKEN_DUPLICATE | TOKEN_IMPERSONATE | TOKEN_ADJUST_DEFAULT;
        // SAFETY: GetCurrentProcess is a constant; `token` lives on this stack until the call returns.
        check(unsafe { OpenProcessToken(GetCurrentProcess(), access, &raw mut token) });
        Token::from(token)
    }

    fn from(token: HANDLE) -> Token {
        // SAFETY: a call that has just succeeded opened it for us, and nobody else owns it.
        Token(unsafe { OwnedHandle::from_raw_handle(token) })
    }

    /// Our groups, but not ourselves: our SID is only looked at where it is denied something
    /// ("CreateRestrictedToken function",
    /// learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-createrestrictedtoken).
    fn of_somebody_else() -> Token {
        let User::Sid(user) = current_user().unwrap() else { panic!("a user without a SID") };
        let mut user = aligned(user.as_bytes());
        let disabled = SID_AND_ATTRIBUTES { Sid: user.as_mut_ptr().cast(), Attributes: 0 };
        let ours = Token::of_this_process();
        let (mut token, none) = (ptr::null_mut(), ptr::null());
        // SAFETY: the token is open; `disabled`, the SID it points to, and `token` live on this stack
        // or in `user` until the call returns.
        check(unsafe {
            CreateRestrictedToken(
                ours.0.as_raw_handle(),
                0,
                1,
                &raw const disabled,
                0,
                none,
                0,
                ptr::null(),
                &raw mut token,
            )
        });
        Token::from(token)
    }

    /// Ourselves in a sandbox.
    fn of_low_integrity() -> Token {
        let ours = Token::of_this_process();
        let access = TOKEN_QUERY | TOKEN_IMPERSONATE | TOKEN_DUPLICATE | TOKEN_ADJUST_DEFAULT;
        let mut token = ptr::null_mut();
        // SAFETY: the token is open, and the new one's place lives on this stack until the call returns.
        check(unsafe {
            DuplicateTokenEx(
                ours.0.as_raw_handle(),
                access,
                ptr::null(),
                SecurityImpersonation,
                TokenImpersonation,
                &raw mut token,
            )
        });
        let token = Token::from(token);
        /// SE_GROUP_INTEGRITY.
        const INTEGRITY: u32 = 0x20;
        let mut level = aligned(&[1, 1, 0, 0, 0, 0, 0, 16, 0, 0x10, 0, 0]);
        let sid = SID_AND_ATTRIBUTES { Sid: level.as_mut_ptr().cast(), Attributes: INTEGRITY };
        let label = TOKEN_MANDATORY_LABEL { Label: sid };
        let size = (size_of::<TOKEN_MANDATORY_LABEL>() + size_of_val(level.as_slice())) as u32;
        // SAFETY: the token is open; `label` and the SID it points to live until the call returns.
        check(unsafe {
            SetTokenInformation(token.0.as_raw_handle(), TokenIntegrityLevel, (&raw const label).cast(), size)
        });
        token
    }

    /// A user with a name and a password.
    fn of_user(name: &str, password: &str) -> Token {
        let [name, domain, password] = [name, ".", password].map(|text| U16CString::from_str(text).unwrap());
        let mut token = ptr::null_mut();
        // SAFETY: the texts are NUL-terminated; they and `token` live until the call returns.
        check(unsafe {
            LogonUserW(
                name.as_ptr(),
                domain.as_ptr(),
                password.as_ptr(),
                LOGON32_LOGON_INTERACTIVE,
                LOGON32_PROVIDER_DEFAULT,
                &raw mut token,
            )
        });
        Token::from(token)
    }

    /// Runs `act` on a thread that is not quite ourselves.
    fn act<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the token is open; it changes this thread only, which ends with it.
                check(unsafe { ImpersonateLoggedOnUser(self.0.as_raw_handle()) });
                let result = act();
                // SAFETY: takes no arguments.
                check(unsafe { RevertToSelf() });
                result
            });
            thread.join().unwrap()
        })
    }
}

#[track_caller]
fn check(ok: i32) {
    assert_ne!(ok, 0, "{}", io::Error::last_os_error());
}

/// A SID as the system wants it: on a boundary of four bytes.
fn aligned(sid: &[u8]) -> Vec<u32> {
    sid.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

fn name(endpoint: &Endpoint) -> &str {
    let Endpoint::Pipe(name) = endpoint else { panic!("{endpoint} is not a pipe") };
    name
}

/// A server's end of a pipe, made without any of our code and with the system's default rights.
fn foreign_pipe(name: &str, flags: u32) -> io::Result<OwnedHandle> {
    let path = U16CString::from_str(format!(r"\\.\pipe\{name}")).unwrap();
    let mode = PIPE_ACCESS_DUPLEX | flags;
    // SAFETY: the name is NUL-terminated and lives until the call returns; no attributes are given.
    let pipe = unsafe {
        CreateNamedPipeW(
            path.as_ptr(),
            mode,
            PIPE_TYPE_BYTE,
            PIPE_UNLIMITED_INSTANCES,
            512,
            512,
            0,
            ptr::null(),
        )
    };
    if pipe == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it is open and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(pipe) })
}

fn server(anyone: bool, lower_integrity: bool) -> Server {
    let mut options = BindOptions::default();
    options.anyone = anyone;
    options.lower_integrity = lower_integrity;
    Server::new(&random_pipe(), &options, echo())
}

/// Not for want of a right to impersonate, say, which has a number of its own.
#[track_caller]
fn assert_denied<T>(result: io::Result<T>) {
    let error = result.err().expect("somebody got in who may not");
    assert_eq!(error.raw_os_error(), Some(ERROR_ACCESS_DENIED.cast_signed()), "{error}");
}

fn connect_as(token: &Token, server: &Server) -> io::Result<Channel> {
    let endpoint = &server.endpoint;
    token.act(|| Channel::connect(endpoint, SECOND))
}

/// Connects and speaks; returns what the server was told of it.
fn converse(server: &Server, token: &Token) -> Peer {
    let endpoint = &server.endpoint;
    token.act(|| {
        let channel = Channel::connect(endpoint, Some(LONG)).unwrap();
        ask(&channel, b"let me in");
    });
    server.find(|seen| if let Seen::Peer(peer) = seen { Some(peer.unwrap()) } else { None })
}

#[test]
fn a_pipe_is_closed_to_others() {
    if skipped_under_wine("it lets everybody open a pipe") {
        return;
    }
    let _watchdog = Watchdog::new();
    let stranger = Token::of_somebody_else();
    let private = server(false, false);
    assert_denied(connect_as(&stranger, &private));
    let public = server(true, false);
    // By its groups, of which "everyone" is one; the SID is still ours.
    let peer = converse(&public, &stranger);
    assert_eq!(*peer.credentials().unwrap().user(), current_user().unwrap());
    // But not as one more server of that name.
    let name = name(&public.endpoint);
    assert_denied(stranger.act(|| foreign_pipe(name, 0)));
}

#[test]
fn a_mailslot_is_closed_to_others() {
    if skipped_under_wine("it lets everybody open a mailslot") {
        return;
    }
    let _watchdog = Watchdog::new();
    let stranger = Token::of_somebody_else();
    for anyone in [false, true] {
        let endpoint = Endpoint::Mailslot(format!("sidewire-test-{}-{:016x}", std::process::id(), random()));
        let mut options = BindOptions::default();
        options.anyone = anyone;
        let _server = Datagrams::bind(&endpoint, &options).unwrap();
        match (anyone, stranger.act(|| DatagramChannel::connect(&endpoint))) {
            (false, result) => assert_denied(result),
            (true, result) => result.unwrap().send(b"let me in", SECOND).unwrap(),
        }
    }
}

#[test]
fn a_sandbox_is_kept_out_unless_asked_in() {
    if skipped_under_wine("it has no integrity levels") {
        return;
    }
    let _watchdog = Watchdog::new();
    let sandboxed = Token::of_low_integrity();
    assert!(current_integrity().unwrap() > LOW, "this test needs an ordinary process");
    let high = server(false, false);
    assert_denied(connect_as(&sandboxed, &high));
    let low = server(false, true);
    let peer = converse(&low, &sandboxed);
    let peer = peer.credentials().unwrap();
    assert_eq!((peer.user(), peer.integrity()), (&current_user().unwrap(), Some(LOW)));
}

#[test]
fn a_name_has_one_first_instance() {
    if skipped_under_wine("it doesn't know the flag") {
        return;
    }
    let _watchdog = Watchdog::new();
    let ours = server(false, false);
    assert_denied(foreign_pipe(name(&ours.endpoint), FILE_FLAG_FIRST_PIPE_INSTANCE));
    // The other way round: whoever has the name without us keeps it.
    let endpoint = random_pipe();
    let theirs = foreign_pipe(name(&endpoint), 0).unwrap();
    let error = Listener::bind(&endpoint, &BindOptions::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    drop(theirs);
}

/// A server that was killed leaves its name to its clients: nobody is there, and yet it may be taken.
#[test]
fn what_clients_keep_of_a_dead_server_is_no_server() {
    let _watchdog = Watchdog::new();
    let endpoint = random_pipe();
    let dead = foreign_pipe(name(&endpoint), 0).unwrap();
    let client = OpenOptions::new().read(true).write(true).open(format!(r"\\.\pipe\{}", name(&endpoint)));
    // As the system closes it for a process that ends: nobody is disconnected.
    drop(dead);
    match Listener::bind(&endpoint, &BindOptions::default()) {
        // Wine, where the name is free at once.
        Ok(listener) => drop(listener),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}"),
    }
    drop(client.unwrap());
    Listener::bind(&endpoint, &BindOptions::default()).unwrap();
}

/// By way of the machine's own network name, where file sharing is on.
#[test]
fn remote_clients_are_refused() {
    if skipped_under_wine("it has no remote pipes") {
        return;
    }
    let _watchdog = Watchdog::new();
    let open =
        |name: &str| OpenOptions::new().read(true).write(true).open(format!(r"\\127.0.0.1\pipe\{name}"));
    let endpoint = random_pipe();
    let theirs = foreign_pipe(name(&endpoint), 0).unwrap();
    match open(name(&endpoint)) {
        Err(error) => return skip(&format!("nobody comes in from outside here: {error}")),
        Ok(_client) if !is_remote(&theirs) => return skip("this machine takes its own address for local"),
        Ok(_client) => {}
    }
    let ours = server(true, true);
    let error = open(name(&ours.endpoint)).expect_err("a remote client got in");
    assert_ne!(error.kind(), io::ErrorKind::NotFound, "{error}");
    ask(&ours.connect(), b"but we do");
}

/// "GetNamedPipeClientComputerNameW function"
/// (learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientcomputernamew, of a
/// client on this machine: ERROR_PIPE_LOCAL).
fn is_remote(pipe: &OwnedHandle) -> bool {
    let mut name = [0u16; 256];
    // SAFETY: the handle is open; `name` has as many bytes as are announced and lives until the call
    // returns.
    let ok = unsafe {
        GetNamedPipeClientComputerNameW(pipe.as_raw_handle(), name.as_mut_ptr(), size_of_val(&name) as u32)
    };
    ok != 0 || io::Error::last_os_error().raw_os_error() != Some(ERROR_PIPE_LOCAL.cast_signed())
}

/// SO_REUSEADDR, with which others share a port on Windows, does not share ours.
#[test]
fn ports_are_not_robbed() {
    let _watchdog = Watchdog::new();
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap(), &BindOptions::default()).unwrap();
    let Endpoint::Tcp { port, .. } = *listener.endpoint() else { panic!("{listener:?}") };
    let datagrams = Datagrams::bind(&"udp:127.0.0.1:0".parse().unwrap(), &BindOptions::default()).unwrap();
    let Endpoint::Udp { port: udp_port, .. } = *datagrams.endpoint() else { panic!("{datagrams:?}") };
    for (kind, port) in [(socket2::Type::STREAM, port), (socket2::Type::DGRAM, udp_port)] {
        for host in [[127, 0, 0, 1], [0, 0, 0, 0]] {
            let robber = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
            robber.set_reuse_address(true).unwrap();
            let address = std::net::SocketAddr::from((host, port));
            // The wildcard is another address than ours: to bind it is no robbery, and may be allowed.
            if robber.bind(&address.into()).is_ok() {
                assert_eq!(host, [0, 0, 0, 0], "{kind:?}");
            }
        }
    }
}

/// Not as the end of the stream.
#[test]
fn a_reset_is_no_end() {
    if skipped_under_wine("it reads as the end of the stream") {
        return;
    }
    let _watchdog = Watchdog::new();
    let server = Server::new(&"tcp:127.0.0.1:0".parse().unwrap(), &BindOptions::default(), sink());
    let Endpoint::Tcp { port, .. } = server.endpoint else { panic!("{}", server.endpoint) };
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"hello").unwrap();
    server.find(|seen| matches!(seen, Seen::Peer(Ok(_))).then_some(()));
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    let error = server.find(|seen| if let Seen::Failed(error) = seen { Some(error) } else { None });
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

/// What a client has not read yet outlives the server's closing: it is flushed behind our back.
#[test]
fn a_closed_pipe_keeps_what_was_written() {
    let _watchdog = Watchdog::new();
    let (options, answer) = (BindOptions::default(), pattern(60_000));
    let words = answer.clone();
    let handler: Handler = Box::new(move |link, bytes| {
        if link.received == bytes.len() {
            link.outbox = words.clone();
        }
        if bytes.is_empty() { Then::Drop } else { Then::Flush(LONG) }
    });
    let server = Server::new(&random_pipe(), &options, handler);
    for _ in 0..10 {
        let channel = server.connect();
        send_all(&channel, b"question");
        thread::sleep(std::time::Duration::from_millis(300));
        assert!(recv_to_end(&channel) == answer);
    }
}

/// The user that the environment names, to log on as.
fn other_user() -> Option<(String, Token)> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("SIDEWIRE_TEST_USER"), variable("SIDEWIRE_TEST_PASSWORD")) {
        (Some(name), Some(password)) => {
            let token = Token::of_user(&name, &password);
            Some((name, token))
        }
        _ => {
            skip("SIDEWIRE_TEST_USER and SIDEWIRE_TEST_PASSWORD name no other user");
            None
        }
    }
}

#[test]
fn another_user_gets_in_where_anyone_may() {
    if skipped_under_wine("it has one user") {
        return;
    }
    let _watchdog = Watchdog::new();
    let Some((name, other)) = other_user() else { return };
    let private = server(false, false);
    assert_denied(connect_as(&other, &private));
    let user = converse(&server(true, false), &other).credentials().unwrap().user().clone();
    assert_ne!(user, current_user().unwrap());
    let account = user_name(&user).unwrap_or_default().to_lowercase();
    assert!(account.ends_with(&name.to_lowercase()), "{account}");
}

/// Who takes our name is seen for who it is, if we get in at all.
#[test]
fn another_user_is_known_as_the_server() {
    if skipped_under_wine("it has one user") {
        return;
    }
    let _watchdog = Watchdog::new();
    let Some((_, other)) = other_user() else { return };
    let endpoint = random_pipe();
    let _theirs = other.act(|| foreign_pipe(name(&endpoint), 0)).unwrap();
    match Channel::connect(&endpoint, SECOND) {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        Ok(channel) => {
            let user = channel.peer().credentials().map(|credentials| credentials.user());
            assert!(user.is_none_or(|user| *user != current_user().unwrap() && !user.is_superuser()));
        }
    }
}
