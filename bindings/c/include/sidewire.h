#ifndef SIDEWIRE_H
#define SIDEWIRE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Sidewire: calls between the processes of one machine. bindings/c/README.md has a client and a server to begin with.
 * Made of the sources there by cbindgen: change it there.
 *
 * Status: a function that can fail returns a sw_status: SW_OK, or SW_END and SW_NOT_YET where it says so, or a
 * failure (10 and above). Then sw_error_text() says in words what went wrong, for this thread. What a function hands
 * out through a pointer is NULL unless it says otherwise when it returns a failure.
 *
 * Ownership: what a function hands out through a pointer to a pointer is the caller's, and goes back with the
 * sw_..._free of its type, once, on any thread, in any order; NULL is freed by doing nothing. Bytes and texts that are
 * passed in are copied or used up before the function returns. Pointers that functions return (const char *) lie in the
 * object that was asked, and are good until that is freed.
 *
 * Threads: any thread may use any object unless its type says otherwise. The program is called back on threads that are in
 * a call of this library, and on no other, unless it asks for one with sw_client_spawn_reader.
 *
 * Misuse: NULL where an object is asked for, text that is not UTF-8, numbers out of range, a second answer to one
 * request, and an object that another thread is using where it may not (but options and replies, where nobody looks)
 * are SW_INVALID, and nothing else happens. What nobody can check is undefined, as ever in C: pointers to nothing,
 * lengths that are wrong, what was freed, a request or a reply behind the end of its handler, and exceptions or longjmp
 * out of a callback. A failure in this library that should not be is SW_PANIC, and does not cross into the program.
 *
 * Text is UTF-8 and ends with a NUL. Bytes have a length, and need no NUL; NULL will do for 0 of them. Times are
 * milliseconds.
 */


/*
 Result codes of a request: 0 is fine, above 0 are the application's, -1 to -999 Sidewire's.
 */
#define SW_RC_OK 0

/*
 The type lies beyond the server's table.
 */
#define SW_RC_UNKNOWN_TYPE -1

/*
 There is no handler for this type.
 */
#define SW_RC_NO_HANDLER -2

/*
 The request or the reply is larger than the other side takes.
 */
#define SW_RC_TOO_LARGE -3

/*
 The bytes are not what they should be.
 */
#define SW_RC_MALFORMED -4

/*
 The peer may not do that.
 */
#define SW_RC_NOT_PERMITTED -5

/*
 A limit is reached; later it may work.
 */
#define SW_RC_BUSY -6

/*
 A time limit has passed.
 */
#define SW_RC_TIMED_OUT -7

/*
 The caller has cancelled.
 */
#define SW_RC_CANCELLED -8

/*
 The server ends.
 */
#define SW_RC_SHUTTING_DOWN -9

/*
 The handler failed.
 */
#define SW_RC_HANDLER_FAILED -10

/*
 The two sides have no version in common.
 */
#define SW_RC_NO_COMMON_VERSION -11

/*
 One side asks for a feature that the other does not have.
 */
#define SW_RC_FEATURE_MISSING -12

/*
 No result code of anybody: what NULL is said to have answered.
 */
#define SW_RC_NONE -1000

/*
 In place of milliseconds: no time limit.
 */
#define SW_NO_TIMEOUT 4294967295

/*
 In place of milliseconds: what the client's options say, or the usual time.
 */
#define SW_DEFAULT_TIMEOUT 4294967294

/*
 Who may be at the other end: processes of the same user, by the kernel's word. The default.
 */
#define SW_ACCESS_SAME_USER 0

/*
 Anybody who reaches the endpoint. TCP needs this or a token.
 */
#define SW_ACCESS_ANYONE 1

/*
 Processes of the same user that run the program that this process runs. It keeps programs apart, not those who run
 them.
 */
#define SW_ACCESS_SAME_PROGRAM 2

/*
 What becomes of an event for a subscriber that reads too slowly: it is dropped, and counted.
 */
#define SW_SLOW_DROP_NEWEST 0

/*
 It takes the place of an older one: the last always arrives.
 */
#define SW_SLOW_KEEP_LATEST 1

/*
 The connection ends.
 */
#define SW_SLOW_DISCONNECT 2

/*
 Open files, ends of pipes, and on Unix sockets, that go with one request, or have come with a request or reply. One thread
 at a time, at which nobody looks. What is left in it is closed when it is freed.

 They go over Unix sockets, and on Windows over named pipes, if both sides say so: sw_client_options_attachments and
 sw_listen_options_attachments.
 */
typedef struct sw_attachments sw_attachments;

/*
 A connection to a server. Any number of threads may use it at a time: the one that waits reads for all. What the
 server asks (sw_client_options_on) is handled on threads that wait for something on this connection, and only there.
 */
typedef struct sw_client sw_client;

/*
 How a client connects. One thread at a time, at which nobody looks; it may be used for any number of clients, and freed
 behind that.
 */
typedef struct sw_client_options sw_client_options;

/*
 One event. Nothing changes it, so any number of threads may read it.
 */
