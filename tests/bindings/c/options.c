/* What each option changes: options ENDPOINT KEY OTHER_KEY, the path of a Unix socket, and of two files that are not there.
 * Prints nothing if all is as the header says. */
#include <pthread.h>
#include <sidewire.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ECHO = 1, HOLD, PUBLISH, TWO_THOUSAND, TOPIC = 1, EVENTS = 100, PATIENCE_MS = 60000 };

static int wrong;

#define CHECK(is_so) ((is_so) ? (void)0 : (void)(wrong = 1, printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #is_so, sw_error_text())))

static const char *path, *key, *other_key;
static char endpoint[200];
static char text[2000];

/* The server's handlers. */

static void echo(void *user, const sw_request *request, sw_reply *reply) {
    (void)user;
    sw_reply_write(reply, sw_request_data(request), sw_request_len(request));
}

static void hold(void *user, const sw_request *request, sw_reply *reply) {
    sw_responder **kept = user;
    (void)request;
    sw_responder_free(*kept);
    CHECK(sw_reply_defer(reply, kept) == SW_OK);
}

/* As many events as the payload has bytes. */
static void publish(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)reply;
    for (size_t i = 0; i < sw_request_len(request); i++) CHECK(sw_request_publish(request, TOPIC, text, 100) == SW_OK);
}

static void two_thousand(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)request;
    CHECK(sw_reply_write(reply, text, sizeof text) == SW_OK);
}

/* A server that runs on a thread of its own. */
struct running { sw_server *server; pthread_t thread; sw_responder *kept; };

static void *run(void *server) {
    CHECK(sw_server_run(server) == SW_OK);
    return NULL;
}

static void start(struct running *running, const sw_server_options *options, const char *where, const sw_listen_options *listen) {
    sw_server *server = NULL;
    running->kept = NULL;
    CHECK(sw_server_new(options, &server) == SW_OK && sw_server_on(server, ECHO, echo, NULL) == SW_OK);
    CHECK(sw_server_on(server, HOLD, hold, &running->kept) == SW_OK);
    CHECK(sw_server_on(server, PUBLISH, publish, NULL) == SW_OK);
    CHECK(sw_server_on(server, TWO_THOUSAND, two_thousand, NULL) == SW_OK);
    CHECK(sw_server_topic(server, TOPIC, SW_SLOW_DROP_NEWEST) == SW_OK);
    CHECK(sw_server_listen(server, where, listen) == SW_OK);
    running->server = server;
    CHECK(!pthread_create(&running->thread, NULL, run, server));
}

static void stop(struct running *running) {
    CHECK(sw_server_stop(running->server, 0) == SW_OK && !pthread_join(running->thread, NULL));
    sw_server_free(running->server);
    sw_responder_free(running->kept);
}

static sw_client *connect_with(sw_client_options *options) {
    sw_client *client = NULL;
    CHECK(sw_client_connect(endpoint, options, &client) == SW_OK);
    sw_client_options_free(options);
    return client;
}

/* What a call comes to: a failure, or SW_OK and *rc. */
static sw_status ask(const sw_client *client, uint16_t type, size_t len, int32_t *rc) {
    sw_response *response = NULL;
    sw_status status = sw_call(client, type, text, len, SW_DEFAULT_TIMEOUT, &response);
    *rc = sw_response_rc(response);
    sw_response_free(response);
    return status;
}

static int is_served(const sw_client *client) {
    int32_t rc;
    return ask(client, ECHO, 5, &rc) == SW_OK && rc == SW_RC_OK;
}

static sw_status try_to_connect(const char *where, const sw_client_options *options) {
    sw_client *client = NULL;
    sw_status status = sw_client_connect(where, options, &client);
    CHECK(!client == !!status);
    sw_client_free(client);
    return status;
}

/* Of clients. */

static void times(void) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct running running;
    int32_t rc;
    int silent = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    CHECK(!bind(silent, (const struct sockaddr *)&address, sizeof address) && !listen(silent, 5));
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_client_options_timeout(options, 100) == SW_OK && try_to_connect(endpoint, options) == SW_TIMED_OUT);
    CHECK(sw_client_options_timeout(options, SW_DEFAULT_TIMEOUT) == SW_OK);
    CHECK(sw_client_options_call_timeout(options, 100) == SW_OK);
    close(silent);
    unlink(path);
    start(&running, NULL, endpoint, NULL);
    sw_client *client = connect_with(options);
    /* Both sides keep the time. */
    CHECK(ask(client, HOLD, 0, &rc) == SW_TIMED_OUT || rc == SW_RC_TIMED_OUT);
    sw_client_free(client);
    stop(&running);
}

