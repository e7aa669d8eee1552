#define _GNU_SOURCE
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define START_MS 30000
#define ARGUMENTS 32

static struct {
    char folder[256];
    char flags[512];
    /* The port it uses, and the one it uses after `server_move`. */
    int port, other_port;
    pid_t pid;
} server;

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void pause_ms(int ms) {
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&wait, &wait) != 0 && errno == EINTR) {
    }
}

/* Waits on the condition until it is told or the moment has passed; false if it has. The lock is held. */
static bool wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t deadline_ms) {
    struct timespec at = {deadline_ms / 1000, deadline_ms % 1000 * 1000000};
    return pthread_cond_timedwait(condition, lock, &at) != ETIMEDOUT;
}

static void condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
}

static void *zeroed(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL) abort();
    return memory;
}

/* What the server said last: without it a failure on another machine cannot be understood. */
static void print_server_log(void) {
    char path[300], text[2001];
    snprintf(path, sizeof path, "%s/server.log", server.folder);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    off_t size = lseek(fd, 0, SEEK_END);
    lseek(fd, size < 2000 ? 0 : size - 2000, SEEK_SET);
    ssize_t got = read(fd, text, 2000);
    close(fd);
    if (0 < got) printf("    the server's log ends with:\n%.*s\n", (int)got, text);
}

void fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    const char *name = strrchr(file, '/');
    printf("    %s:%d: ", name == NULL ? file : name + 1, line);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    print_server_log();
    fflush(stdout);
    _exit(1);
}

/* ---- the server ---- */

static struct sockaddr_in address(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A port below those that the system gives to outgoing connections: no client can take it while the server is down. */
static int free_port(int but) {
    for (int attempt = 0; attempt < 1000; attempt++) {
        int port = 24000 + (getpid() * 7 + attempt) % 1000, yes = 1;
        if (port == but) continue;
        struct sockaddr_in at = address(port);
        int probe = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        bool free = bind(probe, (struct sockaddr *)&at, sizeof at) == 0;
        close(probe);
        if (free) return port;
    }
    fail(__FILE__, __LINE__, "no port is free");
}

static void write_config(void) {
    char path[300];
    snprintf(path, sizeof path, "%s/zoo.cfg", server.folder);
    FILE *config = fopen(path, "w");
    CHECK(config != NULL);
    const char *extra = getenv("ZORILLA_CONF");
    fprintf(config,
            "tickTime=%d\ndataDir=%s/data\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"
            "4lw.commands.whitelist=*\nadmin.enableServer=false\n%s\n",
            TICK_MS, server.folder, server.port, extra == NULL ? "" : extra);
    CHECK(fclose(config) == 0);
}

void server_prepare(const char *folder, const char *flags) {
    char path[300];
    snprintf(server.folder, sizeof server.folder, "%s", folder);
    snprintf(server.flags, sizeof server.flags, "%s", flags == NULL ? "" : flags);
    server.port = free_port(0);
    server.other_port = free_port(server.port);
    snprintf(path, sizeof path, "%s/data", folder);
    CHECK(mkdir(path, 0700) == 0);
    write_config();
}

void server_move(void) {
    CHECK_INT(server.pid, 0);
    int port = server.port;
    server.port = server.other_port;
    server.other_port = port;
    write_config();
}

static bool serves(void) {
    char answer[64];
    struct sockaddr_in at = address(server.port);
    struct timeval patience = {2, 0};
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    size_t got = 0;
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(connection, (struct sockaddr *)&at, sizeof at) == 0 && write(connection, "srvr", 4) == 4) {
        ssize_t part;
        while (got < 17 && 0 < (part = read(connection, answer + got, 17 - got))) got += part;
    }
    close(connection);
    return got == 17 && memcmp(answer, "Zookeeper version", 17) == 0;
}

void server_start(void) {
    CHECK_INT(server.pid, 0);
    char line[4096], *arguments[ARGUMENTS], *rest = NULL;
    int count = 0;
    snprintf(line, sizeof line, "%s server %s %s/zoo.cfg", getenv("ZORILLA"), server.flags, server.folder);
    for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        CHECK(count < ARGUMENTS - 1);
        arguments[count++] = word;
    }
    arguments[count] = NULL;
    char log[300];
    snprintf(log, sizeof log, "%s/server.log", server.folder);
    server.pid = fork();
    CHECK(0 <= server.pid);
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(out, 1);
        dup2(out, 2);
        execvp(arguments[0], arguments);
        _exit(127);
    }
    int64_t deadline = now_ms() + START_MS;
    while (!serves()) {
        if (waitpid(server.pid, NULL, WNOHANG) != 0) fail(__FILE__, __LINE__, "the server ended while starting");
        if (deadline < now_ms()) fail(__FILE__, __LINE__, "the server does not answer within %d ms", START_MS);
        pause_ms(20);
    }
}

