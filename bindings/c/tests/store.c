/* The store of docs/protocol/store.md over the C library, but for its statistics: store ENDPOINT [ENDPOINT...]. Prints a
 * line `listening ENDPOINT` for each when it is ready, and ends on SIGTERM. tcp: lets in anyone. */
#include <sidewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
typedef DWORD result_of_thread;
#define THREAD WINAPI
static int begin(result_of_thread (THREAD *run)(void *), void *with) {
    HANDLE thread = CreateThread(NULL, 0, run, with, 0, NULL);
    return thread && CloseHandle(thread);
}
#else
#include <pthread.h>
typedef void *result_of_thread;
#define THREAD
static int begin(result_of_thread (*run)(void *), void *with) {
    pthread_t thread;
    return !pthread_create(&thread, NULL, run, with) && !pthread_detach(thread);
}
#endif

enum { GET = 1, SET, SET_AND_GET, ECHO, SLEEP = 6, COUNT, CALL_ME_BACK, TYPES = 16, CHANGED = 1 };

/* The state: one thread has it, that of the server. */
struct value { char *data; size_t len; };

/* Work for a thread of its own. */
struct work { sw_responder *responder; unsigned long number; };

static int set_to(struct value *value, const char *data, size_t len) {
    char *copy = malloc(len + 1);
    if (!copy) return 0;
    memcpy(copy, data, len);
    free(value->data);
    value->data = copy;
    value->len = len;
    return 1;
}

static void get(void *user, const sw_request *request, sw_reply *reply) {
    const struct value *value = user;
    (void)request;
    sw_reply_write(reply, value->data, value->len);
}

static void set(void *user, const sw_request *request, sw_reply *reply) {
    const char *data = sw_request_data(request);
    if (!set_to(user, data, sw_request_len(request))) sw_reply_fail(reply, SW_RC_BUSY, "no memory");
    else sw_request_publish(request, CHANGED, data, sw_request_len(request));
}

static void set_and_get(void *user, const sw_request *request, sw_reply *reply) {
    get(user, request, reply);
    set(user, request, reply);
}

static void echo(void *user, const sw_request *request, sw_reply *reply) {
    (void)user;
    sw_reply_write(reply, sw_request_data(request), sw_request_len(request));
}

/* The payload as a decimal number of at most `most`; if it is none, the answer says so. */
static int number(const sw_request *request, sw_reply *reply, unsigned long most, unsigned long *number) {
    const char *data = sw_request_data(request);
    size_t len = sw_request_len(request), i = 0;
    for (*number = 0; i < len && data[i] >= '0' && data[i] <= '9' && *number <= most; i++)
        *number = *number * 10 + (unsigned long)(data[i] - '0');
    if (len && i == len && *number <= most) return 1;
    sw_reply_fail(reply, SW_RC_MALFORMED, "the payload is no such number");
    return 0;
}

static result_of_thread THREAD sleep_for(void *with) {
    struct work *work = with;
    char text[24];
    int len = snprintf(text, sizeof text, "%lu", work->number);
    if (sw_responder_wait_cancelled(work->responder, (uint32_t)work->number) == SW_NOT_YET)
        sw_responder_finish(work->responder, SW_RC_OK, text, (size_t)len);
    sw_responder_free(work->responder);
    free(work);
    return 0;
}

static result_of_thread THREAD count_to(void *with) {
    struct work *work = with;
    char text[24];
    for (unsigned long i = 1; i <= work->number; i++) {
        int len = snprintf(text, sizeof text, "%lu", i);
        if (sw_responder_send(work->responder, text, (size_t)len)) break; /* nobody waits for the rest */
    }
    sw_responder_finish(work->responder, SW_RC_OK, NULL, 0);
    sw_responder_free(work->responder);
    free(work);
    return 0;
}

/* Has a thread answer, of what the handler was given. */
static void later(sw_status status, struct work work, result_of_thread (THREAD *run)(void *), sw_reply *reply) {
    struct work *own = status ? NULL : malloc(sizeof *own);
    if (own) *own = work;
    if (own && begin(run, own)) return;
    sw_reply_fail(reply, SW_RC_BUSY, status ? sw_error_text() : "no thread to do it");
    sw_responder_free(work.responder);
    free(own);
}

