#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char own_path[108];

void fail(const char *what) {
    fprintf(stderr, errno ? "%s: %s\n" : "%s\n", what, strerror(errno));
    exit(1);
}

static const char *after(const char *text, const char *start) {
    size_t length = strlen(start);
    return strncmp(text, start, length) ? NULL : text + length;
}

static void unix_address(struct address *address, const char *name, int type, int abstract) {
    struct sockaddr_un *to = (struct sockaddr_un *)&address->bytes;
    size_t length = strlen(name);
    if (length + 1 > sizeof to->sun_path) errno = ENAMETOOLONG, fail(name);
    to->sun_family = address->family = AF_UNIX;
    memcpy(to->sun_path + abstract, name, length);
    address->length = offsetof(struct sockaddr_un, sun_path) + length + 1;
    address->type = type;
}

static void inet_address(struct address *address, const char *name, int type) {
    struct sockaddr_in *to = (struct sockaddr_in *)&address->bytes;
    const char *colon = strrchr(name, ':');
    char host[64] = "";
    if (!colon || (size_t)(colon - name) >= sizeof host) errno = 0, fail("HOST:PORT is wanted");
    memcpy(host, name, colon - name);
    to->sin_family = address->family = AF_INET;
    to->sin_port = htons(atoi(colon + 1));
    if (inet_pton(AF_INET, host, &to->sin_addr) != 1) errno = 0, fail("the host is wanted in numbers, as 127.0.0.1");
    address->length = sizeof *to;
    address->type = type;
}

struct address address_of(const char *endpoint) {
    struct address address = {0};
    const char *rest;
    snprintf(address.text, sizeof address.text, "%s", endpoint);
    if ((rest = after(endpoint, "unix:"))) unix_address(&address, rest, SOCK_STREAM, 0);
    else if ((rest = after(endpoint, "abstract:"))) unix_address(&address, rest, SOCK_STREAM, 1);
    else if ((rest = after(endpoint, "unixgram:"))) unix_address(&address, rest, SOCK_DGRAM, 0);
    else if ((rest = after(endpoint, "tcp:"))) inet_address(&address, rest, SOCK_STREAM);
    else if ((rest = after(endpoint, "udp:"))) inet_address(&address, rest, SOCK_DGRAM);
    else errno = 0, fail("an endpoint is unix:/PATH, abstract:NAME, tcp:HOST:PORT, unixgram:/PATH or udp:HOST:PORT");
    return address;
}

int listen_at(struct address *address) {
    int fd = socket(address->family, address->type | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0) fail("socket");
    if (address->family == AF_INET) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address->bytes, address->length)) fail(address->text);
    if (address->type == SOCK_STREAM && listen(fd, 1024)) fail("listen");
    if (address->family == AF_INET) {
        struct sockaddr_in bound;
        socklen_t length = sizeof bound;
        if (getsockname(fd, (struct sockaddr *)&bound, &length)) fail("getsockname");
        sprintf(strrchr(address->text, ':') + 1, "%u", ntohs(bound.sin_port));
    }
    printf("listening %s\n", address->text);
    fflush(stdout);
    return fd;
}

static void remove_own_path(void) { unlink(own_path); }

/* A Unix datagram socket has to be bound to be answered. */
static void bind_own_path(int fd, const struct address *server) {
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    const char *path = ((const struct sockaddr_un *)&server->bytes)->sun_path;
    if (snprintf(own_path, sizeof own_path, "%.90s.%d", path, getpid()) < 0) fail(path);
    memcpy(own.sun_path, own_path, sizeof own_path);
    if (bind(fd, (struct sockaddr *)&own, sizeof own)) fail(own_path);
    atexit(remove_own_path);
}

int connect_to(const struct address *address) {
    int fd = socket(address->family, address->type | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (address->family == AF_UNIX && address->type == SOCK_DGRAM) bind_own_path(fd, address);
    while (connect(fd, (const struct sockaddr *)&address->bytes, address->length))
        if (errno != EINTR) fail(address->text);
    no_delay(fd);
    return fd;
}

void no_delay(int fd) {
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* which only TCP knows */
}

void set_nonblocking(int fd) {
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)) fail("fcntl");
}

void read_all(int fd, void *bytes, size_t count) {
    for (size_t got = 0; got < count;) {
        ssize_t n = read(fd, (char *)bytes + got, count - got);
        if (n == 0) errno = 0, fail("the server has closed the connection");
        if (n < 0 && errno != EINTR) fail("read");
        if (n > 0) got += n;
    }
}

void write_all(int fd, const void *bytes, size_t count) {
    for (size_t sent = 0; sent < count;) {
        ssize_t n = write(fd, (const char *)bytes + sent, count - sent);
        if (n < 0 && errno != EINTR) fail("write");
        if (n > 0) sent += n;
    }
}

void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

void end_with_parent(void) {
    pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) exit(1); /* which was quicker */
}

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
