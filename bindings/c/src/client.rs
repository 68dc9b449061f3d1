//! Who asks.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use sidewire::{EndpointKind, PollDescriptor, RequestBuilder};

use crate::codes::{SW_DEFAULT_TIMEOUT, SW_END, SW_NO_TIMEOUT, SW_NOT_YET, SW_OK, SW_SYSTEM, Status};
use crate::descriptors::{Descriptor, SW_NO_DESCRIPTOR, watched};
use crate::error::{Failed, Outcome, guard};
use crate::later::{Events, Parts, Pending};
use crate::options::ClientOptions;
use crate::pointers::{Shared, bytes, given, millis, place, share, text, time};
use crate::response::Response;

/// A connection to a server. Any number of threads may use it at a time: the one that waits reads for all. What the
/// server asks (sw_client_options_on) is handled on threads that wait for something on this connection, and only there.
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) client: sidewire::Client,
    /// What the program's own loop watches, if it has asked for that.
    watched: OnceLock<PollDescriptor>,
    /// Those of sw_client_spawn_reader: they run handlers, and so end before the client is given back.
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared for Client {
    type Inner = Inner;

    fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

pub(crate) fn shared(client: *const Client) -> Outcome<Arc<Inner>> {
    share(client, "client")
}

impl Inner {
    fn readers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing comes over datagrams that was not asked for: said here, since a reader would end unheard.
fn check_reads_alone(client: &sidewire::Client) -> Outcome<()> {
    match client.endpoint().kind() {
        EndpointKind::Stream => Ok(()),
        _ => Err(Failed::invalid("nothing comes over datagrams that was not asked for")),
    }
}

/// With its time limit.
pub(crate) fn request(client: &sidewire::Client, msg_type: u16, timeout_ms: u32) -> RequestBuilder<'_> {
    match timeout_ms {
        SW_DEFAULT_TIMEOUT => client.request(msg_type),
        ms => client.request(msg_type).timeout(time(ms)),
    }
}

/// Connects to a server, as "local:com.example.app", "unix:/path", "abstract:NAME", "pipe:NAME" or "tcp:HOST:PORT", and
/// waits for its hello. options may be NULL: then it is a server of the same user, within 5 s.
///
/// Failures: SW_NOT_LISTENING, SW_REFUSED, SW_TIMED_OUT, SW_VERSION, SW_PROTOCOL, SW_PEER_GONE, SW_INVALID,
/// SW_UNSUPPORTED, SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_connect(
    endpoint: *const c_char,
    options: Option<&ClientOptions>,
    client: Option<&mut MaybeUninit<*mut Client>>,
) -> Status {
    guard(|| {
        let client = place(client, "the place for the client")?;
        // SAFETY: C's caller gives a text that ends with a NUL.
        let endpoint = unsafe { text(endpoint, "endpoint") }?;
        let connect = sidewire::Connect::to(endpoint)?;
        let connect = options.map_or(connect.clone(), |options| options.apply(connect));
        let inner = Inner { client: connect.open()?, watched: OnceLock::new(), readers: Mutex::default() };
        client.put(Client { inner: Arc::new(inner) });
        Ok(SW_OK)
    })
}

/// Calls: sends a request and waits for its reply, which is freed with sw_response_free. SW_OK means that the server has
/// answered, with whatever result code: sw_response_rc. timeout_ms may be SW_DEFAULT_TIMEOUT.
///
/// Failures: SW_TIMED_OUT, SW_PEER_GONE, SW_CLOSED, SW_PROTOCOL; SW_INVALID also for more bytes than the server takes, and
/// in a handler of the very server; with sw_client_options_reconnect also SW_NOT_LISTENING, SW_REFUSED and SW_VERSION, of the
/// attempts to connect anew. sw_error_executed tells whether the request may have been executed.
#[unsafe(no_mangle)]
pub extern "C" fn sw_call(
    client: *const Client,
    msg_type: u16,
    data: *const c_void,
    len: usize,
    timeout_ms: u32,
    response: Option<&mut MaybeUninit<*mut Response>>,
) -> Status {
    guard(|| {
        let response = place(response, "the place for the response")?;
        let client = shared(client)?;
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        response.put(Response::whole(request(&client.client, msg_type, timeout_ms).exchange(data)?));
        Ok(SW_OK)
    })
}

