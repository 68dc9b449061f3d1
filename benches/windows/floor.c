/* The floor: the least that a server and a client in C do over a pipe or a socket on Windows.
 *
 *   floor serve events|port PIPE BYTES     echoes messages of so many bytes to one client, then ends;
 *                                          waits for an event of each operation, or in a completion port
 *   floor serve blocking PORT BYTES        the same over TCP on loopback (port 0: any; it is printed)
 *   floor ask pipe|tcp raw|v1 PLACE BYTES WINDOW COUNT
 *
 * What asks sends WINDOW messages with one write and waits for as many, COUNT times; as they are, or as requests
 * of Sidewire's protocol (type 4), then BYTES counts the frame. It prints microseconds: the median and the 99th
 * percentile of a round, and the mean. */

#define _WIN32_WINNT 0x0602
#include <winsock2.h>
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 * 1024, HEADER = 16, HELLO = 48 };

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: error %lu\n", what, GetLastError());
    ExitProcess(1);
}

/* One end of a connection; the socket if there is one. */
struct end {
    HANDLE pipe;
    SOCKET socket;
    OVERLAPPED reading, writing;
};

static struct end new_end(HANDLE pipe, SOCKET socket)
{
    struct end end = {.pipe = pipe, .socket = socket};
    end.reading.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL);
    end.writing.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL);
    return end;
}

/* Bytes that were read; 0 at the end of the stream. */
static DWORD receive(struct end *end, char *buffer, DWORD room)
{
    DWORD count = 0;
    if (!end->pipe) {
        int got = recv(end->socket, buffer, (int)room, 0);
        return got > 0 ? (DWORD)got : 0;
    }
    if (!ReadFile(end->pipe, buffer, room, NULL, &end->reading) && GetLastError() != ERROR_IO_PENDING)
        return 0;
    return GetOverlappedResult(end->pipe, &end->reading, &count, TRUE) ? count : 0;
}

static void begin_to_send(struct end *end, const char *buffer, DWORD length)
{
    if (end->pipe) {
        if (!WriteFile(end->pipe, buffer, length, NULL, &end->writing) && GetLastError() != ERROR_IO_PENDING)
            die("writing");
        return;
    }
    WSABUF all = {length, (char *)buffer};
    if (WSASend(end->socket, &all, 1, NULL, 0, &end->writing, NULL) && GetLastError() != ERROR_IO_PENDING)
        die("sending");
}

static void finish_sending(struct end *end, DWORD length)
{
    HANDLE handle = end->pipe ? end->pipe : (HANDLE)end->socket;
    DWORD count = 0;
    if (!GetOverlappedResult(handle, &end->writing, &count, TRUE) || count != length)
        die("the end of a write");
}

static void send_all(struct end *end, const char *buffer, DWORD length)
{
    if (!end->pipe) {
        while (length > 0) {
            int count = send(end->socket, buffer, (int)length, 0);
            if (count <= 0)
                die("sending");
            buffer += count;
            length -= (DWORD)count;
        }
        return;
    }
    begin_to_send(end, buffer, length);
    finish_sending(end, length);
}

static void receive_all(struct end *end, char *buffer, DWORD length)
{
    while (length > 0) {
        DWORD count = receive(end, buffer, length);
        if (count == 0)
            die("the end of the stream");
        buffer += count;
        length -= count;
    }
}

/* Large messages are read whole before they are answered, as a server must that looks at them. */
static void echo(struct end *end, DWORD bytes)
{
    DWORD room = bytes > CHUNK ? bytes : CHUNK, have = 0, count;
    char *buffer = malloc(room);
    while ((count = receive(end, buffer + have, room - have)) > 0) {
        have += count;
        if (bytes > CHUNK && have < bytes)
            continue;
        send_all(end, buffer, have);
        have = 0;
    }
}

/* The same in a completion port, as a server of many clients would; with packets for what waits only. */
static void echo_in_port(HANDLE pipe, DWORD bytes)
{
    DWORD room = bytes > CHUNK ? bytes : CHUNK, have = 0, count;
    char *buffer = malloc(room);
    HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (!port || !CreateIoCompletionPort(pipe, port, 0, 0)
        || !SetFileCompletionNotificationModes(pipe, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS))
        die("the port");
    for (;;) {
        OVERLAPPED operation = {0}, *ended;
        ULONG_PTR key;
        BOOL writes = have > 0 && (bytes <= CHUNK || have == bytes);
        BOOL ok = writes ? WriteFile(pipe, buffer, have, NULL, &operation)
                         : ReadFile(pipe, buffer + have, room - have, NULL, &operation);
        if (!ok && GetLastError() != ERROR_IO_PENDING)
            return;
        if (!ok && !GetQueuedCompletionStatus(port, &count, &key, &ended, INFINITE))
            return;
        if (!GetOverlappedResult(pipe, &operation, &count, FALSE) || count == 0)
            return;
        have = writes ? 0 : have + count;
    }
}

