/* Plays files of tests/conversations/calls over the C library: play ENDPOINT FILE... (README.md there says what they say).
 * With SIDEWIRE_ACCESS=anyone in the environment the server may be anybody's. */
#include <sidewire.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 16, PATIENCE_MS = 60000 };

/* Bytes of its own. */
struct bytes { char *data; size_t len; };

/* What a call came to: bytes is a copy. */
struct outcome { int rc; struct bytes bytes; };

/* How one of the server's calls is answered. */
struct service { int rc; struct bytes text; };

struct play {
    const char *name, *endpoint;
    int line;
    sw_client_options *options;
    sw_client *client;
    struct service services[NAMES];
    int serviced;
    char names[NAMES][32];
    sw_pending *pending[NAMES];
    int topics[NAMES];
    sw_events *events[NAMES];
};

static void *need(void *memory) {
    if (!memory) exit((fprintf(stderr, "no memory\n"), 3));
    return memory;
}

static struct bytes copy(const char *data, size_t len) {
    struct bytes bytes = { need(malloc(len + 1)), len };
    if (len) memcpy(bytes.data, data, len);
    bytes.data[len] = 0;
    return bytes;
}

/* Says what came in place of what was expected. Gives 0. */
static int differs(const struct play *play, const char *format, ...) {
    va_list values;
    va_start(values, format);
    printf("%s:%d: ", play->name, play->line);
    vprintf(format, values);
    printf("\n");
    va_end(values);
    return 0;
}

/* What a library tells as an error of its own counts as the code of the same meaning. */
static int rc_of(sw_status status) {
    switch (status) {
    case SW_ANSWERED: return sw_error_rc();
    case SW_TIMED_OUT: return SW_RC_TIMED_OUT;
    default: return SW_RC_NONE;
    }
}

static struct outcome outcome_of(sw_status status, sw_response *response) {
    struct outcome outcome;
    if (!response) {
        outcome.rc = rc_of(status);
        outcome.bytes = copy(sw_error_text(), outcome.rc == SW_RC_NONE ? strlen(sw_error_text()) : 0);
    } else {
        outcome.rc = sw_response_rc(response);
        outcome.bytes = copy(sw_response_data(response), sw_response_len(response));
    }
    sw_response_free(response);
    return outcome;
}

/* The words of a line. */

static char *skip(char *at) {
    while (*at == ' ' || *at == '\n' || *at == '\r') at++;
    return at;
}

static char *word(char **at, char *into, size_t room) {
    size_t len = 0;
    for (*at = skip(*at); **at > ' '; (*at)++)
        if (len + 1 < room) into[len++] = **at;
    into[len] = 0;
    return into;
}

static int is_word(char **at, const char *wanted) {
    size_t len = strlen(wanted);
    *at = skip(*at);
    if (strncmp(*at, wanted, len) || (unsigned char)(*at)[len] > ' ') return 0;
    *at += len;
    return 1;
}

static long number(char **at) { return strtol(*at = skip(*at), at, 10); }

static int is_text(char **at) { return *(*at = skip(*at)) == '"'; }

/* A TEXT, with what its escapes stand for, as often as it says. */
static struct bytes text(char **at) {
    char *from = skip(*at);
    struct bytes once = { need(malloc(strlen(from) + 1)), 0 }, all;
    for (from++; *from && *from != '"'; from++) {
        char c = *from;
        if (c == '\\') switch (c = *++from) {
            case 'n': c = '\n'; break;
            case 't': c = '\t'; break;
            case 'r': c = '\r'; break;
            case 'x': {
                char digits[3] = { from[1], from[2], 0 };
                c = (char)strtol(digits, NULL, 16);
                from += 2;
            }
        }
        once.data[once.len++] = c;
    }
    size_t times = 1;
    if (*from && *++from == '*') times = strtoul(from + 1, &from, 10);
    all.len = once.len * times;
    all.data = need(malloc(all.len + 1));
    for (size_t i = 0; i < times; i++) memcpy(all.data + i * once.len, once.data, once.len);
    all.data[all.len] = 0;
    free(once.data);
    *at = from;
    return all;
}

/* Holds an outcome, which is used up, to `-> RC` or `-> RC TEXT`. */
static int is_as_said(const struct play *play, char **at, struct outcome outcome) {
    int rc = (int)number(at), right = rc == outcome.rc;
    if (is_text(at)) {
        struct bytes wanted = text(at);
        right = right && wanted.len == outcome.bytes.len && !memcmp(wanted.data, outcome.bytes.data, wanted.len);
        free(wanted.data);
    }
    if (!right)
        differs(play, "%d, %lu bytes: %.60s", outcome.rc, (unsigned long)outcome.bytes.len, outcome.bytes.data);
    free(outcome.bytes.data);
    return right;
}

