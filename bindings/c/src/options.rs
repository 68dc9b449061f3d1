//! What clients, listeners and servers are told before they begin.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use sidewire::{Access, App, Connect, ConnectionLimits, Limits, Listen, Reconnect, Token};

use crate::codes::{
    SW_ACCESS_ANYONE, SW_ACCESS_SAME_PROGRAM, SW_ACCESS_SAME_USER, SW_DEFAULT_TIMEOUT, SW_OK, Status,
};
use crate::error::{Failed, Outcome, guard, guard_free};
use crate::pointers::{User, given, text, time};
use crate::request::{Handler, Handling, handle_for_server};

/// How a client connects. One thread at a time, at which nobody looks; it may be used for any number of clients, and freed
/// behind that.
pub struct ClientOptions {
    access: Access,
    timeout: Option<Option<Duration>>,
    call_timeout: Option<Option<Duration>>,
    token: Option<Token>,
    limits: ConnectionLimits,
    attachments: bool,
    app: Option<App>,
    reconnect: Option<Reconnect>,
    handlers: Vec<(u16, Handling)>,
}

/// How a server listens at one endpoint. One thread at a time, as with sw_client_options.
pub struct ListenOptions {
    access: Access,
    token: Option<Token>,
    beyond_loopback: bool,
    attachments: bool,
    classic: Option<Classic>,
}

/// What is set of the older layout.
#[derive(Clone, Copy)]
enum Classic {
    Max(u32),
    Fixed(u32),
    Refused,
}

/// What a server is. One thread at a time, as with sw_client_options.
pub struct ServerOptions {
    pub(crate) types: usize,
    pub(crate) limits: Limits,
    pub(crate) app: Option<App>,
    pub(crate) may_be_stopped: bool,
}

impl ClientOptions {
    pub(crate) fn apply(&self, connect: Connect) -> Connect {
        let mut connect = connect.access(self.access.clone()).limits(self.limits.clone());
        if let Some(timeout) = self.timeout {
            connect = connect.timeout(timeout);
        }
        if let Some(timeout) = self.call_timeout {
            connect = connect.call_timeout(timeout);
        }
        if let Some(token) = &self.token {
            connect = connect.token(token.clone());
        }
        if let Some(app) = &self.app {
            connect = connect.app(app.clone());
        }
        if self.attachments {
            connect = connect.attachments(true);
        }
        if let Some(reconnect) = &self.reconnect {
            connect = connect.reconnect(reconnect.clone());
        }
        for (msg_type, handling) in self.handlers.iter().copied() {
            connect = connect.on(msg_type, move |request, reply| handle_for_server(handling, request, reply));
        }
        connect
    }
}

impl ListenOptions {
    pub(crate) fn apply(&self, listen: Listen) -> Listen {
        let mut listen = listen.access(self.access.clone());
        if let Some(token) = &self.token {
            listen = listen.token(token.clone());
        }
        if self.beyond_loopback {
            listen = listen.beyond_loopback();
        }
        if self.attachments {
            listen = listen.attachments(true);
        }
        match self.classic {
            Some(Classic::Max(bytes)) => listen.classic_max(bytes),
            Some(Classic::Fixed(bytes)) => listen.classic_fixed(bytes),
            Some(Classic::Refused) => listen.without_classic(),
            None => listen,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions { types: 256, limits: Limits::default(), app: None, may_be_stopped: false }
    }
}

fn access(access: u32) -> Outcome<Access> {
    match access {
        SW_ACCESS_SAME_USER => Ok(Access::SameUser),
        SW_ACCESS_ANYONE => Ok(Access::Anyone),
        SW_ACCESS_SAME_PROGRAM => Ok(Access::same_program()),
        _ => Err(Failed::invalid(&format!("there is no access {access}"))),
    }
}

/// One change to options that have to be there.
fn change<T>(options: Option<&mut T>, change: impl FnOnce(&mut T) -> Outcome<()>) -> Status {
    guard(|| {
        change(given(options, "options")?)?;
        Ok(SW_OK)
    })
}

/// A time limit that is set. `Some(None)`: to none.
fn limit(ms: u32) -> Option<Option<Duration>> {
    (ms != SW_DEFAULT_TIMEOUT).then(|| time(ms))
}

/// The key in this file.
fn token(file: *const c_char) -> Outcome<Token> {
    // SAFETY: C's caller gives a text that ends with a NUL.
    Ok(Token::file(unsafe { text(file, "file") }?))
}

/// Name and version of the application.
fn app(name: *const c_char, version: *const c_char) -> Outcome<App> {
    // SAFETY: C's caller gives texts that end with a NUL.
    let (name, version) = unsafe { (text(name, "name")?, text(version, "version")?) };
    Ok(App::new(name, version))
}

/// Options of a client: the defaults. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_new() -> Box<ClientOptions> {
    Box::new(ClientOptions {
        access: Access::default(),
        timeout: None,
        call_timeout: None,
        token: None,
        limits: ConnectionLimits::default(),
        attachments: false,
        app: None,
        reconnect: None,
        handlers: Vec::new(),
    })
}