/// Tells the server something that wants no reply. SW_OK means that it is on its way.
///
/// Failures: as sw_call.
#[unsafe(no_mangle)]
pub extern "C" fn sw_notify(client: *const Client, msg_type: u16, data: *const c_void, len: usize) -> Status {
    guard(|| {
        let client = shared(client)?;
        // SAFETY: C's caller gives so many bytes.
        client.client.notify(msg_type, unsafe { bytes(data, len) }?)?;
        Ok(SW_OK)
    })
}

/// Begins a call and goes on; sw_wait is for its reply, sw_pending_free for what is handed out here. Calls that are begun
/// one after the other leave together as soon as somebody waits, or with sw_client_flush. The time limit runs from now on. Where
/// what is under way leaves no room for it, it waits for room, within that limit.
///
/// Failures: as sw_call.
#[unsafe(no_mangle)]
pub extern "C" fn sw_start(
    client: *const Client,
    msg_type: u16,
    data: *const c_void,
    len: usize,
    timeout_ms: u32,
    pending: Option<&mut MaybeUninit<*mut Pending>>,
) -> Status {
    guard(|| {
        let pending = place(pending, "the place for the pending call")?;
        let client = shared(client)?;
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        pending.put(Pending::new(request(&client.client, msg_type, timeout_ms).start(data)?));
        Ok(SW_OK)
    })
}

/// Begins a call whose reply may come in parts, which sw_parts_next takes. timeout_ms is how long each part may take; the
/// whole may take as long as it likes. What is handed out here is freed with sw_parts_free.
///
/// Failures: as sw_call.
#[unsafe(no_mangle)]
pub extern "C" fn sw_stream(
    client: *const Client,
    msg_type: u16,
    data: *const c_void,
    len: usize,
    timeout_ms: u32,
    parts: Option<&mut MaybeUninit<*mut Parts>>,
) -> Status {
    guard(|| {
        let parts = place(parts, "the place for the parts")?;
        let client = shared(client)?;
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        parts.put(Parts::new(request(&client.client, msg_type, timeout_ms).stream(data)?));
        Ok(SW_OK)
    })
}

/// Subscribes to a topic, and waits for the answer. sw_events_next takes what comes; sw_events_free unsubscribes.
///
/// Failures: SW_ANSWERED if the server does not have the topic (sw_error_rc is SW_RC_NO_HANDLER); otherwise as sw_call.
#[unsafe(no_mangle)]
pub extern "C" fn sw_subscribe(
    client: *const Client,
    topic: u16,
    events: Option<&mut MaybeUninit<*mut Events>>,
) -> Status {
    guard(|| {
        let events = place(events, "the place for the events")?;
        events.put(Events::new(shared(client)?.client.subscribe(topic)?));
        Ok(SW_OK)
    })
}

/// Sends what was begun and has not left, and waits until the system has taken it.
///
/// Failures: as sw_call.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_flush(client: *const Client) -> Status {
    guard(|| {
        shared(client)?.client.flush()?;
        Ok(SW_OK)
    })
}

/// Reads on this thread, and handles what the server asks, until the connection is over: for programs whose server has
/// more to say to them than they to it. Others may call meanwhile. SW_OK: the server has said goodbye, or somebody has
/// closed this.
///
/// Failures: any other end, as sw_call.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_run(client: *const Client) -> Status {
    guard(|| {
        shared(client)?.client.run()?;
        Ok(SW_OK)
    })
}

/// Starts a thread of this library's own that reads all the time, and on which handlers (sw_client_options_on) run from
/// then on, too, besides on threads that wait. It ends with the client: sw_client_free waits for it.
///
/// Failures: SW_SYSTEM if there is no such thread to be had; SW_INVALID over datagrams.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_spawn_reader(client: *const Client) -> Status {
    guard(|| {
        let inner = shared(client)?;
        check_reads_alone(&inner.client)?;
        let reading = Arc::clone(&inner);
        let reader = thread::Builder::new().name("sidewire-reader".into()).spawn(move || {
            // Whoever calls hears of the connection's end.
            let _ = reading.client.run();
        });
        let reader = reader.map_err(|error| Failed::new(SW_SYSTEM, &format!("start a reader: {error}")))?;
        inner.readers().push(reader);
        Ok(SW_OK)
    })
}

