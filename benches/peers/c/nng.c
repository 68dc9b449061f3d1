/* nng: req and rep, with a context for each request that may be under way, as its examples for many at once do. */
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "drive.h"

static void must(int result, const char *what) {
    if (result) fail(what, nng_strerror(result));
}

struct lane {
    nng_ctx context;
    nng_aio *aio;
};

static struct lane *open_lanes(const char *path, int lanes) {
    char url[256];
    nng_socket socket;
    struct lane *all = calloc(lanes, sizeof *all);
    snprintf(url, sizeof url, "ipc://%s", path);
    must(nng_req0_open(&socket), "open");
    must(nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, 0), "no limit");
    must(nng_dial(socket, url, NULL, 0), url);
    for (int i = 0; i < lanes; i++) {
        must(nng_ctx_open(&all[i].context, socket), "context");
        must(nng_aio_alloc(&all[i].aio, NULL, NULL), "aio");
    }
    return all;
}

static struct lane *lane_at(struct lane *lanes, int number) { return &lanes[number]; }

static void ask(struct lane *lane, const void *bytes, size_t count) {
    nng_msg *message;
    must(nng_msg_alloc(&message, count), "message");
    memcpy(nng_msg_body(message), bytes, count);
    nng_aio_set_msg(lane->aio, message);
    nng_ctx_send(lane->context, lane->aio);
}

static size_t answered(struct lane *lane) {
    nng_aio_wait(lane->aio);
    must(nng_aio_result(lane->aio), "send");
    nng_ctx_recv(lane->context, lane->aio);
    nng_aio_wait(lane->aio);
    must(nng_aio_result(lane->aio), "receive");
    nng_msg *reply = nng_aio_get_msg(lane->aio);
    size_t count = nng_msg_len(reply);
    nng_msg_free(reply);
    return count;
}

/* One request after the other, on a context of its own. */
struct worker {
    struct lane lane;
    enum { RECEIVES, SENDS } state;
};

static void receive(struct worker *worker) {
    worker->state = RECEIVES;
    nng_ctx_recv(worker->lane.context, worker->lane.aio);
}

static void work(void *argument) {
    struct worker *worker = argument;
    int result = nng_aio_result(worker->lane.aio);
    if (worker->state == SENDS) {
        if (result) nng_msg_free(nng_aio_get_msg(worker->lane.aio));
        receive(worker);
    } else if (result == 0) {
        worker->state = SENDS; /* the message as it came */
        nng_ctx_send(worker->lane.context, worker->lane.aio);
    }
}

static void serve(const char *path) {
    static struct worker workers[WINDOW];
    char url[256];
    nng_socket socket;
    snprintf(url, sizeof url, "ipc://%s", path);
    must(nng_rep0_open(&socket), "open");
    must(nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, 0), "no limit");
    for (int i = 0; i < WINDOW; i++) {
        must(nng_ctx_open(&workers[i].lane.context, socket), "context");
        must(nng_aio_alloc(&workers[i].lane.aio, work, &workers[i]), "aio");
        receive(&workers[i]);
    }
    must(nng_listen(socket, url, NULL, 0), url);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}

static void print_version(void) { puts(nng_version()); }