typedef struct sw_event sw_event;

/*
 The events of the topics that were subscribed to. One thread at a time, as with sw_pending.
 */
typedef struct sw_events sw_events;

/*
 How a server listens at one endpoint. One thread at a time, as with sw_client_options.
 */
typedef struct sw_listen_options sw_listen_options;

/*
 The parts of one reply. One thread at a time, as with sw_pending.
 */
typedef struct sw_parts sw_parts;

/*
 A client of a server, by which the server asks it something. Any number of threads may use it. It means nothing any more
 when the client has gone, and is still to be freed.
 */
typedef struct sw_peer sw_peer;

/*
 A call that was begun. One thread at a time may use it: another one hears SW_INVALID.
 */
typedef struct sw_pending sw_pending;

/*
 What is answered. For the handler's thread alone, at which nobody looks.
 */
typedef struct sw_reply sw_reply;

/*
 What was asked: of a server by a client, or of a client by its server.
 */
typedef struct sw_request sw_request;

/*
 Answers one request, once. It may be handed from thread to thread; two that answer at a time are told apart, and one of
 them hears SW_INVALID.
 */
typedef struct sw_responder sw_responder;

/*
 What was answered to a call, or one part of it. Nothing but taking its attachments changes it, so any number of threads may read it.
 */
typedef struct sw_response sw_response;

/*
 A server. One thread sets it up and runs it; others may stop it and publish meanwhile, as the functions say. What may not
 be is SW_INVALID, in a handler of its own, too.
 */
typedef struct sw_server sw_server;

/*
 What a server is. One thread at a time, as with sw_client_options.
 */
typedef struct sw_server_options sw_server_options;

/*
 How a function has ended: SW_OK, SW_END, SW_NOT_YET, or a failure.
 */
typedef int32_t sw_status;

/*
 Something open: on Unix a descriptor, to be cast from and to int; on Windows a HANDLE, cast likewise.
 */
typedef ptrdiff_t sw_descriptor;

/*
 Answers a request. Both belong to the library and are good until the handler returns, on its thread alone. It answers
 with what was written into reply, and SW_RC_OK unless something else was set; or later, with sw_reply_defer.
 */
typedef void (*sw_handler)(void *user, const sw_request *request, sw_reply *reply);

/*
 Is told what a client has answered: status is SW_OK, and answer good until this returns; or status says why there is no
 answer, and answer is NULL; sw_error_text says more.
 */
typedef void (*sw_answer_handler)(void *user, sw_status status, const sw_response *answer);

/*
 Done.
 */
#define SW_OK 0

/*
 Done, and behind this there is nothing more.
 */
#define SW_END 1

/*
 The time that was given is over, and nothing has come. No failure.
 */
#define SW_NOT_YET 2

/*
 It was asked for something that can't be: NULL, text that is not UTF-8, a bad endpoint, an object that another
 thread is using.
 */
#define SW_INVALID 10

/*
 This system does not have that.
 */
#define SW_UNSUPPORTED 11

/*
 Another server that lives holds the endpoint.
 */
#define SW_IN_USE 12

/*
 Nobody listens there.
 */
#define SW_NOT_LISTENING 13

/*
 Policy says no: the server refused us, or we the server.
 */
#define SW_REFUSED 14

/*
 The two sides have no version of the protocol in common.
 */
#define SW_VERSION 15

/*
 The time was up. A request that was on its way may have been executed.
 */
#define SW_TIMED_OUT 16

/*
 The other side has gone: see sw_error_executed.
 */
#define SW_PEER_GONE 17

/*
 This side has closed the connection.
 */
#define SW_CLOSED 18

/*
 Too much waits already; later it may work.
 */
#define SW_FULL 19

/*
 Our own server has stopped.
 */
#define SW_STOPPED 20

/*
 The other side broke the protocol.
 */
#define SW_PROTOCOL 21

/*
 The other side said no, with a result code: see sw_error_rc.
 */
#define SW_ANSWERED 22

/*
 Nobody waits for this answer any more.
 */
#define SW_UNWANTED 23

/*
 The operating system failed.
 */
#define SW_SYSTEM 24

/*
 This library failed where it should not; the log of the program (standard error) says where.
 */
#define SW_PANIC 25

/*
 None.
 */
#define SW_NO_DESCRIPTOR -1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 A set with nothing in it. Never NULL.
 */
sw_attachments *sw_attachments_new(void);

/*
 Puts something into the set: another descriptor of the same thing, which is closed in programs that this process
 executes. The one that is passed stays the caller's, who may close it at once.

 Failures: SW_INVALID for a number that can't be one; SW_SYSTEM if it is not open, or for want of descriptors.

 Windows: a handle, but no socket, which would be no good in another process (the call is SW_INVALID, as far as the system
 tells them apart), and none that stands for something in each process, as that of GetCurrentProcess.
 */
sw_status sw_attachments_add(sw_attachments *attachments,
                             sw_descriptor descriptor);

/*
 How many are in it; 0 of NULL.
 */
size_t sw_attachments_len(const sw_attachments *attachments);

