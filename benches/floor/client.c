/* The floor's client: prepared requests, counted answers, one line of JSON. README.md has its shapes and options. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

static const char usage[] =
    "usage: floor-client SHAPE ENDPOINT [OPTION...]\n"
    "\n"
    "SHAPE     sequential  one request after the other\n"
    "          large       the same with 1 MiB of payload\n"
    "          window      --window requests are written at once, then all answers read\n"
    "          connections one request to each of --connections, then one answer from each\n"
    "          paced       --rate requests a second, one after the other\n"
    "          opens       connect, hello if there is one, one request, close\n"
    "          idle        opens --connections and looks at the server's memory\n"
    "          fan         one request that is an event for --connections, until each has read it\n"
    "          helpers     --connections processes, each one request after the other, --rate a second or without a pause\n"
    "\n"
    "--requests N     how many are measured [20000; large 200; paced 2 s; opens 1000; fan 100; helpers 50000]\n"
    "--size N         bytes of payload [64; large 1048576]\n"
    "--window N       [64]\n"
    "--connections N  [64; idle 10000; fan and helpers 1000]\n"
    "--rate N         [1000; helpers 0: without a pause]\n"
    "--protocol NAME  raw: frames of v1 without a hello [raw]; v1; classic; redis (ECHO)\n"
    "--type N         message type of a request [4]\n"
    "--topic N        to subscribe to [1]\n"
    "--spin           look until an answer is there, never sleep\n"
    "--duplex         read while writing: for servers that answer before they have read a whole request\n"
    "--server-pid N   tell the CPU time, or the memory, of that process too\n";

enum shape { SEQUENTIAL, LARGE, WINDOW, CONNECTIONS, PACED, OPENS, IDLE, FAN, HELPERS };
static const char *const shapes[] = {"sequential", "large", "window", "connections", "paced", "opens", "idle", "fan", "helpers", NULL};
static const char *const protocols[] = {"raw", "v1", "classic", "redis", NULL};

static int one_of(const char *name, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(name, names[i])) return i;
    fprintf(stderr, "%s? It is one of", name);
    for (int i = 0; names[i]; i++) fprintf(stderr, " %s", names[i]);
    fputs("\n", stderr);
    exit(2);
}

static void read_options(int argc, char **argv, struct load *load) {
    enum { REQUESTS = 256, SIZE, WIDTH, COUNT, RATE, PROTOCOL, TYPE, TOPIC, SPIN, DUPLEX, SERVER };
    static const struct option options[] = {
        {"requests", 1, 0, REQUESTS}, {"size", 1, 0, SIZE},   {"window", 1, 0, WIDTH}, {"connections", 1, 0, COUNT},
        {"rate", 1, 0, RATE},         {"protocol", 1, 0, PROTOCOL}, {"type", 1, 0, TYPE},    {"topic", 1, 0, TOPIC},
        {"spin", 0, 0, SPIN},         {"duplex", 0, 0, DUPLEX}, {"server-pid", 1, 0, SERVER}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) >= 0;)
        switch (option) {
        case REQUESTS: load->requests = atol(optarg); break;
        case SIZE: load->size = atol(optarg); break;
        case WIDTH: load->window = atoi(optarg); break;
        case COUNT: load->connections = atoi(optarg); break;
        case RATE: load->rate = atof(optarg); break;
        case PROTOCOL: load->protocol = one_of(optarg, protocols); break;
        case TYPE: load->type = atoi(optarg); break;
        case TOPIC: load->topic = atoi(optarg); break;
        case SPIN: load->spin = 1; break;
        case DUPLEX: load->duplex = 1; break;
        case SERVER: load->server_pid = atoi(optarg); break;
        default: exit(2);
        }
    if (argc - optind != 2 || load->requests < 1 || load->window < 1 || load->connections < 1 || load->rate < 0)
        errno = 0, fail("one SHAPE and one ENDPOINT are wanted, and numbers that are not 0; see --help");
}

static enum shape read_arguments(int argc, char **argv, struct load *load) {
    static const long requests[] = {20000, 200, 200000, 50000, 2000, 1000, 1, 100, 50000};
    if (argc < 2 || !strcmp(argv[1], "--help")) fputs(usage, argc < 2 ? stderr : stdout), exit(argc < 2 ? 2 : 0);
    enum shape shape = one_of(argv[1], shapes);
    *load = (struct load){
        .size = shape == LARGE ? 1 << 20 : 64, .requests = requests[shape], .window = 64, .rate = 1000, .type = 4, .topic = 1};
    load->connections = shape == IDLE ? 10000 : shape == FAN || shape == HELPERS ? 1000 : 64;
    if (shape == HELPERS) load->rate = 0;
    read_options(argc, argv, load);
    load->address = address_of(argv[optind + 1]);
    if (shape == PACED && !load->rate) errno = 0, fail("paced wants a --rate");
    if (load->address.type == SOCK_DGRAM && shape != SEQUENTIAL && shape != LARGE && shape != PACED)
        errno = 0, fail("datagrams take one request after the other");
    load->times = calloc(load->requests + 1, sizeof *load->times);
    return shape;
}

double cpu_of(int pid) {
    clockid_t clock;
    struct timespec time;
    if (!pid) return 0;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time)) fail("--server-pid");
    return time.tv_sec * 1e9 + time.tv_nsec;
}

long resident_kib(int pid) {
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    if (!file) fail("idle needs --server-pid");
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
    fclose(file);
    return kib;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *shape, const struct load *load, double server_cpu) {
    double seconds = load->nanoseconds / 1e9, all = load->requests + load->requests / 10 + 1;
    printf("{\"shape\":\"%s\",\"endpoint\":\"%s\",\"size\":%zu,\"requests\":%ld,\"seconds\":%.6f", shape, load->address.text,
           load->size, load->requests, seconds);
    printf(",\"requests_per_second\":%.1f,\"mb_per_second\":%.2f", load->requests / seconds,
           load->requests * (double)load->size / 1e6 / seconds);
    if (load->timed) {
        qsort(load->times, load->timed, sizeof *load->times, by_size);
        printf(",\"p50_us\":%.3f,\"p99_us\":%.3f", load->times[load->timed / 2] / 1e3,
               load->times[load->timed * 99 / 100] / 1e3);
    }
    if (load->server_kib) printf(",\"server_cpu_us\":%.4f,\"server_kib\":%ld", load->server_cpu / 1e3 / load->requests, load->server_kib);
    else if (load->server_pid) printf(",\"server_cpu_us\":%.4f", server_cpu / 1e3 / all); /* those that warm up counted */
    puts("}");
}

int main(int argc, char **argv) {
    struct load load;
    enum shape shape = read_arguments(argc, argv, &load);
    static void (*const run[])(struct load *) = {[SEQUENTIAL] = run_sequential, [LARGE] = run_sequential,
        [WINDOW] = run_window, [CONNECTIONS] = run_connections, [PACED] = run_paced, [OPENS] = run_opens, [FAN] = run_fan,
        [HELPERS] = run_helpers};
    signal(SIGPIPE, SIG_IGN);
    end_with_parent();
    raise_descriptor_limit();
    if (shape == IDLE) {
        printf("{\"shape\":\"idle\",\"endpoint\":\"%s\",\"connections\":%d", load.address.text, load.connections);
        printf(",\"bytes_per_connection\":%.1f}\n", run_idle(&load));
        return 0;
    }
    double cpu = cpu_of(load.server_pid);
    run[shape](&load);
    report(shapes[shape], &load, cpu_of(load.server_pid) - cpu);
    return 0;
}