static void server_end(int how) {
    CHECK(server.pid != 0);
    kill(server.pid, how);
    int64_t deadline = now_ms() + START_MS;
    while (waitpid(server.pid, NULL, WNOHANG) == 0) {
        if (deadline < now_ms()) fail(__FILE__, __LINE__, "the server ignores signal %d", how);
        pause_ms(5);
    }
    server.pid = 0;
}

void server_kill(void) { server_end(SIGKILL); }
void server_stop(void) { server_end(SIGTERM); }

const char *server_hosts(const char *suffix) {
    static char hosts[300];
    snprintf(hosts, sizeof hosts, "127.0.0.1:%d%s", server.port, suffix);
    return hosts;
}

/* ---- events ---- */

struct inbox *inbox_new(void) {
    struct inbox *inbox = zeroed(sizeof *inbox);
    pthread_mutex_init(&inbox->lock, NULL);
    condition_init(&inbox->arrived);
    return inbox;
}

void inbox_watcher(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    struct inbox *inbox = context;
    if (type == ZOO_SESSION_EVENT) return;
    pthread_mutex_lock(&inbox->lock);
    if (inbox->received == (int)(sizeof inbox->events / sizeof *inbox->events)) abort();
    inbox->events[inbox->received].type = type;
    inbox->events[inbox->received].state = state;
    snprintf(inbox->events[inbox->received].path, sizeof inbox->events->path, "%s", path == NULL ? "" : path);
    inbox->received++;
    pthread_cond_broadcast(&inbox->arrived);
    pthread_mutex_unlock(&inbox->lock);
}

void inbox_expect_at(const char *file, int line, struct inbox *inbox, int type, const char *path) {
    int64_t deadline = now_ms() + WAIT_MS;
    pthread_mutex_lock(&inbox->lock);
    while (inbox->taken == inbox->received) {
        if (!wait_until(&inbox->arrived, &inbox->lock, deadline) && inbox->taken == inbox->received)
            fail(file, line, "no event came, expected one of type %d for %s", type, path);
    }
    int at = inbox->taken++, got = inbox->events[at].type;
    if (got != type || strcmp(inbox->events[at].path, path) != 0)
        fail(file, line, "event of type %d for %s, expected %d for %s", got, inbox->events[at].path, type, path);
    if (inbox->events[at].state != ZOO_CONNECTED_STATE)
        fail(file, line, "event with state %d", inbox->events[at].state);
    pthread_mutex_unlock(&inbox->lock);
}

void inbox_expect_none_at(const char *file, int line, struct inbox *inbox, zhandle_t *zh) {
    /* Events and replies of one connection keep their order, but the library delivers events on its own thread, some
     * time after a synchronous reply; 200 ms is long for a queue and short for a test. */
    if (zh != NULL) {
        struct Stat stat;
        int rc = zoo_exists(zh, "/", 0, &stat);
        if (rc != ZOK) fail(file, line, "exists /: %s", zerror(rc));
    }
    pause_ms(200);
    pthread_mutex_lock(&inbox->lock);
    if (inbox->taken != inbox->received)
        fail(file, line, "an event of type %d for %s, expected none", inbox->events[inbox->taken].type,
             inbox->events[inbox->taken].path);
    pthread_mutex_unlock(&inbox->lock);
}

/* ---- clients ---- */