static void nap(void *user, const sw_request *request, sw_reply *reply) {
    struct work work = { NULL, 0 };
    (void)user;
    if (!number(request, reply, 1000000000, &work.number)) return;
    sw_status status = sw_reply_defer(reply, &work.responder);
    later(status, work, sleep_for, reply);
}

static void count(void *user, const sw_request *request, sw_reply *reply) {
    struct work work = { NULL, 0 };
    (void)user;
    if (!number(request, reply, 1000000000, &work.number)) return;
    sw_status status = sw_reply_stream(reply, &work.responder);
    later(status, work, count_to, reply);
}

static void pass_on(void *user, sw_status status, const sw_response *answer) {
    sw_responder *responder = user;
    size_t len = sw_response_len(answer);
    if (status) {
        sw_responder_fail(responder, status == SW_TIMED_OUT ? SW_RC_TIMED_OUT : SW_RC_HANDLER_FAILED, sw_error_text());
    } else if (sw_response_is_text(answer)) {
        char *text = calloc(len + 1, 1);
        if (text) memcpy(text, sw_response_data(answer), len);
        sw_responder_fail(responder, sw_response_rc(answer), text);
        free(text);
    } else {
        sw_responder_finish(responder, sw_response_rc(answer), sw_response_data(answer), len);
    }
    sw_responder_free(responder);
}

static void call_me_back(void *user, const sw_request *request, sw_reply *reply) {
    unsigned long type = 0;
    sw_peer *peer = NULL;
    sw_responder *responder = NULL;
    (void)user;
    if (!number(request, reply, 65535, &type)) return;
    if (sw_request_peer(request, &peer) || sw_reply_defer(reply, &responder)
        || sw_peer_call(peer, (uint16_t)type, "ping", 4, 10000, pass_on, responder)) {
        sw_reply_fail(reply, SW_RC_FEATURE_MISSING, sw_error_text());
        sw_responder_free(responder);
    }
    sw_peer_free(peer);
}

static int set_up(sw_server *server, struct value *value, char **endpoints) {
    static const struct { uint16_t type; sw_handler handler; } TABLE[] = {
        { GET, get }, { SET, set }, { SET_AND_GET, set_and_get }, { ECHO, echo },
        { SLEEP, nap }, { COUNT, count }, { CALL_ME_BACK, call_me_back },
    };
    sw_status status = sw_server_stop_on_signals(server);
    for (size_t i = 0; !status && i < sizeof TABLE / sizeof *TABLE; i++)
        status = sw_server_on(server, TABLE[i].type, TABLE[i].handler, value);
    if (!status) status = sw_server_topic(server, CHANGED, SW_SLOW_KEEP_LATEST);
    for (; !status && *endpoints; endpoints++) {
        sw_listen_options *options = sw_listen_options_new();
        if (!strncmp(*endpoints, "tcp:", 4)) status = sw_listen_options_access(options, SW_ACCESS_ANYONE);
        if (!status) status = sw_server_listen(server, *endpoints, options);
        sw_listen_options_free(options);
    }
    return !status;
}

int main(int argc, char **argv) {
    static const char GREETING[] = "hello, this is server!";
    struct value value = { NULL, 0 };
    sw_server *server = NULL;
    sw_server_options *options = sw_server_options_new();
    sw_server_options_types(options, TYPES);
    int fine = argc > 1 && set_to(&value, GREETING, sizeof GREETING - 1) && !sw_server_new(options, &server)
            && set_up(server, &value, argv + 1);
    for (size_t i = 0; fine && sw_server_endpoint(server, i); i++) printf("listening %s\n", sw_server_endpoint(server, i));
    fflush(stdout);
    if (fine) fine = !sw_server_run(server);
    if (!fine) fprintf(stderr, "%s\n", argc > 1 ? sw_error_text() : "usage: store ENDPOINT...");
    sw_server_free(server);
    sw_server_options_free(options);
    free(value.data);
    return !fine;
}
