/* Programs as people wrote them before there was Sidewire: datagrams that hold a struct, whole.
 *
 *   old getset-client unix PATH | abstract NAME | udp PORT
 *   old echo-client   unix PATH | abstract NAME | udp PORT
 *   old print-server  udp
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct msg {
    int msg_type;
    int msg_rc;
    int msg_length;
    char msg_buffer[1024];
};

static union {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
} server, own;
static socklen_t server_length, own_length;
static int s;

static void die(const char *what) {
    perror(what);
    if (own.any.sa_family == AF_UNIX)
        unlink(own.un.sun_path);
    exit(1);
}

static void open_socket(const char *kind, const char *where) {
    struct timeval patience = { 10, 0 };
    if (!strcmp(kind, "udp")) {
        server.in.sin_family = AF_INET;
        server.in.sin_port = htons(atoi(where));
        server.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        server_length = sizeof server.in;
        s = socket(AF_INET, SOCK_DGRAM, 0);
    } else {
        int is_abstract = !strcmp(kind, "abstract");
        server.un.sun_family = AF_UNIX;
        strncpy(server.un.sun_path + is_abstract, where, sizeof server.un.sun_path - 2);
        server_length = is_abstract ? offsetof(struct sockaddr_un, sun_path) + 1 + strlen(where)
                                    : sizeof server.un;
        s = socket(AF_UNIX, SOCK_DGRAM, 0);
        own.un.sun_family = AF_UNIX;
        snprintf(own.un.sun_path, sizeof own.un.sun_path, "/tmp/old-%d.sock", (int)getpid());
        own_length = sizeof own.un;
        unlink(own.un.sun_path);
        if (bind(s, &own.any, own_length))
            die("bind");
    }
    if (s < 0 || setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience))
        die("socket");
}

static void ask(int type, const char *text) {
    struct msg m;
    ssize_t count;
    memset(&m, 'j', sizeof m); /* who cleans up behind the text? */
    m.msg_type = type;
    m.msg_length = strlen(text);
    memcpy(m.msg_buffer, text, m.msg_length);
    if (sendto(s, &m, sizeof m, 0, &server.any, server_length) != sizeof m)
        die("sendto");
    count = recvfrom(s, &m, sizeof m, 0, NULL, NULL);
    if (count < 12 || m.msg_length < 0 || count < 12 + m.msg_length)
        die("recvfrom");
    printf("type %d rc %d: %.*s\n", m.msg_type, m.msg_rc, m.msg_length, m.msg_buffer);
}

int main(int argc, char **argv) {
    static char buffer[65536];
    if (argc == 4 && !strcmp(argv[1], "getset-client")) {
        open_socket(argv[2], argv[3]);
        ask(1, "");
        ask(2, "set from C");
        ask(1, "");
        ask(3, "once more");
        ask(1, "ignored");
        ask(99, "");
        ask(1000, "");
        ask(-1, "");
    } else if (argc == 4 && !strcmp(argv[1], "echo-client")) {
        open_socket(argv[2], argv[3]);
        while (fgets(buffer, sizeof buffer, stdin)) {
            size_t length = strlen(buffer) - 1;
            ssize_t count;
            if (sendto(s, buffer, length, 0, &server.any, server_length) != (ssize_t)length)
                die("sendto");
            if ((count = recvfrom(s, buffer, sizeof buffer, 0, NULL, NULL)) < 0)
                die("recvfrom");
            printf("%.*s\n", (int)count, buffer);
        }
    } else if (argc == 3 && !strcmp(argv[1], "print-server")) {
        open_socket(argv[2], "0");
        server_length = sizeof server.in;
        if (bind(s, &server.any, server_length) || getsockname(s, &server.any, &server_length))
            die("bind");
        printf("%d\n", ntohs(server.in.sin_port));
        fflush(stdout);
        for (;;) {
            ssize_t count;
            own_length = sizeof own.in;
            count = recvfrom(s, buffer, sizeof buffer, 0, &own.any, &own_length);
            if (count < 0)
                die("recvfrom");
            printf("%.*s\n", (int)count, buffer);
            fflush(stdout);
            if (sendto(s, "thanks", 7, 0, &own.any, own_length) < 0)
                die("sendto");
            if (count == 3 && !memcmp(buffer, "end", 3))
                break;
        }
    } else {
        return 2;
    }
    if (own.any.sa_family == AF_UNIX)
        unlink(own.un.sun_path);
    return 0;
}
