/* Requests, prepared before any time is measured. Answers are counted, not looked at. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static uint32_t last_id;
static char *sink;
static size_t sink_room;

static const unsigned char magic[8] = {0xd1, 0x53, 0x57, 0xd1, 1};

static void put32(char *at, uint32_t value) { memcpy(at, &value, 4); }

/* A v1 hello with large limits, and the one that answers it. */
static void shake_hands(int fd) {
    char hello[48] = {0}, start[8], rest[1024];
    uint16_t length;
    memcpy(hello, magic, 4);
    hello[4] = sizeof hello;
    hello[6] = hello[7] = 1;
    put32(hello + 16, 64 << 20);
    put32(hello + 20, 4096);
    put32(hello + 24, 256 << 20);
    write_all(fd, hello, sizeof hello);
    read_all(fd, start, sizeof start);
    memcpy(&length, start + 4, 2);
    if (memcmp(start, magic, 4) || length < 72 || length > sizeof rest) errno = 0, fail("that was no hello");
    read_all(fd, rest, length - sizeof start);
    if (memcmp(rest + 40, "\0\0\0", 4)) errno = 0, fail("the server has refused the connection");
}

int open_connection(const struct load *load) {
    int fd = connect_to(&load->address);
    if (load->protocol == V1 && load->address.type == SOCK_STREAM) shake_hands(fd);
    return fd;
}

static size_t prefix(const struct load *load) { return load->protocol == V1 && load->address.type == SOCK_DGRAM ? 8 : 0; }

static void put_frame(char *to, size_t size, int kind, int type) {
    put32(to, size);
    to[4] = kind;
    to[6] = type;
    put32(to + 8, ++last_id);
}

struct batch prepare(const struct load *load, int count) {
    char redis[64];
    size_t before = prefix(load), header = load->protocol == CLASSIC ? 12 : HEADER, after = 0, answer = 0;
    if (load->protocol == REDIS) {
        header = sprintf(redis, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", load->size);
        after = 2;
        answer = snprintf(NULL, 0, "$%zu\r\n", load->size) + load->size + 2;
    }
    size_t each = before + header + load->size + after;
    struct batch batch = {.length = each * count, .answers = (answer ? answer : each) * count, .each = each,
                          .count = count, .id = load->protocol == V1 || load->protocol == RAW ? before + 8 : 0};
    batch.bytes = malloc(batch.length);
    memset(batch.bytes, '.', batch.length);
    for (int i = 0; i < count; i++) {
        char *frame = batch.bytes + i * each;
        memcpy(frame, magic, before);
        frame += before;
        memset(frame, 0, header);
        switch (load->protocol) {
        case RAW:
        case V1: put_frame(frame, load->size, REQUEST, load->type); break;
        case CLASSIC: put32(frame, load->type), put32(frame + 8, load->size); break;
        case REDIS: memcpy(frame, redis, header), memcpy(frame + header + load->size, "\r\n", 2); break;
        }
    }
    return batch;
}

void renew(struct batch *batch) {
    if (!batch->id) return;
    for (int i = 0; i < batch->count; i++) put32(batch->bytes + i * batch->each + batch->id, ++last_id);
}

void receive(const struct load *load, int fd, size_t count) {
    if (count > sink_room) sink = realloc(sink, sink_room = count);
    if (load->address.type == SOCK_STREAM && !load->spin) return read_all(fd, sink, count);
    for (size_t got = 0; got < count;) {
        ssize_t n = recv(fd, sink + got, count - got, load->spin ? MSG_DONTWAIT : 0);
        if (n == 0) errno = 0, fail("the server has closed the connection");
        if (n < 0 && errno != EAGAIN && errno != EINTR) fail("recv");
        if (n > 0) got += n;
    }
}

void subscribe(const struct load *load, int fd) {
    char frame[HEADER] = {0};
    put_frame(frame, 0, SUBSCRIBE, load->topic);
    write_all(fd, frame, sizeof frame);
    receive(load, fd, sizeof frame);
}
