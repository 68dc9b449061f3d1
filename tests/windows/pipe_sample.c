#include <stdio.h>
#include <windows.h>

static int read_all(HANDLE pipe, void *to, DWORD count) {
    for (DWORD got; count > 0; to = (char *)to + got, count -= got)
        if (!ReadFile(pipe, to, count, &got, NULL) || got == 0) return 0;
    return 1;
}

int main(int argc, char **argv) {
    struct { int type, rc, len; char buf[1024]; } m = { 1, 0, 0, "" };
    DWORD how = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, written;
    HANDLE pipe = INVALID_HANDLE_VALUE;
    char path[256];
    if (argc < 2) return 2;
    snprintf(path, sizeof path, "\\\\.\\pipe\\%s", argv[1]);
    do pipe = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, how, NULL);
    while (pipe == INVALID_HANDLE_VALUE && GetLastError() == ERROR_PIPE_BUSY && WaitNamedPipeA(path, 5000));
    if (pipe == INVALID_HANDLE_VALUE) return 1;
    if (!WriteFile(pipe, &m, 12 + m.len, &written, NULL) || !read_all(pipe, &m, 12)) return 1;
    if (m.len < 0 || m.len > (int)sizeof m.buf || !read_all(pipe, m.buf, m.len)) return 1;
    printf("rc %d: %.*s\n", m.rc, m.len, m.buf);
    return 0;
}
