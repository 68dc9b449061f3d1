/* What each shape of load has: who is called, with what, how often. */
#ifndef LOAD_H
#define LOAD_H

#include "floor.h"

enum protocol { RAW, V1, CLASSIC, REDIS };

struct load {
    struct address address;
    enum protocol protocol;
    size_t size;        /* bytes of payload */
    int window;         /* requests that are on their way at a time */
    int connections;
    long requests;      /* in all, those that warm up aside */
    double rate;        /* requests a second that a paced load sends */
    int spin;           /* whether to look until something is there, and never to sleep */
    int duplex;         /* whether to read while writing */
    int type;           /* the message type of a request */
    int topic;
    int server_pid;     /* of whom CPU time and memory are told; 0: nobody */
    /* What it came to. */
    uint64_t *times;    /* nanoseconds of each request, where one after the other is sent; how many */
    long timed;
    uint64_t nanoseconds;
    double server_cpu;  /* nanoseconds of it, and what it then has in memory, where a shape looks itself */
    long server_kib;
};

/* Frames that are prepared, one behind the other, and how long their answers are together. */
struct batch {
    char *bytes;
    size_t length, answers, each;
    size_t id; /* where each has its id; 0: it has none */
    int count;
};

/* Connected, and shaken hands with if the protocol wants that. */
int open_connection(const struct load *load);
struct batch prepare(const struct load *load, int count);
/* Gives each frame an id that was not there yet. */
void renew(struct batch *batch);
void receive(const struct load *load, int fd, size_t count);
void subscribe(const struct load *load, int fd);

void run_sequential(struct load *load);
void run_window(struct load *load);
void run_connections(struct load *load);
void run_paced(struct load *load);
void run_opens(struct load *load);
void run_fan(struct load *load);
void run_helpers(struct load *load);
/* Nanoseconds that all threads of a process have run, those that have ended too; 0 of nobody. */
double cpu_of(int pid);
/* Memory that it has, in KiB. */
long resident_kib(int pid);
/* Bytes that each of so many idle connections costs the server. */
double run_idle(struct load *load);

#endif
