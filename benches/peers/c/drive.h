/* How clients in C are driven: the same measures, lines and times as in src/blocking.rs and src/measure.rs. */
#ifndef DRIVE_H
#define DRIVE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SMALL = 64, LARGE = 1 << 20, WINDOW = 64, CROWD = 64, IDLE = 1000, LAPS = 1 << 22 };

/* What a peer's file says: a connection, on which so many requests can be under way at once. */
struct lane;
static struct lane *open_lanes(const char *path, int lanes);
/* The lane with this number. */
static struct lane *lane_at(struct lane *lanes, int number);
static void ask(struct lane *lane, const void *bytes, size_t count);
/* Waits for the reply, and says how long it is. */
static size_t answered(struct lane *lane);

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static char payload[LARGE];
static size_t size = SMALL;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* One request on each lane, and then the replies. */
static void turn(struct lane **lanes, int count) {
    for (int i = 0; i < count; i++) ask(lanes[i], payload, size);
    for (int i = 0; i < count; i++)
        if (answered(lanes[i]) != size) fail("reply", "has another length");
}

static double repeat(struct lane **lanes, int count, double seconds, uint64_t *turns) {
    double began = now(), passed;
    for (*turns = 0; (passed = now() - began) < seconds; ++*turns) turn(lanes, count);
    return passed;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void report_laps(struct lane **lane, double seconds) {
    float *laps = malloc(LAPS * sizeof *laps);
    int count = 0;
    for (double began = now(), last = began, at = began; at - began < seconds && count < LAPS; last = at) {
        turn(lane, 1);
        at = now();
        laps[count++] = (at - last) * 1e6;
    }
    qsort(laps, count, sizeof *laps, by_size);
    printf("%.3f %.3f\n", laps[(int)((count - 1) * .5)], laps[(int)((count - 1) * .99)]);
}

static void pause_at(const char *where) {
    puts(where);
    fflush(stdout);
    while (getchar() > '\n') continue;
}

static void drive(const char *path, const char *measure, double seconds) {
    static struct lane *lanes[IDLE];
    int window = !strcmp(measure, "window"), crowd = !strcmp(measure, "crowd"), count = window ? WINDOW : 1;
    uint64_t turns;
    memset(payload, '.', sizeof payload);
    if (!strcmp(measure, "large")) size = LARGE;
    struct lane *first = open_lanes(path, count);
    for (int i = 0; i < count; i++) lanes[i] = lane_at(first, i);
    turn(lanes, 1);
    if (!strcmp(measure, "idle")) {
        pause_at("one");
        for (int i = 0; i < IDLE; i++) {
            lanes[i] = open_lanes(path, 1);
            turn(&lanes[i], 1);
        }
        pause_at("all");
        return;
    }
    for (; crowd && count < CROWD; count++) lanes[count] = open_lanes(path, 1);
    repeat(lanes, count, seconds / 4, &turns);
    if (!strcmp(measure, "sequential")) {
        report_laps(lanes, seconds);
        return;
    }
    double took = repeat(lanes, count, seconds, &turns), rate = turns * count / took;
    if (size == LARGE) printf("%.1f\n", rate * LARGE / 1e6);
    else printf("%.0f\n", rate);
}

static void serve(const char *path);
static void print_version(void);

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "version")) print_version();
    else if (argc == 3 && !strcmp(argv[1], "server")) serve(argv[2]);
    else if (argc == 5 && !strcmp(argv[1], "client")) drive(argv[2], argv[3], atof(argv[4]));
    else fail("usage", "version | server PATH | client PATH MEASURE SECONDS");
    fflush(stdout);
    _Exit(0); /* with what is still open: nobody waits for it */
}

#endif
