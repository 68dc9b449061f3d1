/* Pipes that go along with a call and with its reply, on both systems: handles serve ENDPOINT; handles call ENDPOINT. */
#include <sidewire.h>
#include <stdio.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif

enum { WRITE = 1, PATIENCE_MS = 60000 };

static int make_pipe(sw_descriptor *reader, sw_descriptor *writer) {
#ifdef _WIN32
    HANDLE ends[2];
    if (!CreatePipe(&ends[0], &ends[1], NULL, 0)) return 0;
#else
    int ends[2];
    if (pipe(ends)) return 0;
#endif
    *reader = (sw_descriptor)ends[0];
    *writer = (sw_descriptor)ends[1];
    return 1;
}

static int put(sw_descriptor to, const char *text) {
#ifdef _WIN32
    DWORD count;
    return WriteFile((HANDLE)to, text, (DWORD)strlen(text), &count, NULL) && count == strlen(text);
#else
    return write((int)to, text, strlen(text)) == (ssize_t)strlen(text);
#endif
}

/* Of so short a text all that was written comes at once. */
static const char *get(sw_descriptor from) {
    static char text[64];
#ifdef _WIN32
    DWORD count = 0;
    if (!ReadFile((HANDLE)from, text, sizeof text - 1, &count, NULL)) count = 0;
#else
    ssize_t count = read((int)from, text, sizeof text - 1);
    if (count < 0) count = 0;
#endif
    text[count] = 0;
    return text;
}

static void close_end(sw_descriptor end) {
#ifdef _WIN32
    CloseHandle((HANDLE)end);
#else
    close((int)end);
#endif
}

/* Writes into the pipe that has come, and answers with one to read from. */
static void handle(void *user, const sw_request *request, sw_reply *reply) {
    sw_attachments *came = NULL;
    sw_descriptor reader, writer;
    (void)user;
    if (sw_request_take_attachments(request, &came) || sw_attachments_len(came) != 1 || !make_pipe(&reader, &writer)) {
        sw_reply_fail(reply, 1, "one pipe, please");
        sw_attachments_free(came);
        return;
    }
    sw_descriptor theirs = sw_attachments_take(came);
    if (!put(theirs, "hello") || !put(writer, "and back") || sw_reply_attach(reply, reader)) sw_reply_fail(reply, 2, sw_error_text());
    close_end(theirs), close_end(reader), close_end(writer);
    sw_attachments_free(came);
}

static int serve(const char *endpoint) {
    sw_server *server = NULL;
    sw_listen_options *options = sw_listen_options_new();
    int fine = !sw_listen_options_attachments(options) && !sw_server_new(NULL, &server)
            && !sw_server_on(server, WRITE, handle, NULL) && !sw_server_listen(server, endpoint, options);
    sw_listen_options_free(options);
    if (fine) {
        printf("listening %s\n", sw_server_endpoint(server, 0));
        fflush(stdout);
        fine = !sw_server_run(server);
    }
    if (!fine) fprintf(stderr, "%s\n", sw_error_text());
    sw_server_free(server);
    return !fine;
}

/* Says what it has read from its own pipe, and from the one that came. */
static int call(const char *endpoint) {
    sw_client *client = NULL;
    sw_response *response = NULL;
    sw_attachments *set = sw_attachments_new(), *came = NULL;
    sw_client_options *options = sw_client_options_new();
    sw_descriptor reader, writer, theirs;
    int fine = make_pipe(&reader, &writer) && !sw_attachments_add(set, writer) && !sw_client_options_attachments(options)
            && !sw_client_connect(endpoint, options, &client)
            && !sw_call_attached(client, WRITE, "", 0, PATIENCE_MS, set, &response)
            && !sw_response_take_attachments(response, &came);
    if (!fine) fprintf(stderr, "%s\n", sw_error_text());
    else if (sw_response_rc(response)) printf("rc %d: %.*s\n", (int)sw_response_rc(response), (int)sw_response_len(response), sw_response_data(response));
    else {
        printf("%s ", get(reader));
        theirs = sw_attachments_take(came);
        printf("%s\n", get(theirs));
        close_end(theirs), close_end(reader), close_end(writer);
    }
    sw_attachments_free(came), sw_attachments_free(set);
    sw_response_free(response);
    sw_client_free(client);
    sw_client_options_free(options);
    return !fine;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    return strcmp(argv[1], "serve") ? call(argv[2]) : serve(argv[2]);
}
