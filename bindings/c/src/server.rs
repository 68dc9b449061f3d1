//! Who is asked.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sidewire::{Listen, PollDescriptor, Remote, WhenSlow};

use crate::codes::{
    SW_DEFAULT_TIMEOUT, SW_END, SW_NO_TIMEOUT, SW_OK, SW_SLOW_DISCONNECT, SW_SLOW_DROP_NEWEST,
    SW_SLOW_KEEP_LATEST, Status,
};
use crate::descriptors::{Descriptor, SW_NO_DESCRIPTOR, watched};
use crate::error::{Failed, Outcome, guard};
use crate::options::{ListenOptions, ServerOptions};
use crate::pointers::{
    Shared, User, alone, bytes, c_string, given, millis, patience, place, share, text, time,
};
use crate::request::{Handler, Handling, handle_for_client};

/// A server. One thread sets it up and runs it; others may stop it and publish meanwhile, as the functions say. What may not
/// be is SW_INVALID, in a handler of its own, too.
pub struct Server {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    server: Mutex<sidewire::Server<()>>,
    remote: Remote<()>,
    /// What the program's own loop watches, if it has asked for that.
    watched: OnceLock<PollDescriptor>,
    types: usize,
    endpoints: Mutex<Vec<CString>>,
}

impl Shared for Server {
    type Inner = Inner;

    fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

fn shared(server: *const Server) -> Outcome<Arc<Inner>> {
    share(server, "server")
}

impl Inner {
    /// Its own table has no such type: the library would panic.
    fn check_type(&self, msg_type: u16) -> Outcome<()> {
        if usize::from(msg_type) < self.types {
            return Ok(());
        }
        Err(Failed::invalid(&format!("type {msg_type} lies beyond a table of {} types", self.types)))
    }

    /// Runs this with the server, which nobody else may be using.
    fn with<T>(&self, run: impl FnOnce(&mut sidewire::Server<()>) -> Outcome<T>) -> Outcome<T> {
        run(&mut *alone(&self.server, "the server")?)
    }
}

/// A server without an endpoint and a handler. options may be NULL.
///
/// Failures: SW_INVALID if options contradict each other; SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_new(
    options: Option<&ServerOptions>,
    server: Option<&mut MaybeUninit<*mut Server>>,
) -> Status {
    guard(|| {
        let place = place(server, "the place for the server")?;
        let usual = ServerOptions::default();
        let ServerOptions { types, limits, app, may_be_stopped } = options.unwrap_or(&usual);
        let mut builder = sidewire::Server::builder(()).types(*types).limits(limits.clone());
        if let Some(app) = app {
            builder = builder.app(app.clone());
        }
        if *may_be_stopped {
            builder = builder.may_be_stopped();
        }
        let mut server = builder.build()?;
        let (remote, endpoints) = (server.remote()?, Mutex::default());
        let inner =
            Inner { server: Mutex::new(server), remote, watched: OnceLock::new(), types: *types, endpoints };
        place.put(Server { inner: Arc::new(inner) });
        Ok(SW_OK)
    })
}

/// Opens an endpoint, as "local:com.example.app" or "tcp:127.0.0.1:0" (with SW_ACCESS_ANYONE or a token). options may be
/// NULL: then it is for processes of the same user. Clients that connect are served when the server runs.
///
/// Failures: SW_IN_USE, SW_REFUSED, SW_INVALID, SW_UNSUPPORTED, SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_listen(
    server: *const Server,
    endpoint: *const c_char,
    options: Option<&ListenOptions>,
) -> Status {
    guard(|| {
        let inner = shared(server)?;
        // SAFETY: C's caller gives a text that ends with a NUL.
        let listen = Listen::on(unsafe { text(endpoint, "endpoint") }?)?;
        let listen = options.map_or(listen.clone(), |options| options.apply(listen));
        let bound = inner.with(|server| Ok(server.listen(listen)?))?;
        let mut endpoints = inner.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.push(c_string(&bound.to_string()));
        Ok(SW_OK)
    })
}

