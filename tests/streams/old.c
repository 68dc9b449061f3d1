/*
 * Programs as they were written before there was Sidewire, all in one file:
 *
 *     old terminal-client PORT    sends its whole char buf[50] for each line of input
 *     old terminal-server         greets one client, prints what it says, never answers
 *     old echo-client PORT        sends its input, half-closes, prints what comes back
 *     old echo-server             sends back what one client sends
 *
 * Servers print their port first.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void send_all(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t sent = send(fd, bytes, count, 0);
        check(sent > 0, "send");
        bytes += sent;
        count -= (size_t)sent;
    }
}

static int connect_to(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0, "socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    return fd;
}

static int accept_one(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(listener >= 0, "socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    check(listen(listener, 5) == 0, "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    check(fd >= 0, "accept");
    return fd;
}

static int terminal_client(const char *port)
{
    int fd = connect_to(port);
    char buf[50];
    ssize_t count = recv(fd, buf, sizeof buf - 1, 0);
    check(count > 0, "recv");
    buf[count] = '\0';
    printf("%s", buf);
    fflush(stdout);
    memset(buf, '#', sizeof buf);
    while (fgets(buf, sizeof buf, stdin) != NULL && strcmp(buf, "exit\n") != 0)
        send_all(fd, buf, sizeof buf);
    close(fd);
    return 0;
}

static int terminal_server(void)
{
    int fd = accept_one();
    char buf[51];
    ssize_t count;
    send_all(fd, "hello \n", 7);
    while ((count = recv(fd, buf, sizeof buf - 1, 0)) > 0) {
        buf[count] = '\0';
        printf("%s", buf);
    }
    check(count == 0, "recv");
    close(fd);
    return 0;
}

static int echo_client(const char *port)
{
    int fd = connect_to(port);
    char buf[1024];
    ssize_t count;
    pid_t sender = fork();
    check(sender >= 0, "fork");
    if (sender == 0) {
        size_t got;
        while ((got = fread(buf, 1, sizeof buf, stdin)) > 0)
            send_all(fd, buf, got);
        shutdown(fd, SHUT_WR);
        _exit(0);
    }
    while ((count = recv(fd, buf, sizeof buf, 0)) > 0)
        fwrite(buf, 1, (size_t)count, stdout);
    check(count == 0, "recv");
    close(fd);
    return waitpid(sender, NULL, 0) == sender ? 0 : 1;
}

static int echo_server(void)
{
    int fd = accept_one();
    char buf[1024];
    ssize_t count;
    while ((count = recv(fd, buf, sizeof buf, 0)) > 0)
        send_all(fd, buf, (size_t)count);
    check(count == 0, "recv");
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (argc == 3 && strcmp(mode, "terminal-client") == 0)
        return terminal_client(argv[2]);
    if (argc == 2 && strcmp(mode, "terminal-server") == 0)
        return terminal_server();
    if (argc == 3 && strcmp(mode, "echo-client") == 0)
        return echo_client(argv[2]);
    if (argc == 2 && strcmp(mode, "echo-server") == 0)
        return echo_server();
    fprintf(stderr, "usage: old terminal-client PORT | terminal-server | echo-client PORT | echo-server\n");
    return 2;
}
