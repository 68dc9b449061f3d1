/* What goes with calls and replies besides bytes, and whose it is then: attached ENDPOINT. Prints nothing if all is as the
 * header says. */
#include <fcntl.h>
#include <pthread.h>
#include <sidewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* BACK attaches what has come, LATER the same by a responder, PARTS with the last word; PIPES attaches 17; SELF asks the client. */
enum { BACK = 1, LATER, PARTS, PIPES, KEEP, SELF, OWN, MOST = 16, PATIENCE_MS = 60000 };

static int wrong;

#define CHECK(is_so) ((is_so) ? (void)0 : (void)(wrong = 1, printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #is_so, sw_error_text())))
#define INVALID(status) CHECK((status) == SW_INVALID && *sw_error_text())

static int is_open(sw_descriptor descriptor) { return fcntl((int)descriptor, F_GETFD) != -1; }

/* How many descriptors this process has. */
static int count_open(void) {
    int count = 0;
    for (int descriptor = 0; descriptor < 1024; descriptor++) count += is_open(descriptor);
    return count;
}

/* The server's handlers. */

static void attach_all(sw_attachments *came, sw_reply *reply, sw_responder *responder) {
    sw_descriptor descriptor;
    while ((descriptor = sw_attachments_take(came)) != SW_NO_DESCRIPTOR) {
        CHECK(fcntl((int)descriptor, F_GETFD) == FD_CLOEXEC);
        CHECK((reply ? sw_reply_attach(reply, descriptor) : sw_responder_attach(responder, descriptor)) == SW_OK);
        CHECK(is_open(descriptor) && !close((int)descriptor)); /* it is still ours */
    }
    sw_attachments_free(came);
}

static void back(void *user, const sw_request *request, sw_reply *reply) {
    sw_attachments *came = NULL, *second = NULL;
    (void)user;
    CHECK(sw_request_take_attachments(request, &came) == SW_OK);
    CHECK(sw_request_take_attachments(request, &second) == SW_OK && !sw_attachments_len(second));
    sw_attachments_free(second);
    char count = (char)('0' + sw_attachments_len(came));
    CHECK(sw_reply_write(reply, &count, 1) == SW_OK);
    attach_all(came, reply, NULL);
}

static void later(void *user, const sw_request *request, sw_reply *reply) {
    sw_attachments *came = NULL;
    sw_responder *responder = NULL;
    int in_parts = sw_request_type(request) == PARTS;
    (void)user;
    CHECK(sw_request_take_attachments(request, &came) == SW_OK);
    CHECK((in_parts ? sw_reply_stream(reply, &responder) : sw_reply_defer(reply, &responder)) == SW_OK);
    INVALID(sw_reply_attach(reply, STDOUT_FILENO)); /* it was deferred */
    if (in_parts) CHECK(sw_responder_send(responder, "part", 4) == SW_OK);
    attach_all(came, NULL, responder);
    CHECK(sw_responder_finish(responder, 0, "", 0) == SW_OK);
    INVALID(sw_responder_attach(responder, STDOUT_FILENO));
    sw_responder_free(responder);
}

static void pipes(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)request;
    INVALID(sw_reply_attach(reply, -1));
    CHECK(sw_reply_attach(reply, 1023) == SW_SYSTEM); /* nothing is open there */
    for (int count = 0; count < MOST; count++) CHECK(sw_reply_attach(reply, STDOUT_FILENO) == SW_OK);
    INVALID(sw_reply_attach(reply, STDOUT_FILENO));
}

/* Takes none of what has come, which is closed then. */
static void keep(void *user, const sw_request *request, sw_reply *reply) { (void)user, (void)request, (void)reply; }

static void answered(void *user, sw_status status, const sw_response *answer) {
    sw_attachments *none = NULL;
    CHECK(status == SW_OK && sw_response_take_attachments(answer, &none) == SW_OK && !sw_attachments_len(none));
    sw_attachments_free(none);
    CHECK(sw_responder_finish(user, 0, "", 0) == SW_OK);
    sw_responder_free(user);
}

static void ask(void *user, const sw_request *request, sw_reply *reply) {
    sw_peer *peer = NULL;
    sw_responder *responder = NULL;
    (void)user;
    CHECK(sw_request_peer(request, &peer) == SW_OK && sw_reply_defer(reply, &responder) == SW_OK);
    CHECK(sw_peer_call(peer, OWN, "", 0, PATIENCE_MS, answered, responder) == SW_OK);
    sw_peer_free(peer);
}