/// The endpoint that was opened as the first (0), second (1) and so on, with the address really bound. NULL if there are not
/// so many. For any thread; good until the server is freed.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_endpoint(server: *const Server, index: usize) -> *const c_char {
    let mut endpoint = std::ptr::null();
    let _ = guard(|| {
        let inner = shared(server)?;
        let endpoints = inner.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        // The text itself stays where it is when there are more of them.
        endpoint = endpoints.get(index).map_or(std::ptr::null(), |text| text.as_ptr());
        Ok(SW_OK)
    });
    endpoint
}

/// Has this handler answer requests of one type, on the thread that runs the server; while it runs, all others wait. user is
/// handed to it, and has to be good until the server has ended and is freed. A later handler replaces it.
///
/// Failures: SW_INVALID for a type beyond the table (sw_server_options_types), and while the server runs.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_on(
    server: *const Server,
    msg_type: u16,
    handler: Handler,
    user: *mut c_void,
) -> Status {
    guard(|| {
        let handling = Handling { handler: given(handler, "handler")?, user: User::new(user) };
        let inner = shared(server)?;
        inner.check_type(msg_type)?;
        let remote = inner.remote.clone();
        inner.with(|server| {
            server
                .on(msg_type, move |(), request, reply| handle_for_client(handling, request, reply, &remote));
            Ok(SW_OK)
        })
    })
}

/// Lets clients subscribe to this topic. when_slow: SW_SLOW_DROP_NEWEST, SW_SLOW_KEEP_LATEST or SW_SLOW_DISCONNECT.
///
/// Failures: as sw_server_on.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_topic(server: *const Server, topic: u16, when_slow: u32) -> Status {
    guard(|| {
        let when_slow = match when_slow {
            SW_SLOW_DROP_NEWEST => WhenSlow::DropNewest,
            SW_SLOW_KEEP_LATEST => WhenSlow::KeepLatest,
            SW_SLOW_DISCONNECT => WhenSlow::Disconnect,
            _ => {
                return Err(Failed::invalid(&format!(
                    "there is no such word as {when_slow} for slow readers"
                )));
            }
        };
        let inner = shared(server)?;
        inner.check_type(topic)?;
        inner.with(|server| {
            server.topic(topic, when_slow);
            Ok(SW_OK)
        })
    })
}

/// Has Ctrl-C, SIGTERM, SIGHUP and the end of its console stop the server in order, but those that were ignored when the
/// process started. A second one ends the process at once.
///
/// Failures: SW_SYSTEM, SW_IN_USE if other code of this process has a handler for one of these.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_stop_on_signals(server: *const Server) -> Status {
    guard(|| {
        shared(server)?.with(|server| Ok(server.stop_on_signals()?))?;
        Ok(SW_OK)
    })
}

/// Has the server end when no client was connected for so long. It has no usual time.
///
/// Failures: SW_INVALID for SW_NO_TIMEOUT and SW_DEFAULT_TIMEOUT; SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_exit_when_idle(server: *const Server, after_ms: u32) -> Status {
    guard(|| {
        let after = time(after_ms).ok_or_else(|| Failed::invalid("so long in milliseconds, please"))?;
        shared(server)?.with(|server| Ok(server.exit_when_idle(after)?))?;
        Ok(SW_OK)
    })
}

/// Serves on this thread until the server is stopped.
///
/// Failures: SW_SYSTEM if the system's poll fails; SW_INVALID if it runs already.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_run(server: *const Server) -> Status {
    guard(|| {
        shared(server)?.with(|server| Ok(server.run()?))?;
        Ok(SW_OK)
    })
}