/*
 Takes out the first one that is left. It is the caller's, who closes it: with close, or CloseHandle. SW_NO_DESCRIPTOR if
 there is none.

 Whoever has sent it has decided what it is: look before it is read (fstat), and do not wait for what may never come.
 */
sw_descriptor sw_attachments_take(sw_attachments *attachments);

/*
 Gives it back, and closes what is left in it.
 */
void sw_attachments_free(sw_attachments *attachments);

/*
 As sw_call, with what is in the set, 1 to 16 of them, of which the server then has descriptors of its own. The set is empty
 behind this, whatever has come of it, and is still to be freed. What comes with the reply is taken with
 sw_response_take_attachments.

 Failures: as sw_call; SW_INVALID also where attachments can't go: one side has not said so, or the connection carries none.
 */
sw_status sw_call_attached(const sw_client *client,
                           uint16_t msg_type,
                           const void *data,
                           size_t len,
                           uint32_t timeout_ms,
                           sw_attachments *attachments,
                           sw_response **response);

/*
 As sw_notify, with what is in the set, as sw_call_attached.

 Windows: waits for a sign of life of the server, which then has them; not for longer than a call of this client may take.

 Failures: as sw_call_attached.
 */
sw_status sw_notify_attached(const sw_client *client,
                             uint16_t msg_type,
                             const void *data,
                             size_t len,
                             sw_attachments *attachments);

/*
 Takes what has come with a reply: a set, freed with sw_attachments_free, which is empty if nothing has, or somebody has taken
 it before. What nobody takes is closed with the response.

 Failures: SW_INVALID for NULL.
 */
sw_status sw_response_take_attachments(const sw_response *response,
                                       sw_attachments **attachments);

/*
 The same of a request. What nobody takes is closed when the handler returns.

 Failures: SW_INVALID for NULL; SW_UNSUPPORTED in a client's handler.
 */
sw_status sw_request_take_attachments(const sw_request *request, sw_attachments **attachments);

/*
 Has something go with the reply, up to 16 of them, of which the client then has descriptors of its own. What is passed
 stays the caller's, as with sw_attachments_add. It does not go if the reply fails, or is deferred: sw_responder_attach.

 Failures: SW_UNSUPPORTED if this client takes none, and in a client's handler; SW_FULL if too many that it was sent before wait
 to be taken; SW_INVALID behind sw_reply_defer, from the seventeenth on, and as sw_attachments_add; SW_SYSTEM.
 */
sw_status sw_reply_attach(sw_reply *reply,
                          sw_descriptor descriptor);

/*
 The same for an answer that is given later: with sw_responder_finish. With one that fails nothing goes.

 Failures: SW_UNSUPPORTED and SW_SYSTEM as there; SW_INVALID behind the answer, from the seventeenth on, and as there.
 */
sw_status sw_responder_attach(const sw_responder *responder,
                              sw_descriptor descriptor);

/*
 Connects to a server, as "local:com.example.app", "unix:/path", "abstract:NAME", "pipe:NAME" or "tcp:HOST:PORT", and
 waits for its hello. options may be NULL: then it is a server of the same user, within 5 s.

 Failures: SW_NOT_LISTENING, SW_REFUSED, SW_TIMED_OUT, SW_VERSION, SW_PROTOCOL, SW_PEER_GONE, SW_INVALID,
 SW_UNSUPPORTED, SW_SYSTEM.
 */
sw_status sw_client_connect(const char *endpoint,
                            const sw_client_options *options,
                            sw_client **client);

/*
 Calls: sends a request and waits for its reply, which is freed with sw_response_free. SW_OK means that the server has
 answered, with whatever result code: sw_response_rc. timeout_ms may be SW_DEFAULT_TIMEOUT.

 Failures: SW_TIMED_OUT, SW_PEER_GONE, SW_CLOSED, SW_PROTOCOL; SW_INVALID also for more bytes than the server takes, and
 in a handler of the very server; with sw_client_options_reconnect also SW_NOT_LISTENING, SW_REFUSED and SW_VERSION, of the
 attempts to connect anew. sw_error_executed tells whether the request may have been executed.
 */
sw_status sw_call(const sw_client *client,
                  uint16_t msg_type,
                  const void *data,
                  size_t len,
                  uint32_t timeout_ms,
                  sw_response **response);

/*
 Tells the server something that wants no reply. SW_OK means that it is on its way.

 Failures: as sw_call.
 */
sw_status sw_notify(const sw_client *client, uint16_t msg_type, const void *data, size_t len);

/*
 Begins a call and goes on; sw_wait is for its reply, sw_pending_free for what is handed out here. Calls that are begun
 one after the other leave together as soon as somebody waits, or with sw_client_flush. The time limit runs from now on. Where
 what is under way leaves no room for it, it waits for room, within that limit.

 Failures: as sw_call.
 */
sw_status sw_start(const sw_client *client,
                   uint16_t msg_type,
                   const void *data,
                   size_t len,
                   uint32_t timeout_ms,
                   sw_pending **pending);

