/* What a program may do wrong with the C library, and what it hears then: misuse ENDPOINT. Prints nothing if all is as the
 * header says. */
#include <pthread.h>
#include <sidewire.h>
#include <stdio.h>
#include <string.h>

enum { ECHO = 1, LATER, PARTS, ASK, OWN, FREE_IT, TYPES = 8, TOPIC = 1, PATIENCE_MS = 60000 };

static int wrong;

#define CHECK(is_so) ((is_so) ? (void)0 : (void)(wrong = 1, printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #is_so, sw_error_text())))
#define INVALID(status) CHECK((status) == SW_INVALID && *sw_error_text())

static sw_server *server;
static sw_client *client, *doomed;
static sw_pending *waited_for, *freed;
static const char *endpoint;

/* The server's handlers. */

static void echo(void *user, const sw_request *request, sw_reply *reply) {
    sw_response *response;
    sw_client *own = NULL;
    CHECK(user == &wrong && sw_request_type(request) == ECHO);
    CHECK(sw_reply_write(reply, sw_request_data(request), sw_request_len(request)) == SW_OK);
    INVALID(sw_reply_write(reply, NULL, 1));
    INVALID(sw_reply_write(NULL, "x", 1));
    /* A server is nobody else's while it runs, and does not wait for itself. */
    INVALID(sw_server_on(server, ECHO, echo, NULL));
    INVALID(sw_server_run(server));
    INVALID(sw_server_turn(server, 0));
    INVALID(sw_server_listen(server, "unix:/nowhere/at/all", NULL));
    INVALID(sw_client_connect(endpoint, NULL, &own));
    INVALID(sw_call(client, ECHO, "x", 1, SW_DEFAULT_TIMEOUT, &response));
    CHECK(!own && !response);
}

static void later(void *user, const sw_request *request, sw_reply *reply) {
    sw_responder *responder = NULL, *second;
    (void)user;
    CHECK(sw_reply_defer(reply, &responder) == SW_OK);
    INVALID(sw_reply_defer(reply, &second));
    CHECK(!second);
    if (sw_request_len(request)) {
        INVALID(sw_responder_send(responder, "not in parts", 12));
        INVALID(sw_responder_finish(responder, 0, NULL, 5));
        INVALID(sw_responder_fail(responder, 5, "\xff"));
        CHECK(sw_responder_wait_cancelled(responder, 0) == SW_NOT_YET);
        CHECK(sw_responder_finish(responder, 3, "three", 5) == SW_OK);
        INVALID(sw_responder_finish(responder, 4, "four", 4));
        INVALID(sw_responder_fail(responder, 5, "five"));
        CHECK(!sw_responder_is_cancelled(responder));
    }
    sw_responder_free(responder); /* without an answer that is "handler failed" */
}

static void in_parts(void *user, const sw_request *request, sw_reply *reply) {
    sw_responder *responder = NULL;
    (void)user, (void)request;
    CHECK(sw_reply_stream(reply, &responder) == SW_OK);
    CHECK(sw_responder_send(responder, "one", 3) == SW_OK);
    CHECK(sw_responder_fail(responder, 0, "no more") == SW_OK); /* 0 would be fine, so it is "handler failed" */
    INVALID(sw_responder_send(responder, "two", 3));
    sw_responder_free(responder);
}

static void answered(void *user, sw_status status, const sw_response *answer) {
    CHECK(status == SW_OK && sw_response_rc(answer) == 0);
    sw_responder_finish(user, sw_response_rc(answer), sw_response_data(answer), sw_response_len(answer));
    sw_responder_free(user);
}

static void gone(void *user, sw_status status, const sw_response *answer) {
    CHECK(status != SW_OK && !answer && *sw_error_text());
    sw_responder_free(user);
}

/* Asks the client before it answers. */
static void ask(void *user, const sw_request *request, sw_reply *reply) {
    sw_peer *peer = NULL;
    sw_responder *responder = NULL;
    (void)user;
    CHECK(sw_request_peer(request, &peer) == SW_OK && sw_reply_defer(reply, &responder) == SW_OK);
    INVALID(sw_peer_call(peer, OWN, "", 0, PATIENCE_MS, NULL, NULL));
    INVALID(sw_peer_notify(peer, OWN, NULL, 1));
    uint16_t type = sw_request_len(request) ? FREE_IT : OWN;
    CHECK(sw_peer_call(peer, type, "", 0, PATIENCE_MS, type == OWN ? answered : gone, responder) == SW_OK);
    sw_peer_free(peer);
}

