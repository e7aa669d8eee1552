/* Watches: what fires them, that they fire once, and that none is lost over a reconnect. */
#include "harness.h"

#define ACL &ZOO_OPEN_ACL_UNSAFE

static void watch_data(struct client *client, const char *path, struct inbox *inbox) {
    char data[64];
    int len = sizeof data;
    struct Stat stat;
    OK(zoo_wget(client->zh, path, inbox_watcher, inbox, data, &len, &stat));
}

static void watch_children(struct client *client, const char *path, struct inbox *inbox) {
    struct String_vector names;
    OK(zoo_wget_children(client->zh, path, inbox_watcher, inbox, &names));
    deallocate_String_vector(&names);
}

static void watch_absent(struct client *client, const char *path, struct inbox *inbox) {
    struct Stat stat;
    CHECK_RC(zoo_wexists(client->zh, path, inbox_watcher, inbox, &stat), ZNONODE);
}

static void data_watch(void) {
    struct client *client = client_connect(""), *writer = client_connect("");
    struct inbox *inbox = inbox_new();
    make(client, "/a", "");
    watch_data(client, "/a", inbox);
    make(writer, "/a/child", "");
    inbox_expect_none(inbox, client->zh);
    OK(zoo_set(writer->zh, "/a", "x", 1, -1));
    inbox_expect(inbox, ZOO_CHANGED_EVENT, "/a");
    OK(zoo_set(writer->zh, "/a", "y", 1, -1));
    inbox_expect_none(inbox, client->zh);
    OK(zoo_delete(writer->zh, "/a/child", -1));
    watch_data(client, "/a", inbox);
    OK(zoo_delete(writer->zh, "/a", -1));
    inbox_expect(inbox, ZOO_DELETED_EVENT, "/a");
}

static void exists_watch(void) {
    struct client *client = client_connect(""), *writer = client_connect("");
    struct inbox *inbox = inbox_new();
    struct Stat stat;
    watch_absent(client, "/a", inbox);
    make(writer, "/a", "");
    inbox_expect(inbox, ZOO_CREATED_EVENT, "/a");
    OK(zoo_wexists(client->zh, "/a", inbox_watcher, inbox, &stat));
    OK(zoo_set(writer->zh, "/a", "x", 1, -1));
    inbox_expect(inbox, ZOO_CHANGED_EVENT, "/a");
    OK(zoo_wexists(client->zh, "/a", inbox_watcher, inbox, &stat));
    OK(zoo_delete(writer->zh, "/a", -1));
    inbox_expect(inbox, ZOO_DELETED_EVENT, "/a");
    /* A failed read leaves no watch behind. */
    char data[8];
    int len = sizeof data;
    CHECK_RC(zoo_wget(client->zh, "/a", inbox_watcher, inbox, data, &len, &stat), ZNONODE);
    make(writer, "/a", "");
    inbox_expect_none(inbox, client->zh);
}

static void child_watch(void) {
    struct client *client = client_connect(""), *writer = client_connect("");
    struct inbox *inbox = inbox_new();
    struct String_vector names;
    struct Stat stat;
    make(client, "/a", "");
    watch_children(client, "/a", inbox);
    OK(zoo_set(writer->zh, "/a", "x", 1, -1));
    inbox_expect_none(inbox, client->zh);
    make(writer, "/a/b", "");
    inbox_expect(inbox, ZOO_CHILD_EVENT, "/a");
    OK(zoo_wget_children2(client->zh, "/a", inbox_watcher, inbox, &names, &stat));
    make(writer, "/a/b/c", "");
    inbox_expect_none(inbox, client->zh);
    OK(zoo_delete(writer->zh, "/a/b/c", -1));
    OK(zoo_delete(writer->zh, "/a/b", -1));
    inbox_expect(inbox, ZOO_CHILD_EVENT, "/a");
    watch_children(client, "/a", inbox);
    OK(zoo_delete(writer->zh, "/a", -1));
    inbox_expect(inbox, ZOO_DELETED_EVENT, "/a");
}

static void watch_flag(void) {
    struct client *client = client_connect("");
    char data[8];
    int len = sizeof data;
    struct Stat stat;
    struct String_vector names;
    make(client, "/a", "");
    OK(zoo_get(client->zh, "/a", 1, data, &len, &stat));
    OK(zoo_get_children(client->zh, "/a", 1, &names));
    CHECK_RC(zoo_exists(client->zh, "/b", 1, &stat), ZNONODE);
    make(client, "/a/x", "");
    inbox_expect(client->events, ZOO_CHILD_EVENT, "/a");
    OK(zoo_set(client->zh, "/a", "", 0, -1));
    inbox_expect(client->events, ZOO_CHANGED_EVENT, "/a");
    make(client, "/b", "");
    inbox_expect(client->events, ZOO_CREATED_EVENT, "/b");
    inbox_expect_none(client->events, client->zh);
}

