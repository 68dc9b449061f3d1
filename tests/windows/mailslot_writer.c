/* Writes to a mailslot: mailslot_writer text NAME TEXT...
                         mailslot_writer set NAME TEXT...
   One message for each text: the text itself, or a classic request of type 2 with it. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

struct message { int type, rc, len; char buf[1024]; };

int main(int argc, char **argv) {
    char path[300];
    HANDLE slot;
    if (argc < 4) return 2;
    snprintf(path, sizeof path, "\\\\.\\mailslot\\%s", argv[2]);
    slot = CreateFileA(path, GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
    if (slot == INVALID_HANDLE_VALUE) {
        fprintf(stderr, "%s: error %lu\n", path, GetLastError());
        return 3;
    }
    for (int i = 3; i < argc; i++) {
        struct message request = { 2, 0, strlen(argv[i]), { 0 } };
        int is_set = !strcmp(argv[1], "set");
        const void *bytes = is_set ? (const void *)&request : argv[i];
        DWORD size = (is_set ? 12u : 0u) + request.len, written;
        memcpy(request.buf, argv[i], request.len);
        if (!WriteFile(slot, bytes, size, &written, NULL) || written != size) {
            fprintf(stderr, "write: error %lu\n", GetLastError());
            return 4;
        }
    }
    CloseHandle(slot);
    return 0;
}