/* The client's handlers. */

static void own(void *user, const sw_request *request, sw_reply *reply) {
    sw_response *response;
    sw_responder *responder = NULL;
    sw_peer *peer;
    (void)user;
    /* It runs in the wait for this very call. */
    INVALID(sw_wait(waited_for, 0, &response));
    INVALID(sw_cancel(waited_for));
    CHECK(!response);
    CHECK(sw_request_peer(request, &peer) == SW_UNSUPPORTED && !peer);
    CHECK(sw_request_publish(request, TOPIC, "x", 1) == SW_UNSUPPORTED);
    CHECK(sw_reply_stream(reply, &responder) == SW_UNSUPPORTED && !responder);
    CHECK(sw_reply_defer(reply, &responder) == SW_OK);
    CHECK(!sw_responder_is_cancelled(responder));
    CHECK(sw_responder_wait_cancelled(responder, 0) == SW_UNSUPPORTED);
    CHECK(sw_responder_finish(responder, 0, "mine", 4) == SW_OK);
    sw_responder_free(responder);
}

static void free_it(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)request, (void)reply;
    sw_client_free(doomed); /* further up it is in a call, or in a wait */
    sw_pending_free(freed);
    doomed = NULL;
    freed = NULL;
}

static void no_objects(void) {
    sw_client *no_client = (sw_client *)&wrong;
    sw_server *no_server = (sw_server *)&wrong;
    INVALID(sw_client_connect(NULL, NULL, &no_client));
    CHECK(!no_client);
    INVALID(sw_client_connect("local:x", NULL, NULL));
    INVALID(sw_call(NULL, 1, "", 0, 0, NULL));
    INVALID(sw_notify(NULL, 1, "", 0));
    INVALID(sw_start(NULL, 1, "", 0, 0, NULL));
    INVALID(sw_stream(NULL, 1, "", 0, 0, NULL));
    INVALID(sw_subscribe(NULL, 1, NULL));
    INVALID(sw_client_flush(NULL));
    INVALID(sw_client_run(NULL));
    INVALID(sw_client_spawn_reader(NULL));
    INVALID(sw_client_close(NULL));
    INVALID(sw_wait(NULL, 0, NULL));
    INVALID(sw_cancel(NULL));
    INVALID(sw_parts_next(NULL, NULL));
    INVALID(sw_parts_cancel(NULL));
    INVALID(sw_events_add(NULL, 1));
    INVALID(sw_events_next(NULL, 0, NULL));
    INVALID(sw_request_publish(NULL, 1, "", 0));
    INVALID(sw_reply_rc(NULL, 1));
    INVALID(sw_reply_fail(NULL, 1, NULL));
    INVALID(sw_server_new(NULL, NULL));
    INVALID(sw_server_listen(NULL, "local:x", NULL));
    INVALID(sw_server_stop(NULL, 0));
    INVALID(sw_server_publish(NULL, 1, "", 0));
    CHECK(sw_response_rc(NULL) == SW_RC_NONE && sw_response_len(NULL) == 0 && !*sw_response_data(NULL));
    CHECK(sw_event_len(NULL) == 0 && !*sw_event_data(NULL) && sw_request_len(NULL) == 0 && !*sw_request_data(NULL));
    CHECK(!sw_server_endpoint(NULL, 0) && !sw_responder_is_cancelled(NULL));
    sw_client_free(NULL), sw_pending_free(NULL), sw_parts_free(NULL), sw_events_free(NULL), sw_event_free(NULL);
    sw_response_free(NULL), sw_responder_free(NULL), sw_peer_free(NULL), sw_server_free(NULL);
    sw_client_options_free(NULL), sw_listen_options_free(NULL), sw_server_options_free(NULL);

    sw_server_options *options = sw_server_options_new();
    CHECK(sw_server_options_types(options, 65537) == SW_OK); /* looked at when they are used */
    INVALID(sw_server_new(options, &no_server));
    CHECK(!no_server);
    sw_server_options_free(options);
}