static HANDLE accept_pipe(const char *name)
{
    HANDLE pipe = CreateNamedPipeA(name, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED, PIPE_TYPE_BYTE, 1, CHUNK,
                                   CHUNK, 0, NULL);
    OVERLAPPED connecting = {.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL)};
    DWORD count;
    if (pipe == INVALID_HANDLE_VALUE)
        die(name);
    printf("ready %s\n", name);
    if (!ConnectNamedPipe(pipe, &connecting) && GetLastError() == ERROR_IO_PENDING)
        GetOverlappedResult(pipe, &connecting, &count, TRUE);
    return pipe;
}

static struct sockaddr_in loopback(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((u_short)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static SOCKET at_once(SOCKET socket)
{
    int yes = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, (char *)&yes, sizeof yes);
    return socket;
}

static SOCKET accept_socket(const char *port)
{
    SOCKET listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(port);
    int length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)
        || getsockname(listener, (struct sockaddr *)&address, &length))
        die("listening");
    printf("ready %d\n", ntohs(address.sin_port));
    return at_once(accept(listener, NULL, NULL));
}

static struct end reach(const char *medium, const char *place)
{
    if (!strcmp(medium, "tcp")) {
        SOCKET client = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = loopback(place);
        if (connect(client, (struct sockaddr *)&address, sizeof address))
            die("connecting");
        return new_end(NULL, at_once(client));
    }
    for (;;) {
        HANDLE pipe =
            CreateFileA(place, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
        if (pipe != INVALID_HANDLE_VALUE)
            return new_end(pipe, 0);
        if (GetLastError() != ERROR_PIPE_BUSY || !WaitNamedPipeA(place, 5000))
            die(place);
    }
}

static void put32(char *at, unsigned long value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(value >> 8 * i);
}

/* Says hello and reads the answer (PROTOCOL.md). */
static void say_hello(struct end *end)
{
    char hello[HELLO] = {(char)0xd1, 0x53, 0x57, (char)0xd1, HELLO, 0, 1, 1}, answer[1024];
    put32(hello + 16, 64 << 20);
    put32(hello + 20, 4096);
    put32(hello + 24, 256 << 20);
    put32(hello + 28, 1 << 20);
    send_all(end, hello, sizeof hello);
    receive_all(end, answer, 6);
    receive_all(end, answer + 6, ((DWORD)(unsigned char)answer[5] << 8 | (unsigned char)answer[4]) - 6);
    if (answer[48])
        die("the hello was refused");
}

static void number(char *requests, DWORD bytes, int window, unsigned long *id)
{
    for (int i = 0; i < window; i++) {
        char *header = requests + (size_t)i * bytes;
        put32(header, bytes - HEADER);
        put32(header + 4, 1 | 4 << 16);
        put32(header + 8, ++*id);
    }
}

static int by_size(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return difference < 0 ? -1 : difference > 0;
}

static double now(void)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return 1e6 * (double)count.QuadPart / (double)frequency.QuadPart;
}

static void ask(struct end *end, int is_v1, DWORD bytes, int window, int count)
{
    DWORD all = bytes * (DWORD)window;
    char *requests = calloc(1, all), *replies = malloc(all);
    double *took = malloc(sizeof(double) * (size_t)count), sum = 0;
    unsigned long id = 0;
    if (is_v1)
        say_hello(end);
    for (int round = -count / 10; round < count; round++) {
        double began = now();
        if (is_v1)
            number(requests, bytes, window, &id);
        if (all <= CHUNK) {
            send_all(end, requests, all);
            receive_all(end, replies, all);
        } else {
            begin_to_send(end, requests, all);
            receive_all(end, replies, all);
            finish_sending(end, all);
        }
        if (round >= 0)
            sum += took[round] = now() - began;
    }
    qsort(took, (size_t)count, sizeof *took, by_size);
    printf("%.2f %.2f %.2f\n", took[count / 2], took[(long long)count * 99 / 100], sum / count);
}

int main(int argc, char **argv)
{
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc == 5 && !strcmp(argv[1], "serve")) {
        DWORD bytes = (DWORD)atoi(argv[4]);
        struct end end;
        if (!strcmp(argv[2], "port")) {
            echo_in_port(accept_pipe(argv[3]), bytes);
            return 0;
        }
        end = strcmp(argv[2], "events") ? new_end(NULL, accept_socket(argv[3])) : new_end(accept_pipe(argv[3]), 0);
        echo(&end, bytes);
        return 0;
    }
    if (argc == 8 && !strcmp(argv[1], "ask")) {
        struct end end = reach(argv[2], argv[4]);
        ask(&end, !strcmp(argv[3], "v1"), (DWORD)atoi(argv[5]), atoi(argv[6]), atoi(argv[7]));
        return 0;
    }
    fprintf(stderr, "usage: floor serve events|port|blocking PLACE BYTES\n"
                    "       floor ask pipe|tcp raw|v1 PLACE BYTES WINDOW COUNT\n");
    return 2;
}