/*
 Begins a call whose reply may come in parts, which sw_parts_next takes. timeout_ms is how long each part may take; the
 whole may take as long as it likes. What is handed out here is freed with sw_parts_free.

 Failures: as sw_call.
 */
sw_status sw_stream(const sw_client *client,
                    uint16_t msg_type,
                    const void *data,
                    size_t len,
                    uint32_t timeout_ms,
                    sw_parts **parts);

/*
 Subscribes to a topic, and waits for the answer. sw_events_next takes what comes; sw_events_free unsubscribes.

 Failures: SW_ANSWERED if the server does not have the topic (sw_error_rc is SW_RC_NO_HANDLER); otherwise as sw_call.
 */
sw_status sw_subscribe(const sw_client *client,
                       uint16_t topic,
                       sw_events **events);

/*
 Sends what was begun and has not left, and waits until the system has taken it.

 Failures: as sw_call.
 */
sw_status sw_client_flush(const sw_client *client);

/*
 Reads on this thread, and handles what the server asks, until the connection is over: for programs whose server has
 more to say to them than they to it. Others may call meanwhile. SW_OK: the server has said goodbye, or somebody has
 closed this.

 Failures: any other end, as sw_call.
 */
sw_status sw_client_run(const sw_client *client);

/*
 Starts a thread of this library's own that reads all the time, and on which handlers (sw_client_options_on) run from
 then on, too, besides on threads that wait. It ends with the client: sw_client_free waits for it.

 Failures: SW_SYSTEM if there is no such thread to be had; SW_INVALID over datagrams.
 */
sw_status sw_client_spawn_reader(const sw_client *client);

/*
 What a loop of the program's own (poll, epoll, GLib, libuv) watches in place of a thread that waits: readable when something
 has come, or the connection has ended. Then sw_client_turn takes it in. It belongs to the client: nobody reads, writes or
 closes it, and it is good until the client is freed; take it out of the loop before that. On failure SW_NO_DESCRIPTOR is
 put there.

 What looks or waits on this connection (sw_wait, sw_call, sw_subscribe) reads for all, and may so take in what the
 descriptor would have told of: sw_client_next_timeout is 0 then. So no other thread does that meanwhile.

 Failures: SW_UNSUPPORTED on Windows, where no handle tells whether a pipe can be read: sw_client_spawn_reader, or a thread of
 the program's own in sw_client_run, waits there. SW_INVALID with sw_client_options_reconnect, since the next connection
 would have another one, and over datagrams; SW_SYSTEM.
 */
sw_status sw_client_fd(const sw_client *client,
                       sw_descriptor *descriptor);

/*
 Takes in what has come, handles what the server asks (sw_client_options_on), on this thread, and sends what waits to be
 sent; never waits. Behind it look at what was expected, with no time: sw_wait for calls that were begun with sw_start, and
 sw_events_next until it says SW_NOT_YET. Of much that has come a turn takes only a part, and the descriptor
 (sw_client_fd) stays readable.

 SW_OK: go on. SW_NOT_YET: go on, and something waits to be sent for which the system has no room: watch the descriptor for
 that as well (POLLOUT). SW_END: the server has said goodbye, or somebody has closed this.

 Failures: any other end, as sw_call; SW_INVALID as sw_client_fd.
 */
sw_status sw_client_turn(const sw_client *client);

/*
 After how many milliseconds the next sw_client_turn is due although the descriptor tells nothing: 0 if something was read
 since the last one, or begun; SW_NO_TIMEOUT if none is due, which cast to int is what poll calls so. Ask before each
 wait. The time limits of calls are not counted in: sw_wait tells of those when it is asked.

 Failures: SW_INVALID for NULL.
 */
sw_status sw_client_next_timeout(const sw_client *client,
                                 uint32_t *timeout_ms);

/*
 Closes the connection, for all threads: what they wait for ends at once, with SW_CLOSED, and so does all that is begun
 later. The client stays to be freed.
 */
sw_status sw_client_close(const sw_client *client);

/*
 Closes it and gives it back. Calls that were begun, parts and events that came of it end with it, and are still to be
 freed. No other thread may begin to use it meanwhile; one that waits in a call of it hears SW_CLOSED.

 Waits for the threads of sw_client_spawn_reader, and so for the handlers that run on them; but, in one of these, not for
 its own. A thread of the program's own that waits in a call, or in sw_client_run, may still be in a handler when this
 returns: who frees user joins that thread first.
 */
void sw_client_free(sw_client *client);

/*
 What the last function of this library that failed on this thread says of it, in English. An empty text if none has.
 Good until another function fails on this thread.
 */
const char *sw_error_text(void);

/*
 The result code that the other side answered with, if that failure is SW_ANSWERED; otherwise 0.
 */
int32_t sw_error_rc(void);

/*
 Whether the request behind that failure may have been executed: 0 if it certainly was not and will not be, so that
 it can be sent again; otherwise 1.
 */
int32_t sw_error_executed(void);

/*
 This library's version, as "0.1.0".
 */
const char *sw_version(void);

