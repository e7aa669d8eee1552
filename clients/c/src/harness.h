/* What the scenarios of the C client share: a server of their own, clients, and events that can be waited for.
 *
 * A scenario runs in a process of its own with a server of its own. The first check that does not hold ends that
 * process, so a scenario never cleans up: the runner removes the server, the threads and the files with it. */
#ifndef ZORILLA_HARNESS_H
#define ZORILLA_HARNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zookeeper.h>

/* What anything may take that the scenario waits for. */
#define WAIT_MS 15000
/* The server's tick: sessions are granted between 2 and 20 of them. */
#define TICK_MS 500
/* Long enough for every pause of a slow machine, within what the server grants. */
#define SESSION_MS 8000

struct scenario {
    const char *name;
    /* Flags of the server, separated by spaces; NULL for none. */
    const char *flags;
    void (*run)(void);
};

extern const struct scenario crud_scenarios[];
extern const struct scenario multi_scenarios[];
extern const struct scenario acl_scenarios[];
extern const struct scenario watch_scenarios[];
extern const struct scenario session_scenarios[];

/* ---- checks ---- */

_Noreturn void fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) fail(__FILE__, __LINE__, "%s", #condition);                                                 \
    } while (0)

#define CHECK_INT(actual, expected)                                                                                   \
    do {                                                                                                              \
        long long actual_ = (actual), expected_ = (expected);                                                         \
        if (actual_ != expected_)                                                                                     \
            fail(__FILE__, __LINE__, "%s is %lld, expected %lld", #actual, actual_, expected_);                       \
    } while (0)

#define CHECK_STR(actual, expected)                                                                                   \
    do {                                                                                                              \
        const char *actual_ = (actual), *expected_ = (expected);                                                      \
        if (strcmp(actual_, expected_) != 0)                                                                          \
            fail(__FILE__, __LINE__, "%s is \"%s\", expected \"%s\"", #actual, actual_, expected_);                   \
    } while (0)

/* A call of the client that must give this code. */
#define CHECK_RC(call, code)                                                                                          \
    do {                                                                                                              \
        int rc_ = (call);                                                                                             \
        if (rc_ != (code))                                                                                            \
            fail(__FILE__, __LINE__, "%s: %d (%s), expected %d (%s)", #call, rc_, zerror(rc_), (code), zerror(code)); \
    } while (0)

#define OK(call) CHECK_RC(call, ZOK)

/* ---- the server ---- */

/* Makes the configuration in `folder`; nothing runs yet. */
void server_prepare(const char *folder, const char *flags);
/* Returns when requests are answered. */
void server_start(void);
/* As a crash of the process. */
void server_kill(void);
/* As an operator stops it. */
void server_stop(void);
/* The next start uses the other of its two ports: clients of the first do not find it until it moves back. */
void server_move(void);
/* `127.0.0.1:<port>` and then `suffix`; the text stays valid until the next call. */
const char *server_hosts(const char *suffix);

/* ---- events ---- */

/* One watcher's events in the order in which they came. */
struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct {
        int type, state;
        char path[256];
    } events[64];
    int received, taken;
};

struct inbox *inbox_new(void);
/* A watcher_fn whose context is an inbox. Session events are left out: every watcher gets them. */
void inbox_watcher(zhandle_t *zh, int type, int state, const char *path, void *context);
/* The next event must be this one. */
void inbox_expect_at(const char *file, int line, struct inbox *inbox, int type, const char *path);
#define inbox_expect(inbox, type, path) inbox_expect_at(__FILE__, __LINE__, inbox, type, path)
/* No event is left, and none comes while every request made so far is answered. */
void inbox_expect_none_at(const char *file, int line, struct inbox *inbox, zhandle_t *zh);
#define inbox_expect_none(inbox, zh) inbox_expect_none_at(__FILE__, __LINE__, inbox, zh)

/* ---- clients ---- */

struct client {
    zhandle_t *zh;
    /* What watches set with the `watch` flag report. */
    struct inbox *events;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* The last session state reported. */
    int state;
    /* How often a connection was established. */
    int connects;
};

/* A client whose session is established. */
struct client *client_connect(const char *suffix);
/* One that need not get there: of a session that exists (`id` may be NULL), with this timeout and these flags. */
struct client *client_open(const char *suffix, int timeout_ms, const clientid_t *id, int flags);
void client_wait_state_at(const char *file, int line, struct client *client, int state);
#define client_wait_state(client, state) client_wait_state_at(__FILE__, __LINE__, client, state)
/* Waits until a connection was established `connects` times in all. */
void client_wait_connects_at(const char *file, int line, struct client *client, int connects);
#define client_wait_connects(client, connects) client_wait_connects_at(__FILE__, __LINE__, client, connects)
void client_close(struct client *client);

/* ---- completions ---- */

/* Where a completion says that it was called; what it was told is kept in the fields that its kind has. */
struct answer {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    bool done;
    int rc;
    char text[256];
    int text_len;
    struct Stat stat;
    int count;
};

struct answer *answer_new(void);
/* Waits for it and returns its code. */
int answer_wait(struct answer *answer);
void answer_void(int rc, const void *data);
void answer_stat(int rc, const struct Stat *stat, const void *data);
void answer_data(int rc, const char *value, int value_len, const struct Stat *stat, const void *data);
void answer_string(int rc, const char *value, const void *data);
void answer_string_stat(int rc, const char *value, const struct Stat *stat, const void *data);
void answer_strings(int rc, const struct String_vector *strings, const void *data);
void answer_strings_stat(int rc, const struct String_vector *strings, const struct Stat *stat, const void *data);
void answer_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *data);

/* ---- shorthand ---- */

/* Creates a persistent znode that everybody may do everything with. */
void make(struct client *client, const char *path, const char *data);
bool exists(struct client *client, const char *path);
/* Waits until the znode is gone. */
void wait_gone_at(const char *file, int line, struct client *client, const char *path);
#define wait_gone(client, path) wait_gone_at(__FILE__, __LINE__, client, path)
void pause_ms(int ms);

#endif