/* Takes the events that are there; *dropped: those that were not, before the last. */
static int take(const sw_events *events, uint32_t timeout_ms, uint32_t *dropped) {
    sw_event *event;
    int count = 0;
    for (; sw_events_next(events, timeout_ms, &event) == SW_OK; count++, timeout_ms = 0) {
        *dropped = sw_event_dropped(event);
        sw_event_free(event);
    }
    return count;
}

/* How many of the events come. */
static int events_with(sw_client_options *options) {
    sw_events *events = NULL;
    int32_t rc;
    uint32_t dropped = 0;
    sw_client *client = connect_with(options);
    CHECK(sw_subscribe(client, TOPIC, &events) == SW_OK);
    CHECK(ask(client, PUBLISH, EVENTS, &rc) == SW_OK && is_served(client)); /* they lie between the replies */
    int count = take(events, 0, &dropped);
    CHECK(ask(client, PUBLISH, 1, &rc) == SW_OK && take(events, PATIENCE_MS, &dropped) == 1);
    CHECK(dropped == (uint32_t)(EVENTS - count));
    sw_events_free(events);
    sw_client_free(client);
    return count;
}

static void sizes(void) {
    struct running running;
    int32_t rc;
    start(&running, NULL, endpoint, NULL);
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_client_options_max_payload(options, (64 << 20) + 1) == SW_OK);
    CHECK(try_to_connect(endpoint, options) == SW_INVALID);
    CHECK(sw_client_options_max_payload(options, sizeof text - 1) == SW_OK);
    sw_client *client = connect_with(options);
    CHECK(ask(client, TWO_THOUSAND, 0, &rc) == SW_OK && rc == SW_RC_TOO_LARGE && is_served(client));
    sw_client_free(client);
    CHECK(events_with(NULL) == EVENTS);
    options = sw_client_options_new();
    CHECK(sw_client_options_event_queue(options, 2000) == SW_OK);
    int count = events_with(options);
    CHECK(count && count <= 20);
    stop(&running);
}

static void connecting_anew(void) {
    struct running running;
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_client_options_reconnect(options, 1000, SW_NO_TIMEOUT) == SW_OK);
    start(&running, NULL, endpoint, NULL);
    sw_client *lasting = connect_with(options), *usual = connect_with(NULL);
    CHECK(is_served(lasting) && is_served(usual));
    stop(&running);
    start(&running, NULL, endpoint, NULL);
    while (!is_served(lasting)) { } /* the call that finds the old one gone may fail */
    CHECK(!is_served(usual) && !is_served(usual));
    sw_client_free(lasting);
    sw_client_free(usual);
    stop(&running);
}

/* Of listeners. */

static void keys(void) {
    struct running running;
    sw_listen_options *listen = sw_listen_options_new();
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_listen_options_token_file(listen, key) == SW_OK);
    start(&running, NULL, "tcp:127.0.0.1:0", listen);
    const char *where = sw_server_endpoint(running.server, 0);
    CHECK(try_to_connect(where, options) == SW_INVALID); /* nobody vouches for who is there */
    CHECK(sw_client_options_token_file(options, key) == SW_OK && try_to_connect(where, options) == SW_OK);
    CHECK(sw_listen_options_token_file(listen, other_key) == SW_OK && sw_client_options_token_file(options, other_key) == SW_OK);
    sw_server *other = NULL;
    CHECK(sw_server_new(NULL, &other) == SW_OK && sw_server_listen(other, "tcp:127.0.0.1:0", listen) == SW_OK);
    CHECK(try_to_connect(where, options) == SW_PROTOCOL); /* it does not know this one */
    sw_server_free(other);
    stop(&running);
    sw_listen_options_free(listen);
    sw_client_options_free(options);
}

