#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winsock2.h>
#include <windows.h>
static HANDLE s;
static int dial(int tcp, const char *place, int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    char path[300];
    WSADATA data;
    snprintf(path, sizeof path, "\\\\.\\pipe\\%s", place);
    while (!tcp) {
        s = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                        SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
        if (s != INVALID_HANDLE_VALUE) return 1;
        if (GetLastError() != ERROR_PIPE_BUSY || !WaitNamedPipeA(path, 5000)) return 0;
    }
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (WSAStartup(2, &data)) return 0;
    s = (HANDLE)WSASocketA(AF_INET, SOCK_STREAM, 0, NULL, 0, 0); /* not overlapped */
    return !connect((SOCKET)s, (struct sockaddr *)&a, sizeof a);
}
static int pass(int out, void *p, int n) {
    DWORD done = 0;
    BOOL fine = out ? WriteFile(s, p, n, &done, NULL) : ReadFile(s, p, n, &done, NULL);
    return fine ? (int)done : -1;
}

/* As on the wire, on a little-endian machine. */
struct frame { uint32_t length; uint8_t kind, flags; uint16_t type; uint32_t id; int32_t rc; };
static struct frame in;
static char payload[(1 << 20) + 1]; /* of in, and a NUL */
static uint32_t last;

static void move(int out, const void *p, int n) {
    for (int k; n > 0; p = (char *)p + k, n -= k)
        if ((k = pass(out, (void *)p, n)) <= 0) exit(fprintf(stderr, "the server has gone\n"));
}

static void put(int kind, int type, uint32_t id, int rc, const void *p, uint32_t n) {
    struct frame f = { n, kind, 0, type, id, rc };
    move(1, &f, 16);
    move(1, p, n);
}

/* Kind 1 is a request, 5 a subscribe. Gives the id. */
static uint32_t ask(int kind, int type, const char *text, int timeout_ms) {
    put(kind, type, last += last == UINT32_MAX ? 2 : 1, timeout_ms, text, strlen(text));
    return last;
}

/* Reads frames and does what they ask for, until one of this kind and id (0: any) has come. */
static void await(int kind, uint32_t id) {
    do {
        move(0, &in, 16);
        if (in.length >= sizeof payload) exit(fprintf(stderr, "too large\n"));
        move(0, payload, in.length);
        payload[in.length] = 0;
        if (in.kind == 1 || in.kind == 5 || in.kind == 6) { /* we serve type 1: echo */
            int fine = in.kind == 1 && in.type == 1;
            put(2, in.type, in.id, fine ? 0 : -2, payload, fine ? in.length : 0);
        } else if (in.kind == 2 && in.flags & 1) { /* a part: may the next one come */
            uint32_t credit = in.length ? in.length : 1;
            put(8, 0, in.id, 0, &credit, 4);
        } else if (in.kind == 4) printf("event %d, number %u: %s\n", in.type, in.id, payload);
        else if (in.kind == 9) put(10, 0, in.id, 0, "", 0);
        else if (in.kind == 12 && kind != 12) exit(fprintf(stderr, "goodbye %d %s\n", in.rc, payload));
    } while (in.kind != kind || (id && in.id != id));
}

static void show(const char *what, uint32_t id) {
    do await(2, id), printf("%s: %d %s\n", what, in.rc, payload);
    while (in.flags & 1);
}

int main(int argc, char **argv) { /* unix:/path, or tcp:127.0.0.1:PORT */
    char *place = argc > 1 ? strchr(argv[1], ':') : NULL, rest[1024] = "";
    if (!place || !dial(*argv[1] == 't', place + 1, atoi(strrchr(place, ':') + 1))) return 1;
    struct { char magic[4]; uint16_t length; uint8_t low, high; uint32_t n[6]; char nonce[16]; } hello =
        { "\xd1SW\xd1", 48, 1, 1, { 0, 0, 1 << 20, 16, 1 << 20, 1 << 16 }, "any 16 bytes" };
    move(1, &hello, 48);
    move(0, &hello, 48);
    if (hello.length >= 72 && hello.length <= 1024) move(0, rest, hello.length - 48);
    if (memcmp(rest, "\0\0\0\0\1", 5)) exit(fprintf(stderr, "refused\n")); /* status, version */

    show("get", ask(1, 1, "", 30000));
    show("subscribe", ask(5, 1, "", 30000));
    show("set", ask(1, 2, "tea", 30000));
    await(4, 1);
    uint32_t slow = ask(1, 6, "60000", 0);
    show("count", ask(1, 7, "3", 30000));
    put(7, 0, slow, 0, "", 0); /* cancel */
    show("sleep", slow);
    show("call me back", ask(1, 8, "1", 30000));
    put(12, 0, 0, 0, "", 0);
    await(12, 0);
    return 0;
}
