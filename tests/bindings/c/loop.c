/* A loop of the program's own, with poll(2), and no thread but its own: loop serve ENDPOINT, until it is asked to stop; loop
 * call ENDPOINT, which prints nothing if all is as the header says. */
#include <poll.h>
#include <sidewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Types, and a topic. What the server asks its client. */
enum { ECHO = 1, ASK, STOP, NEWS = 1, OWN, CALLS = 64, PATIENCE_MS = 60000, LARGE = 4 << 20 };

static int wrong;

#define CHECK(is_so) ((is_so) ? (void)0 : (void)(wrong = 1, printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #is_so, sw_error_text())))

/* How many threads this process has, where /proc tells: one. */
static void check_alone(void) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    int count = 1;
    while (status && fgets(line, sizeof line, status)) sscanf(line, "Threads: %d", &count);
    if (status) fclose(status);
    CHECK(count == 1);
}

/* The server. */

static void echo(void *user, const sw_request *request, sw_reply *reply) {
    (void)user;
    CHECK(sw_reply_write(reply, sw_request_data(request), sw_request_len(request)) == SW_OK);
}

static void answered(void *user, sw_status status, const sw_response *answer) {
    CHECK(status == SW_OK && sw_response_rc(answer) == SW_RC_OK);
    CHECK(sw_server_publish(user, NEWS, sw_response_data(answer), sw_response_len(answer)) == SW_OK);
}

/* Asks the client, and publishes what that says. */
static void ask(void *user, const sw_request *request, sw_reply *reply) {
    sw_peer *peer = NULL;
    uint32_t timeout;
    sw_descriptor descriptor;
    (void)reply;
    CHECK(sw_request_peer(request, &peer) == SW_OK);
    CHECK(sw_peer_call(peer, OWN, sw_request_data(request), sw_request_len(request), PATIENCE_MS, answered, user) == SW_OK);
    sw_peer_free(peer);
    /* It runs. */
    CHECK(sw_server_next_timeout(user, &timeout) == SW_INVALID && timeout == SW_NO_TIMEOUT);
    CHECK(sw_server_fd(user, &descriptor) == SW_OK && descriptor >= 0);
}

static void stop(void *user, const sw_request *request, sw_reply *reply) {
    (void)request, (void)reply;
    CHECK(sw_server_stop(user, PATIENCE_MS) == SW_OK);
}

static int serve(const char *endpoint) {
    sw_server *server = NULL;
    sw_descriptor descriptor = 0;
    uint32_t timeout = 0;
    sw_status status = SW_OK;
    CHECK(sw_server_new(NULL, &server) == SW_OK && sw_server_topic(server, NEWS, SW_SLOW_DISCONNECT) == SW_OK);
    CHECK(sw_server_on(server, ECHO, echo, NULL) == SW_OK && sw_server_on(server, ASK, ask, server) == SW_OK);
    CHECK(sw_server_on(server, STOP, stop, server) == SW_OK && sw_server_listen(server, endpoint, NULL) == SW_OK);
    CHECK(sw_server_fd(server, &descriptor) == SW_OK && descriptor >= 0);
    printf("listening %s\n", sw_server_endpoint(server, 0));
    fflush(stdout);
    while (!wrong && status == SW_OK) {
        struct pollfd watched = { (int)descriptor, POLLIN, 0 };
        CHECK(sw_server_next_timeout(server, &timeout) == SW_OK);
        poll(&watched, 1, (int)timeout);
        status = sw_server_turn(server, 0);
    }
    CHECK(status == SW_END);
    check_alone();
    sw_server_free(server);
    return wrong;
}

/* The client. */

static void own(void *user, const sw_request *request, sw_reply *reply) {
    ++*(int *)user;
    CHECK(sw_reply_write(reply, sw_request_data(request), sw_request_len(request)) == SW_OK);
}

/* One round of the loop. */
static sw_status go_round(sw_client *client, sw_status last) {
    sw_descriptor descriptor = 0;
    uint32_t timeout = 0;
    CHECK(sw_client_fd(client, &descriptor) == SW_OK && descriptor >= 0);
    CHECK(sw_client_next_timeout(client, &timeout) == SW_OK);
    struct pollfd watched = { (int)descriptor, (short)(last == SW_NOT_YET ? POLLIN | POLLOUT : POLLIN), 0 };
    poll(&watched, 1, (int)timeout);
    return sw_client_turn(client);
}

