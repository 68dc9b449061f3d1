/* Datagrams by Winsock: udp_client text PORT TEXT...
                         udp_client short|whole PORT (TYPE TEXT)...
   Prints what comes back: the text, or the type, rc and text of a classic reply. */
#include <winsock2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct message { int type, rc, len; char buf[1024]; };

/* One datagram there, one back; returns its length. */
static int ask(SOCKET s, const char *request, int size, char *reply, int room) {
    int got;
    if (send(s, request, size, 0) != size) exit(4);
    if ((got = recv(s, reply, room, 0)) < 0) {
        fprintf(stderr, "recv: error %d\n", WSAGetLastError());
        exit(5);
    }
    return got;
}

int main(int argc, char **argv) {
    struct sockaddr_in server = { .sin_family = AF_INET };
    DWORD patience = 10000; /* milliseconds */
    WSADATA data;
    SOCKET s;
    if (argc < 4 || WSAStartup(MAKEWORD(2, 2), &data)) return 2;
    int text = !strcmp(argv[1], "text"), whole = !strcmp(argv[1], "whole");
    server.sin_port = htons(atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, (char *)&patience, sizeof patience);
    if (s == INVALID_SOCKET || connect(s, (struct sockaddr *)&server, sizeof server)) return 3;
    for (int i = 3; text && i < argc; i++) {
        char reply[2048];
        int got = ask(s, argv[i], strlen(argv[i]), reply, sizeof reply);
        printf("%.*s\n", got, reply);
    }
    for (int i = 3; !text && i + 1 < argc; i += 2) {
        struct message request = { 0 }, reply = { 0 };
        int size, got;
        request.type = atoi(argv[i]);
        request.len = strlen(argv[i + 1]);
        memcpy(request.buf, argv[i + 1], request.len);
        size = whole ? (int)sizeof request : 12 + request.len;
        got = ask(s, (char *)&request, size, (char *)&reply, sizeof reply);
        if (got != (whole ? (int)sizeof reply : 12 + reply.len)) return 6;
        printf("%d %d %.*s\n", reply.type, reply.rc, reply.len, reply.buf);
    }
    closesocket(s);
    WSACleanup();
    return 0;
}