/*
 Waits for the reply, for at most timeout_ms (0: looks whether it is there; SW_NO_TIMEOUT: as long as the call's own
 time limit says), and hands it out once. SW_NOT_YET: the call goes on, and can be waited for again.

 Failures: as sw_call; SW_INVALID also if its end was told before.
 */
sw_status sw_wait(const sw_pending *pending,
                  uint32_t timeout_ms,
                  sw_response **response);

/*
 Tells the server that nobody needs the answer any more. It may still give one; if not, sw_wait hands out
 SW_RC_CANCELLED.
 */
sw_status sw_cancel(const sw_pending *pending);

/*
 Gives it back. A call whose end is not known yet is cancelled.
 */
void sw_pending_free(sw_pending *pending);

/*
 Waits for the next part and hands it out: SW_OK. SW_END hands out the final reply, with its result code and perhaps a
 payload; the server may answer with that alone.

 Failures: as sw_call; SW_INVALID also behind the end.
 */
sw_status sw_parts_next(const sw_parts *parts,
                        sw_response **part);

/*
 Tells the server that nobody needs more. Parts that were under way still come, and then the end: usually with
 SW_RC_CANCELLED.
 */
sw_status sw_parts_cancel(const sw_parts *parts);

/*
 Gives it back. A call that has not ended is cancelled.
 */
void sw_parts_free(sw_parts *parts);

/*
 Subscribes to one more topic: its events come among the others, in the order in which the server sends them.

 Failures: as sw_subscribe; the others are still subscribed to then.
 */
sw_status sw_events_add(const sw_events *events, uint16_t topic);

/*
 Waits for the next event, for at most timeout_ms (0: takes one that is there; SW_NO_TIMEOUT: as long as it takes).
 SW_NOT_YET: none has come.

 Failures: why the connection has ended, behind all events that had come.
 */
sw_status sw_events_next(const sw_events *events,
                         uint32_t timeout_ms,
                         sw_event **event);

/*
 Unsubscribes and gives it back.
 */
void sw_events_free(sw_events *events);

/*
 Its topic; 0 of NULL.
 */
uint16_t sw_event_topic(const sw_event *event);

/*
 Its number within the subscription, from 1; 0 of NULL.
 */
uint32_t sw_event_sequence(const sw_event *event);

/*
 How many events of this topic were dropped before it, since they came faster than they were taken.
 */
uint32_t sw_event_dropped(const sw_event *event);

/*
 What it tells: sw_event_len() bytes, without a NUL behind them. Never NULL.
 */
const char *sw_event_data(const sw_event *event);

/*
 How many bytes it has.
 */
size_t sw_event_len(const sw_event *event);

/*
 Gives it back.
 */
void sw_event_free(sw_event *event);

/*
 Options of a client: the defaults. Never NULL.
 */
sw_client_options *sw_client_options_new(void);

/*
 Gives it back; clients that were connected with it go on.
 */
void sw_client_options_free(sw_client_options *options);

/*
 Who the server has to be: SW_ACCESS_SAME_USER (unless set), SW_ACCESS_ANYONE or SW_ACCESS_SAME_PROGRAM.
 */
sw_status sw_client_options_access(sw_client_options *options, uint32_t who);

/*
 How long sw_client_connect may take. 5 s unless set; SW_NO_TIMEOUT: as long as it takes.
 */
sw_status sw_client_options_timeout(sw_client_options *options, uint32_t timeout_ms);

/*
 How long a call may take that says SW_DEFAULT_TIMEOUT, and a subscribe. 30 s unless set.
 */
sw_status sw_client_options_call_timeout(sw_client_options *options, uint32_t timeout_ms);

/*
 Both sides prove that they know the key in this file, which the server makes for its own user alone. It is read when the
 client connects.
 */
sw_status sw_client_options_token_file(sw_client_options *options,
                                       const char *file);

/*
 What the application says of itself, of at most 128 bytes each, for the server to read.
 */
sw_status sw_client_options_app(sw_client_options *options, const char *name, const char *version);

/*
 Most bytes of payload that this client takes in one reply, part or event. 16 MiB unless set, and no more than 64 MiB: with
 more each sw_client_connect is SW_INVALID.
 */
sw_status sw_client_options_max_payload(sw_client_options *options,
                                        uint32_t bytes);

/*
 Bytes of events that wait in this client until they are taken, for each sw_events; beyond that new ones are dropped, and
 counted. 1 MiB unless set.
 */
sw_status sw_client_options_event_queue(sw_client_options *options,
                                        size_t bytes);

/*
 Lets calls and their replies carry attachments, over Unix sockets and named pipes, with servers that say so as well
 (sw_listen_options_attachments). Elsewhere each sw_client_connect is SW_INVALID.
 */
sw_status sw_client_options_attachments(sw_client_options *options);

/*
 Connects anew when the connection has ended, in at most so many attempts one after the other, and within so long
 (SW_DEFAULT_TIMEOUT: a minute). Calls that may have been executed then still fail. Without this the connection's end is
 the client's.
 */
