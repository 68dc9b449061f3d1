/* A classic client by Winsock: tcp_client short|whole PORT (TYPE TEXT)...
   Prints each reply's type, rc and text. "whole" sends and receives the whole struct. */
#include <winsock2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct message { int type, rc, len; char buf[1024]; };

static void receive_all(SOCKET s, char *to, int count) {
    for (int got; count > 0; to += got, count -= got)
        if ((got = recv(s, to, count, 0)) <= 0) {
            fprintf(stderr, "recv: %d, error %d\n", got, WSAGetLastError());
            exit(5);
        }
}

int main(int argc, char **argv) {
    struct sockaddr_in server = { .sin_family = AF_INET };
    WSADATA data;
    SOCKET s;
    if (argc < 5 || WSAStartup(MAKEWORD(2, 2), &data)) return 2;
    int whole = !strcmp(argv[1], "whole");
    server.sin_port = htons(atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (s == INVALID_SOCKET || connect(s, (struct sockaddr *)&server, sizeof server)) {
        fprintf(stderr, "connect: error %d\n", WSAGetLastError());
        return 3;
    }
    for (int i = 3; i + 1 < argc; i += 2) {
        struct message request = { 0 }, reply = { 0 };
        int size;
        request.type = atoi(argv[i]);
        request.len = strlen(argv[i + 1]);
        memcpy(request.buf, argv[i + 1], request.len);
        size = whole ? (int)sizeof request : 12 + request.len;
        if (send(s, (char *)&request, size, 0) != size) return 4;
        receive_all(s, (char *)&reply, whole ? (int)sizeof reply : 12);
        if (!whole) receive_all(s, reply.buf, reply.len);
        printf("%d %d %.*s\n", reply.type, reply.rc, reply.len, reply.buf);
    }
    closesocket(s);
    WSACleanup();
    return 0;
}
