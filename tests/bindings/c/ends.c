/* What is freed, or fails, while something still stands on it: ends ENDPOINT. Prints nothing if all is as the header says. */
#include <pthread.h>
#include <sidewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEEP = 1, ASK, FAIL, SLOW = 1, FREE_ITSELF, FAIL_LATER, PATIENCE_MS = 60000 };

static int wrong;

#define CHECK(is_so) ((is_so) ? (void)0 : (void)(wrong = 1, printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #is_so, sw_error_text())))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Flags that one thread raises, and another one waits for. */
static int has_begun, has_ended;

static void raise_flag(int *flag) {
    pthread_mutex_lock(&lock);
    *flag = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_for(int *flag) {
    pthread_mutex_lock(&lock);
    while (!*flag) pthread_cond_wait(&changed, &lock);
    *flag = 0;
    pthread_mutex_unlock(&lock);
}

static const char *endpoint;
static sw_client *doomed;
static sw_peer *kept_peer;
static sw_responder *kept;

/* What `then` was told. */
struct told { int times; sw_status status; int32_t rc; };

static void then(void *user, sw_status status, const sw_response *answer) {
    struct told *told = user;
    told->times++;
    told->status = status;
    told->rc = sw_response_rc(answer);
    if (status) CHECK(!answer && *sw_error_text());
}

static void unheard(void *user, sw_status status, const sw_response *answer) { (void)user, (void)status, (void)answer; }

/* The server's handlers. */

static void keep(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)reply;
    CHECK(sw_request_peer(request, &kept_peer) == SW_OK);
}

/* Has the client do what the payload says. */
static void ask(void *user, const sw_request *request, sw_reply *reply) {
    sw_peer *peer = NULL;
    (void)reply;
    CHECK(sw_request_peer(request, &peer) == SW_OK);
    uint16_t type = (uint16_t)sw_request_data(request)[0];
    CHECK(sw_peer_call(peer, type, "", 0, PATIENCE_MS, user ? then : unheard, user) == SW_OK);
    sw_peer_free(peer);
}

static void fail_behind_defer(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)request;
    CHECK(sw_reply_defer(reply, &kept) == SW_OK && sw_reply_fail(reply, 7, "on second thought") == SW_OK);
}

/* The client's handlers. */

static void slow(void *user, const sw_request *request, sw_reply *reply) {
    const struct timespec nap = { 0, 200000000 };
    (void)request;
    raise_flag(&has_begun);
    nanosleep(&nap, NULL);
    *(int *)user = 1;
    sw_reply_write(reply, "done", 4);
}

static void free_itself(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)request, (void)reply;
    sw_client_free(doomed);
    raise_flag(&has_ended);
}

static void fail_later(void *user, const sw_request *request, sw_reply *reply) {
    (void)user, (void)request;
    CHECK(sw_reply_defer(reply, &kept) == SW_OK && sw_reply_fail(reply, 8, "not later either") == SW_OK);
}

static sw_client *connect_with(uint16_t type, sw_handler handler, void *user) {
    sw_client *client = NULL;
    sw_client_options *options = sw_client_options_new();
    CHECK(sw_client_options_on(options, type, handler, user) == SW_OK);
    CHECK(sw_client_connect(endpoint, options, &client) == SW_OK);
    sw_client_options_free(options);
    return client;
}

static void have_done(const sw_client *client, char type) {
    CHECK(sw_notify(client, ASK, &type, 1) == SW_OK && sw_client_flush(client) == SW_OK);
}

/* The handler's `user` is the program's again as soon as the client is freed. */
static void readers_end_with_their_client(void) {
    int *user = calloc(1, sizeof *user);
    sw_client *client = connect_with(SLOW, slow, user);
    CHECK(sw_client_spawn_reader(client) == SW_OK && sw_client_spawn_reader(client) == SW_OK);
    have_done(client, SLOW);
    wait_for(&has_begun);
    sw_client_free(client);
    CHECK(*user == 1);
    free(user);

    doomed = connect_with(FREE_ITSELF, free_itself, NULL);
    CHECK(sw_client_spawn_reader(doomed) == SW_OK);
    have_done(doomed, FREE_ITSELF);
    wait_for(&has_ended);
}