sw_status sw_client_options_reconnect(sw_client_options *options,
                                      uint32_t attempts,
                                      uint32_t within_ms);

/*
 Has this handler answer what the server asks, of one type. It runs on threads that wait for something on the client's
 connection, in their call, and on those of sw_client_spawn_reader; several may run at a time. user is handed to it, and
 has to be good as long as the client and what came of it. A later handler of the same type replaces it.

 A handler may call its own client. While that waits, the thread may be given further requests of the server, up to 16
 handlers deep: so it holds no lock meanwhile that a handler takes.
 */
sw_status sw_client_options_on(sw_client_options *options,
                               uint16_t msg_type,
                               sw_handler handler,
                               void *user);

/*
 Options of a listener: the defaults. Never NULL.
 */
sw_listen_options *sw_listen_options_new(void);

/*
 Gives it back; what listens goes on.
 */
void sw_listen_options_free(sw_listen_options *options);

/*
 Who may connect: SW_ACCESS_SAME_USER (unless set), SW_ACCESS_ANYONE or SW_ACCESS_SAME_PROGRAM.
 */
sw_status sw_listen_options_access(sw_listen_options *options, uint32_t who);

/*
 Serves only clients that prove that they know the key in this file, and proves the same to them. It is made, for this
 user alone, if it is not there. It is read, or made, by sw_server_listen.
 */
sw_status sw_listen_options_token_file(sw_listen_options *options,
                                       const char *file);

/*
 Lets tcp: bind addresses that other machines can reach. Nothing on the wire is encrypted.
 */
sw_status sw_listen_options_beyond_loopback(sw_listen_options *options);

/*
 Lets clients that say so as well (sw_client_options_attachments) send attachments with their requests, and handlers with
 their replies: over Unix sockets and named pipes; elsewhere sw_server_listen is SW_INVALID. Only for clients that are
 trusted like the program's own code: they fill its table of descriptors, may make closing what they send take long, and
 on Windows have to be of the same integrity level.
 */
sw_status sw_listen_options_attachments(sw_listen_options *options);

/*
 Most bytes of payload of classic peers, either way. 1,024 unless set.
 */
sw_status sw_listen_options_classic_max(sw_listen_options *options, uint32_t bytes);

/*
 Requests and replies of classic peers are exactly 12 + bytes long, for programs that send and read their whole struct.
 */
sw_status sw_listen_options_classic_fixed(sw_listen_options *options,
                                          uint32_t bytes);

/*
 Refuses classic peers.
 */
sw_status sw_listen_options_without_classic(sw_listen_options *options);

/*
 Options of a server: the defaults. Never NULL.
 */
sw_server_options *sw_server_options_new(void);

/*
 Gives it back; servers that were made with it go on.
 */
void sw_server_options_free(sw_server_options *options);

/*
 How many types the table has: 0 to types - 1. 256 unless set, at most 65,536.
 */
sw_status sw_server_options_types(sw_server_options *options, size_t types);

/*
 What the application says of itself, of at most 128 bytes each, for clients to read.
 */
sw_status sw_server_options_app(sw_server_options *options, const char *name, const char *version);

/*
 Lets processes of the same user stop the server with `sidewire stop`.
 */
sw_status sw_server_options_may_be_stopped(sw_server_options *options);

/*
 Most bytes of payload in one request. 16 MiB unless set.
 */
sw_status sw_server_options_max_payload(sw_server_options *options, uint32_t bytes);

/*
 Calls of one client that may be unanswered at a time, and their payload together. 4,096 and 64 MiB unless set.
 */
sw_status sw_server_options_max_in_flight(sw_server_options *options,
                                          uint32_t calls,
                                          uint32_t bytes);

/*
 Connections that each listener holds at a time; further ones are refused, SW_RC_BUSY. 16,384 unless set.
 */
sw_status sw_server_options_max_connections(sw_server_options *options, size_t connections);

/*
 How long a connection may be silent both ways before it is closed. SW_NO_TIMEOUT, and unless set: for ever.
 */
sw_status sw_server_options_idle_timeout(sw_server_options *options, uint32_t timeout_ms);

/*
 Asks the client. This does not wait: then is called once on the server's thread, like a handler, when the client has
 answered or it is known that it won't; never if this fails. What a server that has ended did not come to is told
 SW_STOPPED, at the latest when it is freed, and on the thread that frees it: there then does not use that server.
 user is handed to it. timeout_ms: SW_DEFAULT_TIMEOUT is 30 s.

 Failures: SW_FULL, SW_STOPPED. To then also SW_TIMED_OUT, SW_PEER_GONE, SW_INVALID for more bytes than the client takes.
 */
sw_status sw_peer_call(const sw_peer *peer,
                       uint16_t msg_type,
                       const void *data,
                       size_t len,
                       uint32_t timeout_ms,
                       sw_answer_handler then,
                       void *user);

/*
 Tells the client something that wants no answer. It is dropped if the client has gone, or does not read.

 Failures: SW_FULL, SW_STOPPED.
 */
sw_status sw_peer_notify(const sw_peer *peer, uint16_t msg_type, const void *data, size_t len);