static void asynchronous_calls_set_watches(void) {
    struct client *client = client_connect("");
    struct inbox *inbox = inbox_new();
    struct answer *got = answer_new(), *found = answer_new(), *names = answer_new(), *names2 = answer_new();
    make(client, "/a", "");
    OK(zoo_awget(client->zh, "/a", inbox_watcher, inbox, answer_data, got));
    OK(zoo_awexists(client->zh, "/b", inbox_watcher, inbox, answer_stat, found));
    OK(zoo_awget_children(client->zh, "/a", inbox_watcher, inbox, answer_strings, names));
    OK(answer_wait(got));
    CHECK_RC(answer_wait(found), ZNONODE);
    OK(answer_wait(names));
    OK(zoo_set(client->zh, "/a", "", 0, -1));
    inbox_expect(inbox, ZOO_CHANGED_EVENT, "/a");
    make(client, "/b", "");
    inbox_expect(inbox, ZOO_CREATED_EVENT, "/b");
    make(client, "/a/x", "");
    inbox_expect(inbox, ZOO_CHILD_EVENT, "/a");
    OK(zoo_awget_children2(client->zh, "/a", inbox_watcher, inbox, answer_strings_stat, names2));
    OK(answer_wait(names2));
    make(client, "/a/y", "");
    inbox_expect(inbox, ZOO_CHILD_EVENT, "/a");
}

/* While the client is away, other clients change what it watches; the library says with setWatches what it had last
 * seen, and the server answers with what happened since. */
static void changes_missed_over_a_reconnect_are_told(void) {
    struct client *client = client_connect("");
    struct inbox *changed = inbox_new(), *deleted = inbox_new(), *created = inbox_new(), *children = inbox_new();
    struct inbox *gone = inbox_new(), *quiet = inbox_new();
    make(client, "/changed", "");
    make(client, "/deleted", "");
    make(client, "/children", "");
    make(client, "/gone", "");
    make(client, "/quiet", "");
    watch_data(client, "/changed", changed);
    watch_data(client, "/deleted", deleted);
    watch_absent(client, "/created", created);
    watch_children(client, "/children", children);
    watch_children(client, "/gone", gone);
    watch_data(client, "/quiet", quiet);
    clientid_t id = *zoo_client_id(client->zh);
    /* The changes are made where the client cannot find the server. */
    server_kill();
    server_move();
    server_start();
    struct client *writer = client_connect("");
    OK(zoo_set(writer->zh, "/changed", "x", 1, -1));
    OK(zoo_delete(writer->zh, "/deleted", -1));
    make(writer, "/created", "");
    make(writer, "/children/x", "");
    OK(zoo_delete(writer->zh, "/gone", -1));
    client_close(writer);
    server_kill();
    server_move();
    server_start();
    writer = client_connect("");
    client_wait_connects(client, 2);
    inbox_expect(changed, ZOO_CHANGED_EVENT, "/changed");
    inbox_expect(deleted, ZOO_DELETED_EVENT, "/deleted");
    inbox_expect(created, ZOO_CREATED_EVENT, "/created");
    inbox_expect(children, ZOO_CHILD_EVENT, "/children");
    inbox_expect(gone, ZOO_DELETED_EVENT, "/gone");
    inbox_expect_none(quiet, client->zh);
    /* Fired once, and the one that had no reason to fire is still set. */
    OK(zoo_set(writer->zh, "/changed", "y", 1, -1));
    OK(zoo_set(writer->zh, "/quiet", "y", 1, -1));
    inbox_expect(quiet, ZOO_CHANGED_EVENT, "/quiet");
    inbox_expect_none(changed, client->zh);
    CHECK_INT(zoo_client_id(client->zh)->client_id, id.client_id);
}

static void thousands_of_watches_survive_a_reconnect(void) {
    struct client *client = client_connect("");
    enum { COUNT = 3000, SAMPLE = 30 };
    struct inbox *sampled = inbox_new(), *rest = inbox_new();
    char path[128];
    for (int i = 0; i < COUNT; i++) {
        /* Long names make several setWatches requests of them. */
        snprintf(path, sizeof path, "/%070d", i);
        struct answer *made = answer_new();
        OK(zoo_acreate(client->zh, path, "", 0, ACL, ZOO_PERSISTENT, answer_string, made));
        OK(answer_wait(made));
        watch_data(client, path, i % (COUNT / SAMPLE) == 0 ? sampled : rest);
    }
    server_stop();
    server_start();
    client_wait_connects(client, 2);
    for (int i = 0; i < COUNT; i += COUNT / SAMPLE) {
        snprintf(path, sizeof path, "/%070d", i);
        OK(zoo_set(client->zh, path, "x", 1, -1));
        inbox_expect(sampled, ZOO_CHANGED_EVENT, path);
    }
    inbox_expect_none(rest, client->zh);
}