/// What a loop of the program's own (poll, epoll, GLib, libuv) watches in place of a thread that waits: readable when something
/// has come, or the connection has ended. Then sw_client_turn takes it in. It belongs to the client: nobody reads, writes or
/// closes it, and it is good until the client is freed; take it out of the loop before that. On failure SW_NO_DESCRIPTOR is
/// put there.
///
/// What looks or waits on this connection (sw_wait, sw_call, sw_subscribe) reads for all, and may so take in what the
/// descriptor would have told of: sw_client_next_timeout is 0 then. So no other thread does that meanwhile.
///
/// Failures: SW_UNSUPPORTED on Windows, where no handle tells whether a pipe can be read: sw_client_spawn_reader, or a thread of
/// the program's own in sw_client_run, waits there. SW_INVALID with sw_client_options_reconnect, since the next connection
/// would have another one, and over datagrams; SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_fd(
    client: *const Client,
    descriptor: Option<&mut MaybeUninit<Descriptor>>,
) -> Status {
    guard(|| {
        let place = given(descriptor, "the place for the descriptor")?;
        place.write(SW_NO_DESCRIPTOR);
        let inner = shared(client)?;
        if inner.watched.get().is_none() {
            // If another thread was first, its one stays.
            let _ = inner.watched.set(inner.client.poll_descriptor()?);
        }
        if let Some(descriptor) = inner.watched.get() {
            place.write(watched(descriptor));
        }
        Ok(SW_OK)
    })
}

/// Takes in what has come, handles what the server asks (sw_client_options_on), on this thread, and sends what waits to be
/// sent; never waits. Behind it look at what was expected, with no time: sw_wait for calls that were begun with sw_start, and
/// sw_events_next until it says SW_NOT_YET. Of much that has come a turn takes only a part, and the descriptor
/// (sw_client_fd) stays readable.
///
/// SW_OK: go on. SW_NOT_YET: go on, and something waits to be sent for which the system has no room: watch the descriptor for
/// that as well (POLLOUT). SW_END: the server has said goodbye, or somebody has closed this.
///
/// Failures: any other end, as sw_call; SW_INVALID as sw_client_fd.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_turn(client: *const Client) -> Status {
    guard(|| {
        let inner = shared(client)?;
        Ok(match inner.client.turn()? {
            true if inner.client.has_unsent() => SW_NOT_YET,
            true => SW_OK,
            false => SW_END,
        })
    })
}

/// After how many milliseconds the next sw_client_turn is due although the descriptor tells nothing: 0 if something was read
/// since the last one, or begun; SW_NO_TIMEOUT if none is due, which cast to int is what poll calls so. Ask before each
/// wait. The time limits of calls are not counted in: sw_wait tells of those when it is asked.
///
/// Failures: SW_INVALID for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_next_timeout(
    client: *const Client,
    timeout_ms: Option<&mut MaybeUninit<u32>>,
) -> Status {
    guard(|| {
        let place = given(timeout_ms, "the place for the milliseconds")?;
        place.write(SW_NO_TIMEOUT);
        place.write(millis(shared(client)?.client.next_timeout()));
        Ok(SW_OK)
    })
}

/// Closes the connection, for all threads: what they wait for ends at once, with SW_CLOSED, and so does all that is begun
/// later. The client stays to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_close(client: *const Client) -> Status {
    guard(|| {
        shared(client)?.client.close();
        Ok(SW_OK)
    })
}

/// Closes it and gives it back. Calls that were begun, parts and events that came of it end with it, and are still to be
/// freed. No other thread may begin to use it meanwhile; one that waits in a call of it hears SW_CLOSED.
///
/// Waits for the threads of sw_client_spawn_reader, and so for the handlers that run on them; but, in one of these, not for
/// its own. A thread of the program's own that waits in a call, or in sw_client_run, may still be in a handler when this
/// returns: who frees user joins that thread first.
#[unsafe(no_mangle)]
pub extern "C" fn sw_client_free(client: Option<Box<Client>>) {
    let _ = guard(|| {
        if let Some(client) = client {
            client.inner.client.close();
            let readers = std::mem::take(&mut *client.inner.readers());
            for reader in readers.into_iter().filter(|reader| reader.thread().id() != thread::current().id())
            {
                // One that has panicked has ended, too.
                let _ = reader.join();
            }
        }
        Ok(SW_OK)
    });
}