static void no_places(void) {
    sw_client *none = NULL;
    sw_client_options *options = sw_client_options_new();
    INVALID(sw_client_connect("unix:/tmp/\xff\xfe", NULL, &none));
    CHECK(strstr(sw_error_text(), "UTF-8"));
    INVALID(sw_client_connect("nowhere", NULL, &none));
    INVALID(sw_client_connect("tcp:127.0.0.1:9", NULL, &none)); /* nobody vouches for who is there */
    CHECK(sw_client_connect("unix:/nowhere/at/all", options, &none) == SW_NOT_LISTENING && !none);
    INVALID(sw_client_options_access(options, 9));
    INVALID(sw_client_options_access(NULL, 0));
    INVALID(sw_client_options_on(options, 1, NULL, NULL));
    INVALID(sw_client_options_token_file(options, NULL));
    INVALID(sw_client_options_app(options, "\xc3", "1"));
    sw_client_options_free(options);
}

static void calls(void) {
    sw_response *response = NULL;
    sw_pending *pending = NULL;
    sw_events *events = NULL;
    sw_event *event;
    static char large[1 << 17];
    CHECK(sw_call(client, ECHO, "some\0bytes", 10, PATIENCE_MS, &response) == SW_OK);
    CHECK(sw_response_len(response) == 10 && !memcmp(sw_response_data(response), "some\0bytes", 10));
    sw_response_free(response);
    CHECK(sw_call(client, TYPES, "", 0, PATIENCE_MS, &response) == SW_OK);
    CHECK(sw_response_rc(response) == SW_RC_UNKNOWN_TYPE && sw_response_is_text(response));
    sw_response_free(response);
    INVALID(sw_call(client, ECHO, NULL, 1, PATIENCE_MS, &response));
    INVALID(sw_call(client, ECHO, "x", (size_t)-1, PATIENCE_MS, &response));
    INVALID(sw_call(client, ECHO, large, sizeof large, PATIENCE_MS, &response)); /* more than the server takes */
    CHECK(!response && !sw_error_executed());

    CHECK(sw_start(client, LATER, "x", 1, PATIENCE_MS, &pending) == SW_OK);
    CHECK(sw_wait(pending, SW_NO_TIMEOUT, &response) == SW_OK && sw_response_rc(response) == 3);
    sw_response_free(response);
    INVALID(sw_wait(pending, SW_NO_TIMEOUT, &response));
    CHECK(sw_error_executed()); /* this has failed, and the call has not */
    sw_pending_free(pending);
    CHECK(sw_call(client, LATER, "", 0, PATIENCE_MS, &response) == SW_OK);
    CHECK(sw_response_rc(response) == SW_RC_HANDLER_FAILED);
    sw_response_free(response);

    CHECK(sw_subscribe(client, TOPIC + 1, &events) == SW_ANSWERED && sw_error_rc() == SW_RC_NO_HANDLER && !events);
    CHECK(sw_subscribe(client, TOPIC, &events) == SW_OK);
    CHECK(sw_events_add(events, TOPIC + 1) == SW_ANSWERED);
    CHECK(sw_events_next(events, 0, &event) == SW_NOT_YET && !event);
    CHECK(sw_server_publish(server, TOPIC, "news", 4) == SW_OK);
    CHECK(sw_events_next(events, PATIENCE_MS, &event) == SW_OK && sw_event_topic(event) == TOPIC);
    CHECK(sw_event_sequence(event) == 1 && !memcmp(sw_event_data(event), "news", 4));
    sw_event_free(event);
    sw_events_free(events);
}

static void parts(void) {
    sw_parts *parts = NULL;
    sw_response *part = NULL;
    CHECK(sw_stream(client, PARTS, "", 0, PATIENCE_MS, &parts) == SW_OK);
    CHECK(sw_parts_next(parts, &part) == SW_OK && sw_response_len(part) == 3);
    sw_response_free(part);
    CHECK(sw_parts_next(parts, &part) == SW_END && sw_response_rc(part) == SW_RC_HANDLER_FAILED);
    CHECK(sw_response_is_text(part) && sw_response_len(part) == 7);
    sw_response_free(part);
    INVALID(sw_parts_next(parts, &part));
    CHECK(!part && sw_error_executed());
    sw_parts_free(parts);
}

