/* A crowd of helpers: each a process of its own with one connection, which asks again and again. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

/* Nanoseconds until the first asks, if they have a rate: until then all of them have woken and sleep again. */
enum { BEFORE = 500000000 };

/* What the processes share. */
struct crowd {
    uint64_t begun;
    uint64_t times[]; /* of each request of each of them */
};

static void sleep_until(uint64_t when) {
    struct timespec time = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {}
}

/* One helper, timed from when it sends. With a rate it begins anywhere within its first tick; without, it never pauses. */
static void help(const struct load *load, struct crowd *crowd, int number, long requests, const int *ready, const int *begin) {
    char byte = 0;
    close(begin[1]);
    int fd = open_connection(load);
    struct batch one = prepare(load, 1);
    uint64_t tick = load->rate > 0 ? 1e9 / load->rate : 0;
    write_all(ready[1], &byte, 1);
    close(ready[1]);
    if (read(begin[0], &byte, 1)) _exit(1); /* it is closed when all are there */
    uint64_t due = crowd->begun + tick * number / load->connections;
    for (long i = 0; i < requests; i++, due += tick) {
        if (tick) sleep_until(due);
        uint64_t start = now();
        write_all(fd, one.bytes, one.length);
        receive(load, fd, one.answers);
        crowd->times[number * requests + i] = now() - start;
        renew(&one);
    }
    _exit(0); /* nothing that was printed before is printed again */
}

static void await_ends(int count) {
    for (int status; count; count--)
        if (wait(&status) < 0 || status) errno = 0, fail("a helper has failed");
}

void run_helpers(struct load *load) {
    long each = load->requests / load->connections + 1;
    load->requests = each * load->connections;
    size_t room = sizeof(struct crowd) + load->requests * sizeof(uint64_t);
    struct crowd *crowd = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (crowd == MAP_FAILED) fail("mmap");
    int ready[2], begin[2];
    if (pipe(ready) || pipe(begin)) fail("pipe");
    pid_t parent = getpid();
    for (int i = 0; i < load->connections; i++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child) continue;
        end_with_parent();
        if (getppid() == parent) help(load, crowd, i, each, ready, begin);
        _exit(1);
    }
    close(ready[1]);
    for (int i = 0; i < load->connections; i++) read_all(ready[0], &(char){0}, 1);
    double cpu = cpu_of(load->server_pid);
    crowd->begun = now() + (load->rate > 0 ? BEFORE : 0);
    close(begin[1]);
    await_ends(load->connections);
    load->nanoseconds = now() - crowd->begun;
    load->server_cpu = cpu_of(load->server_pid) - cpu;
    load->server_kib = load->server_pid ? resident_kib(load->server_pid) : 0;
    load->times = crowd->times;
    load->timed = load->requests;
}