/// Gives it back; clients that were connected with it go on.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_free(options: Option<Box<ClientOptions>>) {
    guard_free(options);
}

/// Who the server has to be: SW_ACCESS_SAME_USER (unless set), SW_ACCESS_ANYONE or SW_ACCESS_SAME_PROGRAM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_access(options: Option<&mut ClientOptions>, who: u32) -> Status {
    change(options, |options| {
        options.access = access(who)?;
        Ok(())
    })
}

/// How long sw_client_connect may take. 5 s unless set; SW_NO_TIMEOUT: as long as it takes.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_timeout(options: Option<&mut ClientOptions>, timeout_ms: u32) -> Status {
    change(options, |options| {
        options.timeout = limit(timeout_ms);
        Ok(())
    })
}

/// How long a call may take that says SW_DEFAULT_TIMEOUT, and a subscribe. 30 s unless set.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_call_timeout(
    options: Option<&mut ClientOptions>,
    timeout_ms: u32,
) -> Status {
    change(options, |options| {
        options.call_timeout = limit(timeout_ms);
        Ok(())
    })
}

/// Both sides prove that they know the key in this file, which the server makes for its own user alone. It is read when the
/// client connects.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_token_file(
    options: Option<&mut ClientOptions>,
    file: *const c_char,
) -> Status {
    change(options, |options| {
        options.token = Some(token(file)?);
        Ok(())
    })
}

/// What the application says of itself, of at most 128 bytes each, for the server to read.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_app(
    options: Option<&mut ClientOptions>,
    name: *const c_char,
    version: *const c_char,
) -> Status {
    change(options, |options| {
        options.app = Some(app(name, version)?);
        Ok(())
    })
}

/// Most bytes of payload that this client takes in one reply, part or event. 16 MiB unless set, and no more than 64 MiB: with
/// more each sw_client_connect is SW_INVALID.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_max_payload(options: Option<&mut ClientOptions>, bytes: u32) -> Status {
    change(options, |options| {
        options.limits.max_payload = bytes;
        Ok(())
    })
}

/// Bytes of events that wait in this client until they are taken, for each sw_events; beyond that new ones are dropped, and
/// counted. 1 MiB unless set.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_event_queue(options: Option<&mut ClientOptions>, bytes: usize) -> Status {
    change(options, |options| {
        options.limits.event_queue = bytes;
        Ok(())
    })
}

/// Lets calls and their replies carry attachments, over Unix sockets and named pipes, with servers that say so as well
/// (sw_listen_options_attachments). Elsewhere each sw_client_connect is SW_INVALID.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_attachments(options: Option<&mut ClientOptions>) -> Status {
    change(options, |options| {
        options.attachments = true;
        Ok(())
    })
}

/// Connects anew when the connection has ended, in at most so many attempts one after the other, and within so long
/// (SW_DEFAULT_TIMEOUT: a minute). Calls that may have been executed then still fail. Without this the connection's end is
/// the client's.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_reconnect(
    options: Option<&mut ClientOptions>,
    attempts: u32,
    within_ms: u32,
) -> Status {
    change(options, |options| {
        let reconnect = Reconnect::new().attempts(attempts);
        options.reconnect = Some(match limit(within_ms) {
            Some(within) => reconnect.within(within.unwrap_or(Duration::MAX)),
            None => reconnect,
        });
        Ok(())
    })
}

/// Has this handler answer what the server asks, of one type. It runs on threads that wait for something on the client's
/// connection, in their call, and on those of sw_client_spawn_reader; several may run at a time. user is handed to it, and
/// has to be good as long as the client and what came of it. A later handler of the same type replaces it.
///
/// A handler may call its own client. While that waits, the thread may be given further requests of the server, up to 16
/// handlers deep: so it holds no lock meanwhile that a handler takes.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_options_on(
    options: Option<&mut ClientOptions>,
    msg_type: u16,
    handler: Handler,
    user: *mut c_void,
) -> Status {
    change(options, |options| {
        let handling = Handling { handler: given(handler, "handler")?, user: User::new(user) };
        options.handlers.push((msg_type, handling));
        Ok(())
    })
}

/// Options of a listener: the defaults. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_new() -> Box<ListenOptions> {
    Box::new(ListenOptions {
        access: Access::default(),
        token: None,
        beyond_loopback: false,
        attachments: false,
        classic: None,
    })
}

