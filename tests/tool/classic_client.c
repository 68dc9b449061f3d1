/* A classic client: classic_client short|whole TYPE TEXT /path | @abstract | PORT
   Prints the reply's type, rc and text. "whole" sends and reads the whole struct. */
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct message { int type, rc, len; char buf[1024]; };

static int open_to(const char *where) {
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = htons(atoi(where)) };
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + strlen(where);
    int is_local = *where == '/' || *where == '@', fd;
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(local.sun_path, where, strlen(where));
    if (*where == '@') local.sun_path[0] = 0; /* abstract: exactly these bytes */
    fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (is_local ? connect(fd, (struct sockaddr *)&local, size + (*where == '/'))
                 : connect(fd, (struct sockaddr *)&inet, sizeof inet)) {
        perror(where);
        exit(3);
    }
    return fd;
}

static void read_all(int fd, void *to, size_t count) {
    for (ssize_t got; count > 0; to = (char *)to + got, count -= got)
        if ((got = read(fd, to, count)) <= 0) exit(5);
}

int main(int argc, char **argv) {
    struct message request = { 0 }, reply = { 0 };
    int whole = argc == 5 && !strcmp(argv[1], "whole"), fd;
    if (argc != 5) return 2;
    fd = open_to(argv[4]);
    request.type = atoi(argv[2]);
    request.len = strlen(argv[3]);
    memcpy(request.buf, argv[3], request.len);
    if (write(fd, &request, whole ? sizeof request : 12 + strlen(argv[3])) < 12) return 5;
    read_all(fd, &reply, whole ? sizeof reply : 12);
    if (!whole) read_all(fd, reply.buf, reply.len);
    printf("%d %d %.*s\n", reply.type, reply.rc, reply.len, reply.buf);
    return 0;
}