/// Waits for something to happen, for at most timeout_ms (0: never waits; SW_NO_TIMEOUT: as long as it takes), and handles
/// it, for programs that have a loop of their own. SW_OK: go on. SW_END: the server was stopped.
///
/// Failures: as sw_server_run.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_turn(server: *const Server, timeout_ms: u32) -> Status {
    guard(|| {
        let goes_on = shared(server)?.with(|server| Ok(server.turn(time(timeout_ms))?))?;
        Ok(if goes_on { SW_OK } else { SW_END })
    })
}

/// What a loop of the program's own (poll, epoll, GLib, libuv) watches in place of all that the server waits for: readable when
/// there is something for sw_server_turn to handle, also what other threads ask of it. It belongs to the server: nobody reads,
/// writes or closes it, and it is good until the server is freed; take it out of the loop before that. On failure
/// SW_NO_DESCRIPTOR is put there.
///
/// The loop waits until it is readable, for at most sw_server_next_timeout, and then takes a sw_server_turn with 0 ms.
///
/// Failures: SW_UNSUPPORTED on Windows, where nothing tells of a completion port: a thread of the program's own runs the server
/// there. SW_INVALID while it runs, unless it was asked for before; SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_fd(
    server: *const Server,
    descriptor: Option<&mut MaybeUninit<Descriptor>>,
) -> Status {
    guard(|| {
        let place = given(descriptor, "the place for the descriptor")?;
        place.write(SW_NO_DESCRIPTOR);
        let inner = shared(server)?;
        if inner.watched.get().is_none() {
            // If another thread was first, its one stays.
            let _ = inner.watched.set(inner.with(|server| Ok(server.poll_descriptor()?))?);
        }
        if let Some(descriptor) = inner.watched.get() {
            place.write(watched(descriptor));
        }
        Ok(SW_OK)
    })
}

/// After how many milliseconds the next sw_server_turn is due although the descriptor tells nothing: 0 if the last one has left
/// something to do, SW_NO_TIMEOUT if none is due, which cast to int is what poll calls so. Ask before each wait.
///
/// Failures: SW_INVALID while it runs, and in its handlers.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_next_timeout(
    server: *const Server,
    timeout_ms: Option<&mut MaybeUninit<u32>>,
) -> Status {
    guard(|| {
        let place = given(timeout_ms, "the place for the milliseconds")?;
        place.write(SW_NO_TIMEOUT);
        place.write(millis(shared(server)?.with(|server| Ok(server.next_timeout()))?));
        Ok(SW_OK)
    })
}

/// Stops the server, from any thread and in handlers: it lets nobody in any more, finishes what it has accepted, says
/// goodbye, and ends within grace_ms (SW_DEFAULT_TIMEOUT: half a second). Its sw_server_run then returns; this does not
/// wait for that. Not for signal handlers: sw_server_stop_on_signals.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_stop(server: *const Server, grace_ms: u32) -> Status {
    guard(|| {
        let inner = shared(server)?;
        match grace_ms {
            SW_DEFAULT_TIMEOUT => inner.remote.stop()?,
            ms => inner.remote.stop_within(patience(ms))?,
        }
        Ok(SW_OK)
    })
}

/// Tells something to all who have subscribed to this topic, from any thread; in a handler rather sw_request_publish, which
/// comes behind the reply. It does not wait. That nobody has subscribed is no failure.
///
/// Failures: SW_FULL: later it may work. SW_STOPPED.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_publish(
    server: *const Server,
    topic: u16,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        shared(server)?.remote.publish(topic, data)?;
        Ok(SW_OK)
    })
}

/// Gives it back. One that runs is told to stop, and goes on until its sw_server_run returns. No other thread may begin to
/// use it meanwhile. Its sockets' files are gone behind that.
#[unsafe(no_mangle)]
pub extern "C" fn sw_server_free(server: Option<Box<Server>>) {
    let _ = guard(|| {
        if let Some(server) = server {
            let is_in_use = server.inner.server.try_lock().is_err();
            if is_in_use {
                server.inner.remote.stop()?;
            }
        }
        Ok(SW_OK)
    });
}
