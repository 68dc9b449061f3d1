/* What the server and the client of the floor share: endpoints, frames, the clock. README.md has the command lines. */
#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* A frame of v1: u32 length, u8 kind, u8 flags, u16 type, u32 id, i32 rc, then the payload; little-endian. */
enum { HEADER = 16, REQUEST = 1, SUBSCRIBE = 5 };

struct address {
    struct sockaddr_storage bytes;
    socklen_t length;
    int family;
    int type; /* SOCK_STREAM or SOCK_DGRAM */
    char text[256];
};

/* Ends the program, with the reason of errno if there is one. */
_Noreturn void fail(const char *what);
/* unix:/PATH abstract:NAME tcp:HOST:PORT unixgram:/PATH udp:HOST:PORT, hosts in numbers. */
struct address address_of(const char *endpoint);
/* Bound, and listening if it is a stream; prints `listening ENDPOINT` with the port really bound. */
int listen_at(struct address *address);
/* Datagram sockets get an address of their own, so that they can be answered. */
int connect_to(const struct address *address);
void no_delay(int fd);
void set_nonblocking(int fd);
void read_all(int fd, void *bytes, size_t count);
void write_all(int fd, const void *bytes, size_t count);
/* As many descriptors as the system gives. */
void raise_descriptor_limit(void);
/* Ends with its parent, so that nothing is left behind. */
void end_with_parent(void);
/* Nanoseconds of a clock that only goes forward. */
uint64_t now(void);

#endif
