/* A counter: 1 adds a number, in decimal text, and answers with the sum, which is an event, too. Ctrl-C ends it. */
#include <sidewire.h>
#include <stdio.h>
#include <stdlib.h>

enum { ADD = 1, CHANGED = 1 };

static void add(void *user, const sw_request *request, sw_reply *reply) {
    long *sum = user;
    char text[32] = "";
    int len = snprintf(text, sizeof text, "%.*s", (int)sw_request_len(request), sw_request_data(request));
    if (len < 1 || len >= (int)sizeof text) {
        sw_reply_fail(reply, SW_RC_MALFORMED, "a number, please");
        return;
    }
    len = snprintf(text, sizeof text, "%ld", *sum += atol(text));
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