/* The client's handler, to and from which nothing goes. */
static void own(void *user, const sw_request *request, sw_reply *reply) {
    sw_attachments *none = NULL;
    sw_responder *responder = NULL;
    (void)user;
    CHECK(sw_request_take_attachments(request, &none) == SW_UNSUPPORTED && !none);
    CHECK(sw_reply_attach(reply, STDOUT_FILENO) == SW_UNSUPPORTED);
    CHECK(sw_reply_defer(reply, &responder) == SW_OK);
    CHECK(sw_responder_attach(responder, STDOUT_FILENO) == SW_UNSUPPORTED);
    CHECK(sw_responder_finish(responder, 0, "", 0) == SW_OK);
    sw_responder_free(responder);
}

/* A set with so many copies of the writing end. */
static sw_attachments *set_of(int writer, int count) {
    sw_attachments *set = sw_attachments_new();
    while (count--) CHECK(sw_attachments_add(set, writer) == SW_OK);
    return set;
}

/* Writes into a pipe by what has come back, until which it has no other writing end. */
static void check_came_back(const sw_response *response, int reader) {
    sw_attachments *came = NULL, *second = NULL;
    char text[8] = "";
    CHECK(sw_response_take_attachments(response, &came) == SW_OK && sw_attachments_len(came) == 2);
    CHECK(sw_response_take_attachments(response, &second) == SW_OK && !sw_attachments_len(second));
    sw_attachments_free(second);
    sw_descriptor writer = sw_attachments_take(came);
    CHECK(write((int)writer, "hello", 5) == 5 && !close((int)writer));
    sw_attachments_free(came); /* and the other one, so that there is an end */
    CHECK(read(reader, text, sizeof text) == 5 && !strcmp(text, "hello"));
    CHECK(read(reader, text, sizeof text) == 0);
    close(reader);
}

/* How the reply comes: to a call, or as the last of its parts, which can't be attached to. */
static void there_and_back(sw_client *client, uint16_t type) {
    int ends[2];
    sw_response *response = NULL;
    CHECK(!pipe(ends));
    sw_attachments *set = set_of(ends[1], 2);
    close(ends[1]);
    CHECK(sw_call_attached(client, type, "", 0, PATIENCE_MS, set, &response) == SW_OK && sw_response_rc(response) == SW_RC_OK);
    CHECK(!sw_attachments_len(set) && sw_attachments_take(set) == SW_NO_DESCRIPTOR);
    sw_attachments_free(set);
    if (type == BACK) CHECK(sw_response_len(response) == 1 && *sw_response_data(response) == '2');
    check_came_back(response, ends[0]);
    sw_response_free(response);
}

static void in_parts(sw_client *client) {
    sw_parts *parts = NULL;
    sw_response *part = NULL;
    sw_attachments *came = NULL;
    CHECK(sw_stream(client, PARTS, "", 0, PATIENCE_MS, &parts) == SW_OK);
    CHECK(sw_parts_next(parts, &part) == SW_OK && sw_response_take_attachments(part, &came) == SW_OK && !sw_attachments_len(came));
    sw_attachments_free(came);
    sw_response_free(part);
    CHECK(sw_parts_next(parts, &part) == SW_END);
    sw_response_free(part);
    sw_parts_free(parts);
}