static int arrow(const struct play *play, char **at) { return is_word(at, "->") || differs(play, "no arrow here"); }

/* What the lines do. Each gives 1 if all is as it says. */

static void serve(void *user, const sw_request *request, sw_reply *reply) {
    const struct service *service = user;
    if (service->rc) {
        sw_reply_fail(reply, service->rc, service->text.data);
        return;
    }
    const char *data = sw_request_data(request);
    for (size_t i = 0; i < sw_request_len(request); i++) {
        char upper = data[i] >= 'a' && data[i] <= 'z' ? (char)(data[i] - 'a' + 'A') : data[i];
        sw_reply_write(reply, &upper, 1);
    }
}

static int add_service(struct play *play, char *at) {
    if (play->serviced == NAMES) return differs(play, "too many services");
    struct service *service = &play->services[play->serviced++];
    uint16_t type = (uint16_t)number(&at);
    if (is_word(&at, "fail")) {
        service->rc = (int)number(&at);
        service->text = text(&at);
    }
    return !sw_client_options_on(play->options, type, serve, service) || differs(play, "%s", sw_error_text());
}

static uint32_t timeout(char **at) { return is_word(at, "timeout") ? (uint32_t)number(at) : 30000; }

static int call(struct play *play, char *at) {
    uint16_t type = (uint16_t)number(&at);
    struct bytes data = text(&at);
    sw_response *response = NULL;
    sw_status status = sw_call(play->client, type, data.data, data.len, timeout(&at), &response);
    free(data.data);
    struct outcome outcome = outcome_of(status, response);
    if (arrow(play, &at)) return is_as_said(play, &at, outcome);
    free(outcome.bytes.data);
    return 0;
}

static int notify(struct play *play, char *at) {
    uint16_t type = (uint16_t)number(&at);
    struct bytes data = text(&at);
    sw_status status = sw_notify(play->client, type, data.data, data.len);
    free(data.data);
    return !status || differs(play, "%s", sw_error_text());
}

/* The place of the call of this name, or of none ("") if there is room. */
static int find(const struct play *play, const char *name) {
    for (int i = 0; i < NAMES; i++)
        if (!strcmp(play->names[i], name)) return i;
    return -1;
}

static int start(struct play *play, char *at) {
    char name[32];
    int i = find(play, "");
    word(&at, name, sizeof name);
    if (i < 0) return differs(play, "too many calls");
    uint16_t type = (uint16_t)number(&at);
    struct bytes data = text(&at);
    sw_status status = sw_start(play->client, type, data.data, data.len, timeout(&at), &play->pending[i]);
    free(data.data);
    if (status) return differs(play, "%s", sw_error_text());
    strcpy(play->names[i], name);
    return !sw_client_flush(play->client) || differs(play, "%s", sw_error_text());
}

static int cancel(struct play *play, char *at) {
    char name[32];
    int i = find(play, word(&at, name, sizeof name));
    if (i < 0) return differs(play, "no call %s", name);
    return !sw_cancel(play->pending[i]) || differs(play, "%s", sw_error_text());
}

static int wait_for(struct play *play, char *at) {
    char name[32];
    int i = find(play, word(&at, name, sizeof name));
    if (i < 0 || !arrow(play, &at)) return differs(play, "no call %s", name);
    sw_response *response = NULL;
    sw_status status = sw_wait(play->pending[i], SW_NO_TIMEOUT, &response);
    struct outcome outcome = outcome_of(status, response);
    sw_pending_free(play->pending[i]);
    play->names[i][0] = 0;
    return is_as_said(play, &at, outcome);
}

static int parts(struct play *play, char *at) {
    uint16_t type = (uint16_t)number(&at);
    struct bytes data = text(&at);
    sw_parts *parts = NULL;
    sw_response *part = NULL;
    int right = arrow(play, &at);
    sw_status status = sw_stream(play->client, type, data.data, data.len, 30000, &parts);
    free(data.data);
    while (right && !status && !(status = sw_parts_next(parts, &part))) {
        if (!is_text(&at)) {
            right = differs(play, "one more part: %.*s", (int)sw_response_len(part), sw_response_data(part));
            sw_response_free(part);
        } else {
            struct bytes wanted = text(&at);
            right = wanted.len == sw_response_len(part) && !memcmp(wanted.data, sw_response_data(part), wanted.len);
            if (!right) differs(play, "part %.*s", (int)sw_response_len(part), sw_response_data(part));
            free(wanted.data);
            sw_response_free(part);
        }
    }
    if (right) {
        struct outcome outcome = outcome_of(status, part);
        if (is_word(&at, "then")) right = is_as_said(play, &at, outcome);
        else right = differs(play, "the end, too early"), free(outcome.bytes.data);
    }
    sw_parts_free(parts);
    return right;
}

