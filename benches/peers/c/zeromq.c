/* ZeroMQ: a DEALER for each client, which may have many requests under way, and a ROUTER that passes each message back
 * without a copy. */
#include <zmq.h>

#include "drive.h"

static void must(int result, const char *what) {
    if (result < 0) fail(what, zmq_strerror(zmq_errno()));
}

static void *context(void) {
    static void *one;
    if (!one) {
        one = zmq_ctx_new();
        zmq_ctx_set(one, ZMQ_MAX_SOCKETS, 2 * IDLE);
    }
    return one;
}

static struct lane *open_lanes(const char *path, int lanes) {
    char endpoint[256];
    int no_limit = 0;
    void *socket = zmq_socket(context(), ZMQ_DEALER);
    (void)lanes;
    snprintf(endpoint, sizeof endpoint, "ipc://%s", path);
    zmq_setsockopt(socket, ZMQ_SNDHWM, &no_limit, sizeof no_limit);
    must(zmq_connect(socket, endpoint), endpoint);
    return socket;
}

static struct lane *lane_at(struct lane *lanes, int number) {
    (void)number;
    return lanes;
}

static void ask(struct lane *lane, const void *bytes, size_t count) { must(zmq_send(lane, bytes, count, 0), "send"); }

static size_t answered(struct lane *lane) {
    zmq_msg_t reply;
    zmq_msg_init(&reply);
    must(zmq_msg_recv(&reply, lane, 0), "receive");
    size_t count = zmq_msg_size(&reply);
    zmq_msg_close(&reply);
    return count;
}

static void serve(const char *path) {
    char endpoint[256];
    void *socket = zmq_socket(context(), ZMQ_ROUTER);
    snprintf(endpoint, sizeof endpoint, "ipc://%s", path);
    must(zmq_bind(socket, endpoint), endpoint);
    puts("ready");
    fflush(stdout);
    for (;;) {
        zmq_msg_t part; /* who asks, then what */
        zmq_msg_init(&part);
        must(zmq_msg_recv(&part, socket, 0), "receive");
        int more = zmq_msg_more(&part) ? ZMQ_SNDMORE : 0;
        must(zmq_msg_send(&part, socket, more), "send");
    }
}

static void print_version(void) {
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    printf("%d.%d.%d\n", major, minor, patch);
}