/// Gives it back; what listens goes on.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_free(options: Option<Box<ListenOptions>>) {
    guard_free(options);
}

/// Who may connect: SW_ACCESS_SAME_USER (unless set), SW_ACCESS_ANYONE or SW_ACCESS_SAME_PROGRAM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_access(options: Option<&mut ListenOptions>, who: u32) -> Status {
    change(options, |options| {
        options.access = access(who)?;
        Ok(())
    })
}

/// Serves only clients that prove that they know the key in this file, and proves the same to them. It is made, for this
/// user alone, if it is not there. It is read, or made, by sw_server_listen.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_token_file(
    options: Option<&mut ListenOptions>,
    file: *const c_char,
) -> Status {
    change(options, |options| {
        options.token = Some(token(file)?);
        Ok(())
    })
}

/// Lets tcp: bind addresses that other machines can reach. Nothing on the wire is encrypted.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_beyond_loopback(options: Option<&mut ListenOptions>) -> Status {
    change(options, |options| {
        options.beyond_loopback = true;
        Ok(())
    })
}

/// Lets clients that say so as well (sw_client_options_attachments) send attachments with their requests, and handlers with
/// their replies: over Unix sockets and named pipes; elsewhere sw_server_listen is SW_INVALID. Only for clients that are
/// trusted like the program's own code: they fill its table of descriptors, may make closing what they send take long, and
/// on Windows have to be of the same integrity level.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_attachments(options: Option<&mut ListenOptions>) -> Status {
    change(options, |options| {
        options.attachments = true;
        Ok(())
    })
}

/// Most bytes of payload of classic peers, either way. 1,024 unless set.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_classic_max(options: Option<&mut ListenOptions>, bytes: u32) -> Status {
    change(options, |options| {
        options.classic = Some(Classic::Max(bytes));
        Ok(())
    })
}

/// Requests and replies of classic peers are exactly 12 + bytes long, for programs that send and read their whole struct.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_classic_fixed(options: Option<&mut ListenOptions>, bytes: u32) -> Status {
    change(options, |options| {
        options.classic = Some(Classic::Fixed(bytes));
        Ok(())
    })
}

/// Refuses classic peers.
#[unsafe(no_mangle)]
pub extern "C" fn sw_listen_options_without_classic(options: Option<&mut ListenOptions>) -> Status {
    change(options, |options| {
        options.classic = Some(Classic::Refused);
        Ok(())
    })
}

/// Options of a server: the defaults. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_new() -> Box<ServerOptions> {
    Box::new(ServerOptions::default())
}

/// Gives it back; servers that were made with it go on.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_free(options: Option<Box<ServerOptions>>) {
    guard_free(options);
}

/// How many types the table has: 0 to types - 1. 256 unless set, at most 65,536.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_types(options: Option<&mut ServerOptions>, types: usize) -> Status {
    change(options, |options| {
        options.types = types;
        Ok(())
    })
}

/// What the application says of itself, of at most 128 bytes each, for clients to read.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_app(
    options: Option<&mut ServerOptions>,
    name: *const c_char,
    version: *const c_char,
) -> Status {
    change(options, |options| {
        options.app = Some(app(name, version)?);
        Ok(())
    })
}

/// Lets processes of the same user stop the server with `sidewire stop`.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_may_be_stopped(options: Option<&mut ServerOptions>) -> Status {
    change(options, |options| {
        options.may_be_stopped = true;
        Ok(())
    })
}

/// Most bytes of payload in one request. 16 MiB unless set.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_max_payload(options: Option<&mut ServerOptions>, bytes: u32) -> Status {
    change(options, |options| {
        options.limits.listener.connection.max_payload = bytes;
        Ok(())
    })
}

/// Calls of one client that may be unanswered at a time, and their payload together. 4,096 and 64 MiB unless set.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_max_in_flight(
    options: Option<&mut ServerOptions>,
    calls: u32,
    bytes: u32,
) -> Status {
    change(options, |options| {
        let limits = &mut options.limits.listener.connection;
        (limits.max_in_flight, limits.max_in_flight_bytes) = (calls, bytes);
        Ok(())
    })
}

/// Connections that each listener holds at a time; further ones are refused, SW_RC_BUSY. 16,384 unless set.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_max_connections(
    options: Option<&mut ServerOptions>,
    connections: usize,
) -> Status {
    change(options, |options| {
        options.limits.listener.max_connections = connections;
        Ok(())
    })
}

/// How long a connection may be silent both ways before it is closed. SW_NO_TIMEOUT, and unless set: for ever.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_options_idle_timeout(
    options: Option<&mut ServerOptions>,
    timeout_ms: u32,
) -> Status {
    change(options, |options| {
        options.limits.listener.connection.idle_timeout = limit(timeout_ms).flatten();
        Ok(())
    })
}