static void client_watcher(zhandle_t *zh, int type, int state, const char *path, void *context) {
    struct client *client = context;
    if (type != ZOO_SESSION_EVENT) {
        inbox_watcher(zh, type, state, path, client->events);
        return;
    }
    pthread_mutex_lock(&client->lock);
    client->state = state;
    if (state == ZOO_CONNECTED_STATE) client->connects++;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

struct client *client_open(const char *suffix, int timeout_ms, const clientid_t *id, int flags) {
    struct client *client = zeroed(sizeof *client);
    pthread_mutex_init(&client->lock, NULL);
    condition_init(&client->changed);
    client->events = inbox_new();
    client->zh = zookeeper_init(server_hosts(suffix), client_watcher, timeout_ms, id, client, flags);
    CHECK(client->zh != NULL);
    return client;
}

struct client *client_connect(const char *suffix) {
    struct client *client = client_open(suffix, SESSION_MS, NULL, 0);
    client_wait_state(client, ZOO_CONNECTED_STATE);
    return client;
}

void client_wait_state_at(const char *file, int line, struct client *client, int state) {
    int64_t deadline = now_ms() + WAIT_MS;
    pthread_mutex_lock(&client->lock);
    while (client->state != state) {
        if (!wait_until(&client->changed, &client->lock, deadline) && client->state != state)
            fail(file, line, "the session is in state %d, expected %d", client->state, state);
    }
    pthread_mutex_unlock(&client->lock);
}

void client_wait_connects_at(const char *file, int line, struct client *client, int connects) {
    int64_t deadline = now_ms() + WAIT_MS;
    pthread_mutex_lock(&client->lock);
    while (client->connects < connects) {
        if (!wait_until(&client->changed, &client->lock, deadline) && client->connects < connects)
            fail(file, line, "connected %d times, expected %d; state %d", client->connects, connects, client->state);
    }
    pthread_mutex_unlock(&client->lock);
}

void client_close(struct client *client) {
    OK(zookeeper_close(client->zh));
    client->zh = NULL;
}

/* ---- completions ---- */

struct answer *answer_new(void) {
    struct answer *answer = zeroed(sizeof *answer);
    pthread_mutex_init(&answer->lock, NULL);
    condition_init(&answer->arrived);
    return answer;
}

int answer_wait(struct answer *answer) {
    int64_t deadline = now_ms() + WAIT_MS;
    pthread_mutex_lock(&answer->lock);
    while (!answer->done) {
        if (!wait_until(&answer->arrived, &answer->lock, deadline) && !answer->done)
            fail(__FILE__, __LINE__, "a completion was not called within %d ms", WAIT_MS);
    }
    pthread_mutex_unlock(&answer->lock);
    return answer->rc;
}

static void complete(struct answer *answer, int rc, const char *text, int text_len, const struct Stat *stat, int count) {
    pthread_mutex_lock(&answer->lock);
    if (answer->done) abort();
    answer->rc = rc;
    answer->text_len = text_len;
    if (text != NULL && 0 < text_len) snprintf(answer->text, sizeof answer->text, "%.*s", text_len, text);
    if (rc == ZOK && stat != NULL) answer->stat = *stat;
    answer->count = count;
    answer->done = true;
    pthread_cond_broadcast(&answer->arrived);
    pthread_mutex_unlock(&answer->lock);
}

/* The library hands our pointer back as one to a constant. */
static struct answer *of(const void *data) { return (struct answer *)(uintptr_t)data; }

static int length(const char *text) { return text == NULL ? -1 : (int)strlen(text); }

void answer_void(int rc, const void *data) { complete(of(data), rc, NULL, -1, NULL, 0); }
void answer_stat(int rc, const struct Stat *stat, const void *data) { complete(of(data), rc, NULL, -1, stat, 0); }
void answer_data(int rc, const char *value, int value_len, const struct Stat *stat, const void *data) {
    complete(of(data), rc, value, value_len, stat, 0);
}
void answer_string(int rc, const char *value, const void *data) {
    complete(of(data), rc, value, length(value), NULL, 0);
}
void answer_string_stat(int rc, const char *value, const struct Stat *stat, const void *data) {
    complete(of(data), rc, value, length(value), stat, 0);
}
void answer_strings(int rc, const struct String_vector *strings, const void *data) {
    complete(of(data), rc, NULL, -1, NULL, strings == NULL ? -1 : strings->count);
}
void answer_strings_stat(int rc, const struct String_vector *strings, const struct Stat *stat, const void *data) {
    complete(of(data), rc, NULL, -1, stat, strings == NULL ? -1 : strings->count);
}
void answer_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *data) {
    complete(of(data), rc, NULL, -1, stat, acl == NULL ? -1 : acl->count);
}

/* ---- shorthand ---- */

void make(struct client *client, const char *path, const char *data) {
    int rc = zoo_create(client->zh, path, data, length(data), &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    if (rc != ZOK) fail(__FILE__, __LINE__, "create %s: %s", path, zerror(rc));
}

bool exists(struct client *client, const char *path) {
    struct Stat stat;
    int rc = zoo_exists(client->zh, path, 0, &stat);
    if (rc != ZOK && rc != ZNONODE) fail(__FILE__, __LINE__, "exists %s: %s", path, zerror(rc));
    return rc == ZOK;
}

void wait_gone_at(const char *file, int line, struct client *client, const char *path) {
    int64_t deadline = now_ms() + WAIT_MS;
    while (exists(client, path)) {
        if (deadline < now_ms()) fail(file, line, "%s still exists after %d ms", path, WAIT_MS);
        pause_ms(20);
    }
}
