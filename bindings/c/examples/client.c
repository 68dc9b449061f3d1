/* Adds 40 and 2 at the server beside this, and hears of it. */
#include <sidewire.h>
#include <stdio.h>

enum { ADD = 1, CHANGED = 1 };

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, sw_error_text());
    return 1;
}

int main(int argc, char **argv) {
    sw_client *client = NULL;
    sw_events *changes = NULL;
    sw_response *sum = NULL;
    sw_event *change = NULL;
    int status = 0;
    if (sw_client_connect(argc > 1 ? argv[1] : "local:com.example.counter", NULL, &client)) status = failed("connect");
    else if (sw_subscribe(client, CHANGED, &changes)) status = failed("subscribe");
    else if (sw_notify(client, ADD, "40", 2)) status = failed("notify");
    else if (sw_call(client, ADD, "2", 1, SW_DEFAULT_TIMEOUT, &sum)) status = failed("call");
    else printf("rc %d: %.*s\n", (int)sw_response_rc(sum), (int)sw_response_len(sum), sw_response_data(sum));
    for (int count = 0; !status && count < 2; count++, sw_event_free(change)) {
        if (sw_events_next(changes, 60000, &change)) status = failed("wait for an event");
        else printf("changed: %.*s\n", (int)sw_event_len(change), sw_event_data(change));
    }
    sw_response_free(sum);
    sw_events_free(changes);
    sw_client_free(client);
    return status;
}