static void removing(void) {
    struct client *client = client_connect("");
    struct inbox *data = inbox_new(), *other = inbox_new(), *children = inbox_new(), *absent = inbox_new();
    make(client, "/a", "");
    watch_data(client, "/a", data);
    watch_data(client, "/a", other);
    watch_children(client, "/a", children);
    watch_absent(client, "/no", absent);
    /* One of two on the same path: the server keeps its watch for the other. */
    OK(zoo_remove_watches(client->zh, "/a", ZWATCHTYPE_DATA, inbox_watcher, data, 0));
    CHECK_RC(zoo_remove_watches(client->zh, "/a", ZWATCHTYPE_DATA, inbox_watcher, data, 0), ZNOWATCHER);
    OK(zoo_remove_watches(client->zh, "/a", ZWATCHTYPE_CHILD, inbox_watcher, children, 0));
    OK(zoo_remove_watches(client->zh, "/no", ZWATCHTYPE_ANY, inbox_watcher, absent, 0));
    CHECK_RC(zoo_remove_watches(client->zh, "/never", ZWATCHTYPE_ANY, inbox_watcher, data, 0), ZNOWATCHER);
    OK(zoo_set(client->zh, "/a", "x", 1, -1));
    make(client, "/a/child", "");
    make(client, "/no", "");
    inbox_expect(other, ZOO_CHANGED_EVENT, "/a");
    inbox_expect_none(data, client->zh);
    inbox_expect_none(children, NULL);
    inbox_expect_none(absent, NULL);
}

static void removing_all(void) {
    struct client *client = client_connect("");
    struct inbox *first = inbox_new(), *second = inbox_new(), *children = inbox_new();
    struct answer *answer = answer_new();
    make(client, "/a", "");
    watch_data(client, "/a", first);
    watch_data(client, "/a", second);
    watch_children(client, "/a", children);
    OK(zoo_remove_all_watches(client->zh, "/a", ZWATCHTYPE_DATA, 0));
    CHECK_RC(zoo_remove_all_watches(client->zh, "/a", ZWATCHTYPE_DATA, 0), ZNOWATCHER);
    OK(zoo_set(client->zh, "/a", "x", 1, -1));
    inbox_expect_none(first, client->zh);
    inbox_expect_none(second, NULL);
    make(client, "/a/child", "");
    inbox_expect(children, ZOO_CHILD_EVENT, "/a");
    watch_data(client, "/a", first);
    watch_children(client, "/a", children);
    OK(zoo_aremove_all_watches(client->zh, "/a", ZWATCHTYPE_ANY, 0, (void_completion_t *)answer_void, answer));
    OK(answer_wait(answer));
    OK(zoo_set(client->zh, "/a", "y", 1, -1));
    OK(zoo_delete(client->zh, "/a/child", -1));
    inbox_expect_none(first, client->zh);
    inbox_expect_none(children, NULL);
}

static void removed_watches_stay_removed_over_a_reconnect(void) {
    struct client *client = client_connect("");
    struct inbox *removed = inbox_new(), *kept = inbox_new();
    make(client, "/a", "");
    make(client, "/b", "");
    watch_data(client, "/a", removed);
    watch_data(client, "/b", kept);
    OK(zoo_remove_watches(client->zh, "/a", ZWATCHTYPE_DATA, inbox_watcher, removed, 0));
    server_kill();
    server_start();
    client_wait_connects(client, 2);
    OK(zoo_set(client->zh, "/a", "x", 1, -1));
    OK(zoo_set(client->zh, "/b", "x", 1, -1));
    inbox_expect(kept, ZOO_CHANGED_EVENT, "/b");
    inbox_expect_none(removed, client->zh);
}

static void one_write_fires_each_clients_watch(void) {
    struct client *clients[8], *writer = client_connect("");
    struct inbox *inboxes[8];
    make(writer, "/a", "");
    for (int i = 0; i < 8; i++) {
        clients[i] = client_connect("");
        inboxes[i] = inbox_new();
        watch_data(clients[i], "/a", inboxes[i]);
    }
    OK(zoo_set(writer->zh, "/a", "x", 1, -1));
    for (int i = 0; i < 8; i++) inbox_expect(inboxes[i], ZOO_CHANGED_EVENT, "/a");
    /* Another session's end fires too. */
    OK(zoo_create(writer->zh, "/e", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    for (int i = 0; i < 8; i++) watch_data(clients[i], "/e", inboxes[i]);
    client_close(writer);
    for (int i = 0; i < 8; i++) inbox_expect(inboxes[i], ZOO_DELETED_EVENT, "/e");
}

const struct scenario watch_scenarios[] = {
    {"watch/data", NULL, data_watch},
    {"watch/exists", NULL, exists_watch},
    {"watch/children", NULL, child_watch},
    {"watch/flag_reports_to_the_clients_watcher", NULL, watch_flag},
    {"watch/asynchronous_calls_set_watches", NULL, asynchronous_calls_set_watches},
    {"watch/changes_missed_over_a_reconnect_are_told", NULL, changes_missed_over_a_reconnect_are_told},
    {"watch/thousands_survive_a_reconnect", NULL, thousands_of_watches_survive_a_reconnect},
    {"watch/removing", NULL, removing},
    {"watch/removing_all", NULL, removing_all},
    {"watch/removed_ones_stay_removed_over_a_reconnect", NULL, removed_watches_stay_removed_over_a_reconnect},
    {"watch/one_write_fires_each_clients_watch", NULL, one_write_fires_each_clients_watch},
    {NULL, NULL, NULL},
};
