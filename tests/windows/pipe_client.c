/* A classic client of a named pipe: pipe_client short|whole NAME (TYPE TEXT)...
   Prints each reply's type, rc and text. "whole" writes and reads the whole struct. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

struct message { int type, rc, len; char buf[1024]; };

static HANDLE open_pipe(const char *name) {
    char path[300];
    snprintf(path, sizeof path, "\\\\.\\pipe\\%s", name);
    for (;;) {
        HANDLE pipe = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
        if (pipe != INVALID_HANDLE_VALUE) return pipe;
        if (GetLastError() != ERROR_PIPE_BUSY || !WaitNamedPipeA(path, 10000)) {
            fprintf(stderr, "%s: error %lu\n", path, GetLastError());
            exit(3);
        }
    }
}

static void read_all(HANDLE pipe, void *to, size_t count) {
    for (DWORD got; count > 0; to = (char *)to + got, count -= got)
        if (!ReadFile(pipe, to, count, &got, NULL) || got == 0) {
            fprintf(stderr, "read: error %lu\n", GetLastError());
            exit(5);
        }
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int whole = !strcmp(argv[1], "whole");
    HANDLE pipe = open_pipe(argv[2]);
    for (int i = 3; i + 1 < argc; i += 2) {
        struct message request = { 0 }, reply = { 0 };
        DWORD written, size;
        request.type = atoi(argv[i]);
        request.len = strlen(argv[i + 1]);
        memcpy(request.buf, argv[i + 1], request.len);
        size = whole ? sizeof request : 12u + request.len;
        if (!WriteFile(pipe, &request, size, &written, NULL) || written != size) return 4;
        read_all(pipe, &reply, whole ? sizeof reply : 12);
        if (!whole) read_all(pipe, reply.buf, reply.len);
        printf("%d %d %.*s\n", reply.type, reply.rc, reply.len, reply.buf);
    }
    CloseHandle(pipe);
    return 0;
}