static void addresses(void) {
    sw_server *server = NULL;
    sw_listen_options *listen = sw_listen_options_new();
    CHECK(sw_server_new(NULL, &server) == SW_OK && sw_listen_options_access(listen, SW_ACCESS_ANYONE) == SW_OK);
    CHECK(sw_server_listen(server, "tcp:0.0.0.0:0", listen) == SW_REFUSED);
    CHECK(sw_listen_options_beyond_loopback(listen) == SW_OK && sw_server_listen(server, "tcp:0.0.0.0:0", listen) == SW_OK);
    sw_server_free(server);
    sw_listen_options_free(listen);
}

/* Sends so many bytes of a classic echo that says to have len, and returns its result code; *more: how much came behind
 * the header. */
static int32_t classic(const sw_listen_options *listen, int32_t len, size_t bytes, ssize_t *more) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct running running;
    struct { int32_t type, rc, len; char payload[52]; } message = { ECHO, 0, len, "" };
    start(&running, NULL, endpoint, listen);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    CHECK(!connect(fd, (const struct sockaddr *)&address, sizeof address));
    CHECK(send(fd, &message, 12 + bytes, MSG_NOSIGNAL) == (ssize_t)(12 + bytes) && !shutdown(fd, SHUT_WR));
    CHECK(recv(fd, &message, 12, MSG_WAITALL) == 12);
    *more = recv(fd, message.payload, sizeof message.payload, MSG_WAITALL);
    close(fd);
    stop(&running);
    return message.rc;
}

static void older_layout(void) {
    ssize_t more;
    sw_listen_options *listen = sw_listen_options_new();
    CHECK(classic(listen, 5, 5, &more) == SW_RC_OK && more == 5);
    CHECK(sw_listen_options_classic_max(listen, 4) == SW_OK);
    CHECK(classic(listen, 4, 4, &more) == SW_RC_OK && more == 4);
    CHECK(classic(listen, 5, 5, &more) == SW_RC_TOO_LARGE);
    CHECK(sw_listen_options_classic_fixed(listen, 8) == SW_OK && classic(listen, 3, 8, &more) == SW_RC_OK && more == 8);
    CHECK(sw_listen_options_without_classic(listen) == SW_OK && classic(listen, 5, 5, &more) < 0);
    sw_listen_options_free(listen);
}

/* Of servers. */

static void limits(void) {
    struct running running;
    sw_pending *first = NULL, *second = NULL;
    sw_server_options *options = sw_server_options_new();
    CHECK(sw_server_options_max_connections(options, 1) == SW_OK);
    CHECK(sw_server_options_max_in_flight(options, 1, 1 << 26) == SW_OK);
    start(&running, options, endpoint, NULL);
    sw_client *client = connect_with(NULL);
    CHECK(try_to_connect(endpoint, NULL) == SW_REFUSED);
    CHECK(sw_start(client, HOLD, "", 0, PATIENCE_MS, &first) == SW_OK && sw_client_flush(client) == SW_OK);
    /* It waits for its place until its time is up. */
    CHECK(sw_start(client, ECHO, "", 0, 100, &second) == SW_TIMED_OUT && !second && !sw_error_executed());
    sw_pending_free(first);
    sw_client_free(client);
    stop(&running);

    CHECK(sw_server_options_idle_timeout(options, 1000) == SW_OK);
    start(&running, options, endpoint, NULL);
    client = connect_with(NULL);
    sw_client_run(client); /* it ends */
    CHECK(!is_served(client));
    sw_client_free(client);
    stop(&running);
    sw_server_options_free(options);
}

static void names(void) {
    static char long_name[130];
    sw_server *server = NULL;
    sw_server_options *options = sw_server_options_new();
    memset(long_name, 'x', sizeof long_name - 1);
    CHECK(sw_server_options_app(options, "counter", "1.0") == SW_OK && sw_server_options_may_be_stopped(options) == SW_OK);
    CHECK(sw_server_new(options, &server) == SW_OK);
    sw_server_free(server);
    CHECK(sw_server_options_app(options, long_name, "1.0") == SW_OK && sw_server_new(options, &server) == SW_INVALID);
    sw_server_options_free(options);
    CHECK(strchr(sw_version(), '.'));
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    path = argv[1], key = argv[2], other_key = argv[3];
    snprintf(endpoint, sizeof endpoint, "unix:%s", path);
    memset(text, 'x', sizeof text);
    times();
    sizes();
    connecting_anew();
    keys();
    addresses();
    older_layout();
    limits();
    names();
    return wrong;
}