static void a_failure_behind_defer_is_the_answer(void) {
    sw_response *response = NULL;
    sw_client *client = connect_with(FAIL_LATER, fail_later, NULL);
    CHECK(sw_call(client, FAIL, "", 0, PATIENCE_MS, &response) == SW_OK && sw_response_rc(response) == 7);
    sw_response_free(response);
    CHECK(sw_responder_wait_cancelled(kept, SW_NO_TIMEOUT) == SW_OK && sw_responder_is_cancelled(kept));
    CHECK(sw_responder_finish(kept, 0, "late", 4) == SW_OK);
    sw_responder_free(kept);
    kept = NULL;

    have_done(client, FAIL_LATER);
    /* The server asks, and the client answers, in a wait of its own; then the server has heard it. */
    while (!kept) {
        CHECK(sw_call(client, KEEP, "", 0, PATIENCE_MS, &response) == SW_OK);
        sw_response_free(response);
        sw_peer_free(kept_peer);
    }
    CHECK(sw_responder_is_cancelled(kept));
    CHECK(sw_responder_finish(kept, 0, "late", 4) == SW_OK);
    sw_responder_free(kept);
    CHECK(sw_call(client, KEEP, "", 0, PATIENCE_MS, &response) == SW_OK);
    sw_response_free(response);
    sw_peer_free(kept_peer);
    kept_peer = NULL;
    sw_client_free(client);
}

static void *serve(void *server) {
    CHECK(sw_server_run(server) == SW_OK);
    return NULL;
}

static sw_server *server_with(struct told *told) {
    sw_server *server = NULL;
    CHECK(sw_server_new(NULL, &server) == SW_OK && sw_server_on(server, KEEP, keep, NULL) == SW_OK);
    CHECK(sw_server_on(server, ASK, ask, told) == SW_OK && sw_server_on(server, FAIL, fail_behind_defer, NULL) == SW_OK);
    CHECK(sw_server_listen(server, endpoint, NULL) == SW_OK);
    return server;
}

static void on_a_server_that_runs(void (*run)(void), struct told *told) {
    pthread_t thread;
    sw_server *server = server_with(told);
    CHECK(!pthread_create(&thread, NULL, serve, server));
    run();
    CHECK(sw_server_stop(server, SW_DEFAULT_TIMEOUT) == SW_OK && !pthread_join(thread, NULL));
    sw_server_free(server);
}

static void *be_kept(void *unused) {
    sw_client *client = NULL;
    CHECK(sw_client_connect(endpoint, NULL, &client) == SW_OK);
    CHECK(sw_notify(client, KEEP, "", 0) == SW_OK && sw_client_flush(client) == SW_OK);
    sw_client_run(client); /* until the server has gone */
    sw_client_free(client);
    return unused;
}

/* A call that the server took and did not come to is told once; one that it does not take is not. */
static void calls_end_with_the_server(void) {
    pthread_t thread;
    struct told told = { 0, SW_OK, 0 };
    sw_server *server = server_with(NULL);
    CHECK(!pthread_create(&thread, NULL, be_kept, NULL));
    while (!kept_peer) CHECK(sw_server_turn(server, PATIENCE_MS) == SW_OK);
    CHECK(sw_peer_call(kept_peer, SLOW, "", 0, PATIENCE_MS, then, &told) == SW_OK && !told.times);
    sw_server_free(server);
    CHECK(told.times == 1 && told.status == SW_STOPPED);
    CHECK(sw_peer_call(kept_peer, SLOW, "", 0, PATIENCE_MS, then, &told) == SW_STOPPED && told.times == 1);
    sw_peer_free(kept_peer);
    kept_peer = NULL;
    CHECK(!pthread_join(thread, NULL));
}

int main(int argc, char **argv) {
    struct told told = { 0, SW_OK, 0 };
    endpoint = argc > 1 ? argv[1] : "";
    on_a_server_that_runs(readers_end_with_their_client, NULL);
    on_a_server_that_runs(a_failure_behind_defer_is_the_answer, &told);
    CHECK(told.times == 1 && told.status == SW_OK && told.rc == 8);
    calls_end_with_the_server();
    return wrong;
}
