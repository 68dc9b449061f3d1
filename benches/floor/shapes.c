/* The shapes of load. Each warms up first; what it measures begins behind that. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

static long warm_up(const struct load *load) { return load->requests / 10 + 1; }

static void remember(struct load *load, uint64_t time) { load->times[load->timed++] = time; }

/* Writes it all and reads all answers, whatever comes first: for servers that answer before they have read all. */
static void exchange_duplex(int fd, const struct batch *batch) {
    static char *answers;
    static size_t room;
    if (batch->answers > room) answers = realloc(answers, room = batch->answers);
    for (size_t sent = 0, got = 0; got < batch->answers;) {
        ssize_t n = 0, m;
        if (sent < batch->length) n = send(fd, batch->bytes + sent, batch->length - sent, MSG_DONTWAIT);
        if (n > 0) sent += n;
        m = recv(fd, answers + got, batch->answers - got, sent < batch->length ? MSG_DONTWAIT : 0);
        if (m == 0) errno = 0, fail("the server has closed the connection");
        if (m > 0) got += m;
        if ((n < 0 && errno != EAGAIN) || (m < 0 && errno != EAGAIN)) fail("send or recv");
        if (n > 0 || m > 0) continue;
        struct pollfd both = {.fd = fd, .events = POLLIN | POLLOUT};
        poll(&both, 1, -1);
    }
}

static void exchange(const struct load *load, int fd, const struct batch *batch) {
    if (load->duplex) return exchange_duplex(fd, batch);
    write_all(fd, batch->bytes, batch->length);
    receive(load, fd, batch->answers);
}

void run_sequential(struct load *load) {
    int fd = open_connection(load);
    struct batch one = prepare(load, 1);
    uint64_t begun = 0;
    for (long i = -warm_up(load); i < load->requests; i++) {
        if (i == 0) begun = now();
        uint64_t start = now();
        exchange(load, fd, &one);
        if (i >= 0) remember(load, now() - start);
        renew(&one);
    }
    load->nanoseconds = now() - begun;
    close(fd);
}

void run_window(struct load *load) {
    int fd = open_connection(load);
    struct batch batch = prepare(load, load->window);
    long turns = load->requests / load->window + 1;
    uint64_t begun = 0;
    load->requests = turns * load->window;
    for (long i = -turns / 10; i < turns; i++) {
        if (i == 0) begun = now();
        exchange(load, fd, &batch);
        renew(&batch);
    }
    load->nanoseconds = now() - begun;
    close(fd);
}

/* Writes to all, then reads from all. */
void run_connections(struct load *load) {
    int *fds = calloc(load->connections, sizeof *fds);
    struct batch one = prepare(load, 1);
    long turns = load->requests / load->connections + 1;
    uint64_t begun = 0;
    load->requests = turns * load->connections;
    for (int i = 0; i < load->connections; i++) fds[i] = open_connection(load);
    for (long turn = -turns / 10; turn < turns; turn++) {
        if (turn == 0) begun = now();
        for (int i = 0; i < load->connections; i++) write_all(fds[i], one.bytes, one.length);
        for (int i = 0; i < load->connections; i++) receive(load, fds[i], one.answers);
        renew(&one);
    }
    load->nanoseconds = now() - begun;
    for (int i = 0; i < load->connections; i++) close(fds[i]);
    free(fds);
}

static void sleep_until(uint64_t when) {
    struct timespec time = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {}
}

/* One request a tick, timed from when it is sent. */
void run_paced(struct load *load) {
    int fd = open_connection(load);
    struct batch one = prepare(load, 1);
    uint64_t tick = 1e9 / load->rate, due = now() + tick, begun = 0;
    for (long i = -warm_up(load); i < load->requests; i++, due += tick) {
        sleep_until(due);
        uint64_t start = now();
        if (i == 0) begun = start;
        exchange(load, fd, &one);
        if (i >= 0) remember(load, now() - start);
        renew(&one);
    }
    load->nanoseconds = now() - begun;
    close(fd);
}

/* Connect, hello, one call, close. */
void run_opens(struct load *load) {
    struct batch one = prepare(load, 1);
    uint64_t begun = 0;
    for (long i = -warm_up(load); i < load->requests; i++) {
        if (i == 0) begun = now();
        uint64_t start = now();
        int fd = open_connection(load);
        exchange(load, fd, &one);
        close(fd);
        if (i >= 0) remember(load, now() - start);
        renew(&one);
    }
    load->nanoseconds = now() - begun;
}

/* One request that is an event for all others, until each of them has read it. */
void run_fan(struct load *load) {
    int *fds = calloc(load->connections, sizeof *fds), asking = open_connection(load);
    struct batch one = prepare(load, 1);
    size_t answer = load->protocol == V1 ? HEADER : one.answers;
    uint64_t begun = 0;
    for (int i = 0; i < load->connections; i++) {
        fds[i] = open_connection(load);
        subscribe(load, fds[i]);
    }
    for (long turn = -warm_up(load); turn < load->requests; turn++) {
        if (turn == 0) begun = now();
        uint64_t start = now();
        write_all(asking, one.bytes, one.length);
        receive(load, asking, answer);
        for (int i = 0; i < load->connections; i++) receive(load, fds[i], one.length);
        if (turn >= 0) remember(load, now() - start);
        renew(&one);
    }
    load->nanoseconds = now() - begun;
    for (int i = 0; i < load->connections; i++) close(fds[i]);
    close(asking);
    free(fds);
}

static int open_idle(const struct load *load, const struct batch *one) {
    int fd = open_connection(load);
    exchange(load, fd, one);
    return fd;
}

/* Each makes one call first; the first hundred are not counted, so that what the server needs at all is there. */
double run_idle(struct load *load) {
    int few = 100, all = few + load->connections, *fds = calloc(all, sizeof *fds);
    struct batch one = prepare(load, 1);
    long before = 0, after;
    for (int i = 0; i < all; i++) {
        if (i == few) before = resident_kib(load->server_pid);
        fds[i] = open_idle(load, &one);
    }
    after = resident_kib(load->server_pid);
    for (int i = 0; i < all; i++) close(fds[i]);
    free(fds);
    return (after - before) * 1024.0 / load->connections;
}