/*
 Gives it back; the connection stays.
 */
void sw_peer_free(sw_peer *peer);

/*
 The type that picked the handler; 0 of NULL.
 */
uint16_t sw_request_type(const sw_request *request);

/*
 What was sent: sw_request_len() bytes, without a NUL behind them. Never NULL; good until the handler returns.
 */
const char *sw_request_data(const sw_request *request);

/*
 How many bytes were sent.
 */
size_t sw_request_len(const sw_request *request);

/*
 Whose request it is: a handle by which the server asks that client something, for any thread, freed with sw_peer_free.

 Failures: SW_UNSUPPORTED in a client's handler, and for datagrams.
 */
sw_status sw_request_peer(const sw_request *request,
                          sw_peer **peer);

/*
 Publishes an event to all who have subscribed to this topic, behind this reply.

 Failures: SW_FULL if there is no memory for it; SW_UNSUPPORTED in a client's handler.
 */
sw_status sw_request_publish(const sw_request *request, uint16_t topic, const void *data, size_t len);

/*
 Appends to the reply. What is more than the caller takes is answered SW_RC_TOO_LARGE in its place.
 */
sw_status sw_reply_write(sw_reply *reply, const void *data, size_t len);

/*
 Sets the result code that the reply is sent with, together with its payload. Above 0 are the application's own.
 */
sw_status sw_reply_rc(sw_reply *reply,
                      int32_t rc);

/*
 Answers that it could not be done: with this code (0 becomes SW_RC_HANDLER_FAILED) and a text for people, which may be
 NULL. What was written is dropped. That is the answer also behind sw_reply_defer: whoever has the responder then answers
 nobody, and hears it from sw_responder_is_cancelled.
 */
sw_status sw_reply_fail(sw_reply *reply,
                        int32_t rc,
                        const char *why);

/*
 Leaves the answer for later: the responder gives it, from any thread. What was written is dropped. Others are served
 meanwhile. It is freed with sw_responder_free, also behind the answer.

 Failures: SW_INVALID if that was done before; SW_FULL if there is no room for one more that is answered later.
 */
sw_status sw_reply_defer(sw_reply *reply,
                         sw_responder **responder);

/*
 The same for a reply in parts: sw_responder_send sends them.

 Failures: SW_INVALID and SW_FULL as there; SW_UNSUPPORTED where there are no parts: in a client's handler, in the classic layout,
 over datagrams.
 */
sw_status sw_reply_stream(sw_reply *reply,
                          sw_responder **responder);

/*
 Answers with a result code and a payload. That nobody waits for it any more is no failure. What is more than the caller
 takes is answered SW_RC_TOO_LARGE.

 Failures: SW_INVALID if it has answered before.
 */
sw_status sw_responder_finish(const sw_responder *responder,
                              int32_t rc,
                              const void *data,
                              size_t len);

/*
 Answers that it could not be done, as sw_reply_fail.

 Failures: SW_INVALID if it has answered before.
 */
sw_status sw_responder_fail(const sw_responder *responder, int32_t rc, const char *why);

/*
 Sends one part of a reply in parts (sw_reply_stream). If as much as may wait does, this waits until the caller has taken
 some; on the server's own thread it says SW_FULL in place of that.

 Failures: SW_FULL; SW_UNWANTED once nobody waits for the reply any more; SW_INVALID for more bytes than the caller takes,
 behind the answer, and if the reply is not in parts.
 */
sw_status sw_responder_send(const sw_responder *responder,
                            const void *data,
                            size_t len);

/*
 1 if nobody waits for the answer any more: the caller has cancelled or gone, its time is over, the server ends, or the
 handler has failed (sw_reply_fail).
 Otherwise, and behind the answer, 0.
 */
int32_t sw_responder_is_cancelled(const sw_responder *responder);

/*
 Waits until nobody waits for the answer any more, for at most timeout_ms: SW_OK. SW_NOT_YET: somebody does.

 Failures: SW_UNSUPPORTED in a client, which can only ask.
 */
sw_status sw_responder_wait_cancelled(const sw_responder *responder, uint32_t timeout_ms);

/*
 Gives it back. A request that was not answered is answered SW_RC_HANDLER_FAILED. A thread that is in a call with it ends
 that as it would have; the answer is given behind a sw_responder_send. None may begin another one.
 */
void sw_responder_free(sw_responder *responder);

/*
 The result code: SW_RC_OK is fine. SW_RC_NONE of NULL.
 */
int32_t sw_response_rc(const sw_response *response);

/*
 What came with it: sw_response_len() bytes, without a NUL behind them. Never NULL.
 */
const char *sw_response_data(const sw_response *response);

/*
 How many bytes came with it.
 */
size_t sw_response_len(const sw_response *response);

/*
 1 if these bytes are no data but a text that explains the result code; otherwise 0.
 */
int32_t sw_response_is_text(const sw_response *response);

/*
 Gives it back.
 */
void sw_response_free(sw_response *response);

/*
 A server without an endpoint and a handler. options may be NULL.

 Failures: SW_INVALID if options contradict each other; SW_SYSTEM.
 */
