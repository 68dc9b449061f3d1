/* A counter: 1 adds a number, in decimal text, and answers with the sum, which is an event, too. Ctrl-C ends it. */
#include <errno.h>
#include <limits.h>
#include <sidewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADD = 1, CHANGED = 1 };

/* Whether the payload is a number, and one that the sum has room for. */
static int number(const sw_request *request, long sum, long *number) {
    char text[32], *end;
    size_t len = sw_request_len(request);
    if (!len || len >= sizeof text) return 0;
    memcpy(text, sw_request_data(request), len);
    text[len] = 0;
    errno = 0;
    *number = strtol(text, &end, 10);
    return end == text + len && !errno && (*number < 0 ? sum >= LONG_MIN - *number : sum <= LONG_MAX - *number);
}

static void add(void *user, const sw_request *request, sw_reply *reply) {
    long *sum = user, more;
    char text[32];
    if (!number(request, *sum, &more)) {
        sw_reply_fail(reply, SW_RC_MALFORMED, "a number, please");
        return;
    }
    int len = snprintf(text, sizeof text, "%ld", *sum += more);
    sw_reply_write(reply, text, (size_t)len);
    sw_request_publish(request, CHANGED, text, (size_t)len); /* behind the reply */
}

int main(int argc, char **argv) {
    long sum = 0;
    sw_server *server = NULL;
    int fine = !sw_server_new(NULL, &server) && !sw_server_on(server, ADD, add, &sum)
            && !sw_server_topic(server, CHANGED, SW_SLOW_KEEP_LATEST) && !sw_server_stop_on_signals(server)
            && !sw_server_listen(server, argc > 1 ? argv[1] : "local:com.example.counter", NULL);
    if (fine) {
        printf("listening %s\n", sw_server_endpoint(server, 0));
        fflush(stdout);
        fine = !sw_server_run(server);
    }
    if (!fine) fprintf(stderr, "%s\n", sw_error_text());
    sw_server_free(server);
    return !fine;
}