static void both_ways(sw_client_options *options) {
    sw_response *response = NULL;
    CHECK(sw_start(client, ASK, "", 0, PATIENCE_MS, &waited_for) == SW_OK);
    CHECK(sw_wait(waited_for, SW_NO_TIMEOUT, &response) == SW_OK && sw_response_len(response) == 4);
    sw_response_free(response);
    sw_pending_free(waited_for);
    CHECK(sw_client_connect(endpoint, options, &doomed) == SW_OK);
    CHECK(sw_call(doomed, ASK, "free", 4, PATIENCE_MS, &response) == SW_CLOSED && !response && !doomed);
    CHECK(sw_client_connect(endpoint, options, &doomed) == SW_OK);
    CHECK(sw_start(doomed, ASK, "free", 4, PATIENCE_MS, &freed) == SW_OK);
    CHECK(sw_wait(freed, SW_NO_TIMEOUT, &response) == SW_CLOSED && !response && !freed);
}

static void *serve(void *unused) {
    CHECK(sw_server_run(server) == SW_OK);
    return unused;
}

static void *thread_of_its_own(void *unused) {
    CHECK(!*sw_error_text()); /* failures are those of a thread */
    return unused;
}

static void set_up(void) {
    static const struct { uint16_t type; sw_handler handler; } TABLE[] = {
        { ECHO, echo }, { LATER, later }, { PARTS, in_parts }, { ASK, ask },
    };
    sw_server_options *options = sw_server_options_new();
    CHECK(sw_server_options_types(options, TYPES) == SW_OK && sw_server_options_max_payload(options, 1 << 16) == SW_OK);
    CHECK(sw_server_new(options, &server) == SW_OK);
    sw_server_options_free(options);
    for (size_t i = 0; i < sizeof TABLE / sizeof *TABLE; i++)
        CHECK(sw_server_on(server, TABLE[i].type, TABLE[i].handler, &wrong) == SW_OK);
    INVALID(sw_server_on(server, TYPES, echo, NULL));
    INVALID(sw_server_on(server, ECHO, NULL, NULL));
    INVALID(sw_server_exit_when_idle(server, SW_NO_TIMEOUT));
    INVALID(sw_server_exit_when_idle(server, SW_DEFAULT_TIMEOUT));
    INVALID(sw_server_topic(server, TYPES, SW_SLOW_KEEP_LATEST));
    INVALID(sw_server_topic(server, TOPIC, 9));
    CHECK(sw_server_topic(server, TOPIC, SW_SLOW_DROP_NEWEST) == SW_OK);
    INVALID(sw_server_listen(server, "tcp:127.0.0.1:0", NULL));
    INVALID(sw_server_listen(server, "unix:\xff", NULL));
    CHECK(!sw_server_endpoint(server, 0));
    CHECK(sw_server_listen(server, endpoint, NULL) == SW_OK && !sw_server_endpoint(server, 1));
    CHECK(sw_server_turn(server, 0) == SW_OK);
}

int main(int argc, char **argv) {
    pthread_t thread;
    endpoint = argc > 1 ? argv[1] : "";
    no_objects();
    no_places();
    CHECK(!pthread_create(&thread, NULL, thread_of_its_own, NULL) && !pthread_join(thread, NULL));
    set_up();
    CHECK(!pthread_create(&thread, NULL, serve, NULL));
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_client_options_on(options, OWN, own, NULL) == SW_OK);
    CHECK(sw_client_options_on(options, FREE_IT, free_it, NULL) == SW_OK);
    CHECK(sw_client_connect(endpoint, options, &client) == SW_OK);
    if (client) {
        calls();
        parts();
        both_ways(options);
        CHECK(sw_client_close(client) == SW_OK && sw_notify(client, ECHO, "", 0) == SW_CLOSED);
    }
    sw_client_options_free(options);
    sw_client_free(client);
    CHECK(sw_server_stop(server, SW_DEFAULT_TIMEOUT) == SW_OK);
    CHECK(!pthread_join(thread, NULL));
    CHECK(sw_server_turn(server, 0) == SW_END && sw_server_publish(server, TOPIC, "", 0) == SW_STOPPED);
    sw_server_free(server);
    return wrong;
}