static sw_events **events_of(struct play *play, int topic) {
    for (int i = 0; i < NAMES; i++)
        if (play->events[i] && play->topics[i] == topic) return &play->events[i];
    return NULL;
}

static int subscribe(struct play *play, char *at) {
    int topic = (int)number(&at), i = 0;
    while (i < NAMES && play->events[i]) i++;
    if (i == NAMES || !arrow(play, &at)) return differs(play, "too many topics");
    sw_status status = sw_subscribe(play->client, (uint16_t)topic, &play->events[i]);
    play->topics[i] = topic;
    struct outcome outcome = { status ? rc_of(status) : 0, copy(sw_error_text(), status ? strlen(sw_error_text()) : 0) };
    return is_as_said(play, &at, outcome);
}

static int unsubscribe(struct play *play, char *at) {
    sw_events **events = events_of(play, (int)number(&at));
    if (!events || !arrow(play, &at)) return differs(play, "no such subscription");
    sw_events_free(*events);
    *events = NULL;
    struct outcome outcome = { 0, copy("", 0) };
    return is_as_said(play, &at, outcome);
}

static int event(struct play *play, char *at) {
    sw_events **events = events_of(play, (int)number(&at));
    sw_event *event = NULL;
    if (!events) return differs(play, "no such subscription");
    sw_status status = sw_events_next(*events, PATIENCE_MS, &event);
    if (status) return differs(play, "no event: %s", status == SW_NOT_YET ? "in time" : sw_error_text());
    struct bytes wanted = text(&at);
    size_t len = sw_event_len(event);
    int right = !sw_event_dropped(event) && wanted.len == len && !memcmp(wanted.data, sw_event_data(event), len);
    if (!right) differs(play, "%u dropped, %.*s", (unsigned)sw_event_dropped(event), (int)len, sw_event_data(event));
    free(wanted.data);
    sw_event_free(event);
    return right;
}

static const struct { const char *word; int (*run)(struct play *, char *); } WORDS[] = {
    { "call", call }, { "notify", notify }, { "start", start }, { "cancel", cancel }, { "wait", wait_for },
    { "parts", parts }, { "subscribe", subscribe }, { "unsubscribe", unsubscribe }, { "event", event },
};

static int line(struct play *play, char *at) {
    at = skip(at);
    if (!*at || *at == '#') return 1;
    if (is_word(&at, "serve")) return add_service(play, at);
    if (!play->client && sw_client_connect(play->endpoint, play->options, &play->client))
        return differs(play, "%s", sw_error_text());
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (is_word(&at, WORDS[i].word)) return WORDS[i].run(play, at);
    return differs(play, "nobody knows this: %s", at);
}

static int play_file(const char *endpoint, const char *path) {
    static char text[1 << 16]; /* a line */
    struct play play;
    memset(&play, 0, sizeof play);
    const char *slash = strrchr(path, '/'), *who = getenv("SIDEWIRE_ACCESS");
    play.name = slash ? slash + 1 : path;
    play.endpoint = endpoint;
    play.options = sw_client_options_new();
    if (who && !strcmp(who, "anyone")) sw_client_options_access(play.options, SW_ACCESS_ANYONE);
    FILE *file = fopen(path, "rb");
    int right = file || differs(&play, "can't be read");
    while (right && fgets(text, sizeof text, file)) {
        play.line++;
        right = line(&play, text);
    }
    if (file) fclose(file);
    if (right) printf("%s: ok\n", play.name);
    for (int i = 0; i < NAMES; i++) {
        if (play.names[i][0]) sw_pending_free(play.pending[i]);
        sw_events_free(play.events[i]);
    }
    sw_client_free(play.client);
    sw_client_options_free(play.options);
    for (int i = 0; i < play.serviced; i++) free(play.services[i].text.data);
    return right;
}

int main(int argc, char **argv) {
    int right = argc > 2;
    if (!right) fprintf(stderr, "usage: play ENDPOINT FILE...\n");
    for (int i = 2; i < argc; i++) right &= play_file(argv[1], argv[i]);
    return !right;
}