sw_status sw_server_new(const sw_server_options *options, sw_server **server);

/*
 Opens an endpoint, as "local:com.example.app" or "tcp:127.0.0.1:0" (with SW_ACCESS_ANYONE or a token). options may be
 NULL: then it is for processes of the same user. Clients that connect are served when the server runs.

 Failures: SW_IN_USE, SW_REFUSED, SW_INVALID, SW_UNSUPPORTED, SW_SYSTEM.
 */
sw_status sw_server_listen(const sw_server *server,
                           const char *endpoint,
                           const sw_listen_options *options);

/*
 The endpoint that was opened as the first (0), second (1) and so on, with the address really bound. NULL if there are not
 so many. For any thread; good until the server is freed.
 */
const char *sw_server_endpoint(const sw_server *server,
                               size_t index);

/*
 Has this handler answer requests of one type, on the thread that runs the server; while it runs, all others wait. user is
 handed to it, and has to be good until the server has ended and is freed. A later handler replaces it.

 Failures: SW_INVALID for a type beyond the table (sw_server_options_types), and while the server runs.
 */
sw_status sw_server_on(const sw_server *server,
                       uint16_t msg_type,
                       sw_handler handler,
                       void *user);

/*
 Lets clients subscribe to this topic. when_slow: SW_SLOW_DROP_NEWEST, SW_SLOW_KEEP_LATEST or SW_SLOW_DISCONNECT.

 Failures: as sw_server_on.
 */
sw_status sw_server_topic(const sw_server *server,
                          uint16_t topic,
                          uint32_t when_slow);

/*
 Has Ctrl-C, SIGTERM, SIGHUP and the end of its console stop the server in order, but those that were ignored when the
 process started. A second one ends the process at once.

 Failures: SW_SYSTEM, SW_IN_USE if other code of this process has a handler for one of these.
 */
sw_status sw_server_stop_on_signals(const sw_server *server);

/*
 Has the server end when no client was connected for so long. It has no usual time.

 Failures: SW_INVALID for SW_NO_TIMEOUT and SW_DEFAULT_TIMEOUT; SW_SYSTEM.
 */
sw_status sw_server_exit_when_idle(const sw_server *server, uint32_t after_ms);

/*
 Serves on this thread until the server is stopped.

 Failures: SW_SYSTEM if the system's poll fails; SW_INVALID if it runs already.
 */
sw_status sw_server_run(const sw_server *server);

/*
 Waits for something to happen, for at most timeout_ms (0: never waits; SW_NO_TIMEOUT: as long as it takes), and handles
 it, for programs that have a loop of their own. SW_OK: go on. SW_END: the server was stopped.

 Failures: as sw_server_run.
 */
sw_status sw_server_turn(const sw_server *server,
                         uint32_t timeout_ms);

/*
 What a loop of the program's own (poll, epoll, GLib, libuv) watches in place of all that the server waits for: readable when
 there is something for sw_server_turn to handle, also what other threads ask of it. It belongs to the server: nobody reads,
 writes or closes it, and it is good until the server is freed; take it out of the loop before that. On failure
 SW_NO_DESCRIPTOR is put there.

 The loop waits until it is readable, for at most sw_server_next_timeout, and then takes a sw_server_turn with 0 ms.

 Failures: SW_UNSUPPORTED on Windows, where nothing tells of a completion port: a thread of the program's own runs the server
 there. SW_INVALID while it runs, unless it was asked for before; SW_SYSTEM.
 */
sw_status sw_server_fd(const sw_server *server,
                       sw_descriptor *descriptor);

/*
 After how many milliseconds the next sw_server_turn is due although the descriptor tells nothing: 0 if the last one has left
 something to do, SW_NO_TIMEOUT if none is due, which cast to int is what poll calls so. Ask before each wait.

 Failures: SW_INVALID while it runs, and in its handlers.
 */
sw_status sw_server_next_timeout(const sw_server *server,
                                 uint32_t *timeout_ms);

/*
 Stops the server, from any thread and in handlers: it lets nobody in any more, finishes what it has accepted, says
 goodbye, and ends within grace_ms (SW_DEFAULT_TIMEOUT: half a second). Its sw_server_run then returns; this does not
 wait for that. Not for signal handlers: sw_server_stop_on_signals.
 */
sw_status sw_server_stop(const sw_server *server,
                         uint32_t grace_ms);

/*
 Tells something to all who have subscribed to this topic, from any thread; in a handler rather sw_request_publish, which
 comes behind the reply. It does not wait. That nobody has subscribed is no failure.

 Failures: SW_FULL: later it may work. SW_STOPPED.
 */
sw_status sw_server_publish(const sw_server *server,
                            uint16_t topic,
                            const void *data,
                            size_t len);

/*
 Gives it back. One that runs is told to stop, and goes on until its sw_server_run returns. No other thread may begin to
 use it meanwhile. Its sockets' files are gone behind that.
 */
void sw_server_free(sw_server *server);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SIDEWIRE_H */