static void limits(sw_client *client) {
    sw_response *response = NULL;
    sw_attachments *came = NULL, *set = set_of(STDOUT_FILENO, MOST + 1), *none = sw_attachments_new();
    INVALID(sw_call_attached(client, BACK, "", 0, PATIENCE_MS, set, &response));
    CHECK(!response && !sw_attachments_len(set) && !sw_error_executed());
    INVALID(sw_call_attached(client, BACK, "", 0, PATIENCE_MS, none, &response));
    INVALID(sw_call_attached(client, BACK, "", 0, PATIENCE_MS, NULL, &response));
    INVALID(sw_call_attached(NULL, BACK, "", 0, PATIENCE_MS, none, &response));
    INVALID(sw_notify_attached(client, KEEP, "", 0, NULL));
    INVALID(sw_attachments_add(set, -1));
    INVALID(sw_attachments_add(NULL, STDOUT_FILENO));
    CHECK(sw_attachments_add(set, 1023) == SW_SYSTEM && !sw_attachments_len(set));
    if (sizeof(sw_descriptor) > sizeof(int)) INVALID(sw_attachments_add(set, INTPTR_MAX));
    CHECK(sw_attachments_add(set, STDOUT_FILENO) == SW_OK);
    INVALID(sw_call_attached(client, BACK, "", 0, PATIENCE_MS, set, NULL));
    CHECK(!sw_attachments_len(set));
    INVALID(sw_response_take_attachments(NULL, &came));
    INVALID(sw_request_take_attachments(NULL, &came));
    INVALID(sw_reply_attach(NULL, STDOUT_FILENO));
    INVALID(sw_responder_attach(NULL, STDOUT_FILENO));
    CHECK(!came && !sw_attachments_len(NULL) && sw_attachments_take(NULL) == SW_NO_DESCRIPTOR);
    INVALID(sw_client_options_attachments(NULL));
    INVALID(sw_listen_options_attachments(NULL));
    sw_attachments_free(NULL), sw_attachments_free(set), sw_attachments_free(none);

    CHECK(sw_call(client, PIPES, "", 0, PATIENCE_MS, &response) == SW_OK);
    CHECK(sw_response_take_attachments(response, &came) == SW_OK && sw_attachments_len(came) == MOST);
    sw_attachments_free(came);
    sw_response_free(response);
    CHECK(sw_call(client, SELF, "", 0, PATIENCE_MS, &response) == SW_OK && sw_response_rc(response) == SW_RC_OK);
    sw_response_free(response);
}

/* What nobody takes is closed on both sides: the reading end then sees its end. */
static void what_nobody_takes(sw_client *client) {
    int ends[2];
    char byte;
    sw_response *response = NULL;
    CHECK(!pipe(ends));
    sw_attachments *set = set_of(ends[1], 1);
    CHECK(sw_notify_attached(client, KEEP, "", 0, set) == SW_OK);
    CHECK(sw_attachments_add(set, ends[1]) == SW_OK); /* it can be used again */
    close(ends[1]);
    CHECK(sw_call_attached(client, BACK, "", 0, PATIENCE_MS, set, &response) == SW_OK);
    sw_attachments_free(set);
    sw_response_free(response);
    CHECK(read(ends[0], &byte, 1) == 0);
    close(ends[0]);
}

/* Nothing goes to a client that has not said so. */
static void one_that_takes_none(const char *endpoint) {
    sw_client *client = NULL;
    sw_response *response = NULL;
    sw_attachments *set = set_of(STDOUT_FILENO, 1);
    CHECK(sw_client_connect(endpoint, NULL, &client) == SW_OK);
    INVALID(sw_call_attached(client, BACK, "", 0, PATIENCE_MS, set, &response));
    sw_attachments_free(set);
    sw_client_free(client);
}

static void *serve(void *server) {
    CHECK(sw_server_run(server) == SW_OK);
    return NULL;
}

int main(int argc, char **argv) {
    const char *endpoint = argc > 1 ? argv[1] : "";
    pthread_t thread;
    sw_server *server = NULL;
    sw_client *client = NULL;
    sw_listen_options *listening = sw_listen_options_new();
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_listen_options_attachments(listening) == SW_OK && sw_client_options_attachments(options) == SW_OK);
    CHECK(sw_client_options_on(options, OWN, own, NULL) == SW_OK);
    CHECK(sw_server_new(NULL, &server) == SW_OK);
    CHECK(sw_server_on(server, BACK, back, NULL) == SW_OK && sw_server_on(server, LATER, later, NULL) == SW_OK);
    CHECK(sw_server_on(server, PARTS, later, NULL) == SW_OK && sw_server_on(server, PIPES, pipes, NULL) == SW_OK);
    CHECK(sw_server_on(server, KEEP, keep, NULL) == SW_OK && sw_server_on(server, SELF, ask, NULL) == SW_OK);
    INVALID(sw_server_listen(server, "tcp:127.0.0.1:0", listening));
    CHECK(sw_server_listen(server, endpoint, listening) == SW_OK);
    sw_listen_options_free(listening);
    CHECK(!pthread_create(&thread, NULL, serve, server));
    CHECK(sw_client_connect(endpoint, options, &client) == SW_OK);
    sw_client_options_free(options);
    there_and_back(client, BACK);
    int before = count_open();
    there_and_back(client, LATER);
    in_parts(client);
    limits(client);
    what_nobody_takes(client);
    CHECK(count_open() == before);
    one_that_takes_none(endpoint);
    sw_client_free(client);
    CHECK(sw_server_stop(server, SW_DEFAULT_TIMEOUT) == SW_OK && !pthread_join(thread, NULL));
    sw_server_free(server);
    return wrong;
}