/* Everything is begun, and then taken as it comes. */
static void talk(sw_client *client, int *asked) {
    static char large[LARGE];
    sw_pending *calls[CALLS];
    sw_events *events = NULL;
    sw_event *event = NULL;
    sw_response *response = NULL;
    int replies = 0, news = 0;
    memset(large, 'x', sizeof large);
    CHECK(sw_subscribe(client, NEWS, &events) == SW_OK);
    CHECK(sw_client_turn(client) == SW_OK && sw_events_next(events, 0, &event) == SW_NOT_YET);
    for (int at = 0; at < CALLS; at++)
        CHECK(sw_start(client, ECHO, large, at ? 5 : sizeof large, PATIENCE_MS, &calls[at]) == SW_OK);
    sw_status status = sw_client_turn(client); /* SW_NOT_YET, unless the server is that fast */
    CHECK(sw_notify(client, ASK, "news", 4) == SW_OK);
    while (!wrong && (replies < CALLS || !news)) {
        status = go_round(client, status);
        CHECK(status == SW_OK || status == SW_NOT_YET);
        for (int at = 0; at < CALLS; at++) {
            if (!calls[at] || sw_wait(calls[at], 0, &response) == SW_NOT_YET) continue;
            CHECK(sw_response_rc(response) == SW_RC_OK && sw_response_len(response) == (at ? 5 : sizeof large));
            sw_response_free(response);
            sw_pending_free(calls[at]);
            calls[at] = NULL;
            replies++;
        }
        while (sw_events_next(events, 0, &event) == SW_OK) {
            CHECK(sw_event_len(event) == 4 && !memcmp(sw_event_data(event), "news", 4));
            sw_event_free(event);
            news++;
        }
    }
    CHECK(news == 1 && *asked == 1);
    sw_events_free(events);
}

/* Where there is nobody, and one that connects anew, which would have one descriptor after another. */
static void check_no_turns(const char *endpoint, sw_client_options *options) {
    sw_client *client = NULL;
    sw_descriptor descriptor = 7;
    uint32_t timeout = 0;
    CHECK(sw_client_options_reconnect(options, 1, 1) == SW_OK);
    CHECK(sw_client_connect(endpoint, options, &client) == SW_OK);
    CHECK(sw_client_fd(client, &descriptor) == SW_INVALID && descriptor == SW_NO_DESCRIPTOR);
    CHECK(sw_client_turn(client) == SW_INVALID);
    sw_client_free(client);
    descriptor = 7;
    CHECK(sw_client_fd(NULL, &descriptor) == SW_INVALID && descriptor == SW_NO_DESCRIPTOR);
    CHECK(sw_client_fd(NULL, NULL) == SW_INVALID && sw_client_turn(NULL) == SW_INVALID);
    CHECK(sw_client_next_timeout(NULL, &timeout) == SW_INVALID && timeout == SW_NO_TIMEOUT);
    descriptor = 7;
    CHECK(sw_server_fd(NULL, &descriptor) == SW_INVALID && descriptor == SW_NO_DESCRIPTOR);
    CHECK(sw_server_next_timeout(NULL, &timeout) == SW_INVALID && timeout == SW_NO_TIMEOUT);
}

static int call(const char *endpoint) {
    int asked = 0;
    sw_client *client = NULL;
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_client_options_on(options, OWN, own, &asked) == SW_OK);
    CHECK(sw_client_connect(endpoint, options, &client) == SW_OK);
    if (wrong) return wrong;
    talk(client, &asked);
    check_no_turns(endpoint, options);
    CHECK(sw_notify(client, STOP, "", 0) == SW_OK);
    sw_status status = SW_OK;
    while (status == SW_OK || status == SW_NOT_YET) status = go_round(client, status);
    CHECK(status == SW_END && sw_client_turn(client) == SW_END);
    check_alone();
    sw_client_free(client);
    sw_client_options_free(options);
    return wrong;
}
int main(int argc, char **argv) {
    if (argc != 3) return 2;
    return strcmp(argv[1], "serve") ? call(argv[2]) : serve(argv[2]);
}
