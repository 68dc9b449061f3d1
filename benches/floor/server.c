/* The floor's server: sends back what it gets, and checks nothing. README.md has its modes. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "floor.h"

enum { BATCH = 1 << 20, MOST = 1 << 16 };

static char buffer[BATCH];

/* blocking: a thread for each connection, which reads one frame and writes it. It asks for as many bytes as the last
 * frame had, so that frames of one size cost one read and one write each. */
static void *serve_one(void *argument) {
    int fd = (int)(intptr_t)argument;
    size_t room = HEADER, whole = HEADER, got = 0;
    char *frame = malloc(room);
    for (;;) {
        ssize_t n = read(fd, frame + got, whole - got);
        if (n <= 0) break;
        got += n;
        if (got < HEADER) continue;
        uint32_t length;
        memcpy(&length, frame, sizeof length);
        size_t end = HEADER + (size_t)length;
        if (end > room) frame = realloc(frame, room = end);
        if (got < end) {
            whole = end;
            continue;
        }
        write_all(fd, frame, end);
        memmove(frame, frame + end, got - end); /* which is nothing, if all have the same size */
        got -= end;
        whole = end;
    }
    free(frame);
    close(fd);
    return NULL;
}

static void serve_blocking(int listener) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&small, 1 << 16);
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        no_delay(fd);
        if (pthread_create(&thread, &small, serve_one, (void *)(intptr_t)fd)) fail("pthread_create");
    }
}

/* What a connection's socket did not take. */
struct rest {
    char *bytes;
    size_t start, end, room;
};

static struct rest rests[MOST];
static int poller;

static void watch(int fd, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event)) fail("epoll_ctl");
}

static void hang_up(int fd) {
    free(rests[fd].bytes);
    rests[fd] = (struct rest){0};
    close(fd);
}

static void keep(int fd, const char *bytes, size_t count) {
    struct rest *rest = &rests[fd];
    if (rest->end + count > rest->room) {
        memmove(rest->bytes, rest->bytes + rest->start, rest->end - rest->start);
        rest->end -= rest->start;
        rest->start = 0;
        if (rest->end + count > rest->room) rest->bytes = realloc(rest->bytes, rest->room = 2 * (rest->end + count));
    }
    if (rest->start == rest->end) watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    memcpy(rest->bytes + rest->end, bytes, count);
    rest->end += count;
}

static void send_rest(int fd) {
    struct rest *rest = &rests[fd];
    ssize_t n = write(fd, rest->bytes + rest->start, rest->end - rest->start);
    if (n < 0 && errno != EAGAIN) return hang_up(fd);
    if (n > 0) rest->start += n;
    if (rest->start == rest->end) {
        rest->start = rest->end = 0;
        watch(fd, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void send_back(int fd, const char *bytes, size_t count) {
    ssize_t sent = 0;
    if (rests[fd].start == rests[fd].end) sent = write(fd, bytes, count);
    if (sent < 0 && errno != EAGAIN) return hang_up(fd);
    if (sent < 0) sent = 0;
    if ((size_t)sent < count) keep(fd, bytes + sent, count - sent);
}

static int accept_one(int listener) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return -1;
    if (fd >= MOST) return close(fd), -1;
    set_nonblocking(fd);
    no_delay(fd);
    return fd;
}

/* batch: one epoll loop, which writes at once all that one read brought. */
static void echo_batch(int fd) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n > 0) send_back(fd, buffer, n);
    else if (n == 0 || errno != EAGAIN) hang_up(fd);
}

static int subscribers[MOST], subscribed;

/* fan: a subscription is answered and remembered; a request is answered, then sent once to each who has subscribed. */
static void echo_fan(int fd) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        for (int i = 0; i < subscribed; i++)
            if (subscribers[i] == fd) subscribers[i--] = subscribers[--subscribed];
        return hang_up(fd);
    }
    if (n < HEADER) return;
    send_back(fd, buffer, n);
    if (buffer[4] == SUBSCRIBE) subscribers[subscribed++] = fd;
    else
        for (int i = 0; i < subscribed; i++) send_back(subscribers[i], buffer, n);
}

static void serve_events(int listener, void (*echo)(int)) {
    struct epoll_event events[256];
    poller = epoll_create1(EPOLL_CLOEXEC);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                if ((fd = accept_one(listener)) >= 0) watch(fd, EPOLL_CTL_ADD, EPOLLIN);
                continue;
            }
            if (events[i].events & EPOLLOUT) send_rest(fd);
            if (events[i].events & ~EPOLLOUT) echo(fd);
        }
    }
}

/* spin: never sleeps while somebody is connected; one connection after the other is asked. */
static void serve_spinning(int listener) {
    int open[64], count = 0;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            set_nonblocking(fd);
            no_delay(fd);
            set_nonblocking(listener);
            open[count++] = fd;
        }
        for (int round = 0; round < 4096 && count > 0; round++)
            for (int i = 0; i < count; i++) {
                ssize_t n = read(open[i], buffer, sizeof buffer);
                if (n > 0) write_all(open[i], buffer, n);
                else if (n == 0 || errno != EAGAIN) close(open[i]), open[i--] = open[--count];
            }
        if (count == 64) errno = 0, fail("too many connections to spin for");
    }
}

static void serve_datagrams(int fd) {
    struct sockaddr_storage from;
    for (;;) {
        socklen_t length = sizeof from;
        ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        if (n >= 0) sendto(fd, buffer, n, 0, (struct sockaddr *)&from, length);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: floor-server blocking|batch|spin|fan ENDPOINT\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    end_with_parent();
    raise_descriptor_limit();
    struct address address = address_of(argv[2]);
    int fd = listen_at(&address);
    if (address.type == SOCK_DGRAM) serve_datagrams(fd);
    if (!strcmp(argv[1], "blocking")) serve_blocking(fd);
    if (!strcmp(argv[1], "batch")) serve_events(fd, echo_batch);
    if (!strcmp(argv[1], "fan")) serve_events(fd, echo_fan);
    if (!strcmp(argv[1], "spin")) serve_spinning(fd);
    errno = 0;
    fail("blocking, batch, spin or fan is wanted");
}
