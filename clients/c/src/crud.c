/* Reading and writing znodes of every kind, with the synchronous and the asynchronous calls. */
#include "harness.h"

#include <stdlib.h>

#define ACL &ZOO_OPEN_ACL_UNSAFE
/* Containers and expired znodes are looked for five times a second, and TTLs are allowed. */
#define REAPER "-Dzookeeper.extendedTypesEnabled=true -Dznode.container.checkIntervalMs=200"

static void sync_calls(void) {
    struct client *client = client_connect("");
    char path[64], data[64];
    int len = sizeof data;
    struct Stat stat;
    OK(zoo_create(client->zh, "/a", "one", 3, ACL, ZOO_PERSISTENT, path, sizeof path));
    CHECK_STR(path, "/a");
    OK(zoo_exists(client->zh, "/a", 0, &stat));
    CHECK_INT(stat.version, 0);
    CHECK_INT(stat.dataLength, 3);
    CHECK_INT(stat.czxid, stat.mzxid);
    CHECK_INT(stat.czxid, stat.pzxid);
    CHECK_INT(stat.ephemeralOwner, 0);
    OK(zoo_set2(client->zh, "/a", "seven", 5, 0, &stat));
    CHECK_INT(stat.version, 1);
    CHECK(stat.czxid < stat.mzxid);
    OK(zoo_set(client->zh, "/a", "seven!", 6, -1));
    OK(zoo_get(client->zh, "/a", 0, data, &len, &stat));
    CHECK_INT(len, 6);
    CHECK(memcmp(data, "seven!", 6) == 0);
    CHECK_INT(stat.version, 2);
    make(client, "/a/x", "");
    make(client, "/a/y", "");
    struct String_vector names;
    OK(zoo_get_children(client->zh, "/a", 0, &names));
    CHECK_INT(names.count, 2);
    deallocate_String_vector(&names);
    OK(zoo_get_children2(client->zh, "/a", 0, &names, &stat));
    CHECK_INT(names.count, 2);
    CHECK_INT(stat.numChildren, 2);
    CHECK_INT(stat.cversion, 2);
    deallocate_String_vector(&names);
    OK(zoo_delete(client->zh, "/a/x", 0));
    OK(zoo_delete(client->zh, "/a/y", -1));
    OK(zoo_delete(client->zh, "/a", 2));
    CHECK(!exists(client, "/a"));
}

static void async_calls(void) {
    struct client *client = client_connect("");
    struct answer *created = answer_new(), *created2 = answer_new(), *set = answer_new(), *got = answer_new();
    struct answer *found = answer_new(), *names = answer_new(), *names2 = answer_new(), *synced = answer_new();
    struct answer *acl = answer_new(), *acl_set = answer_new(), *deleted = answer_new(), *missing = answer_new();
    /* All are sent before any is waited for: the order of the requests must be the order of their effects. */
    OK(zoo_acreate(client->zh, "/a", "one", 3, ACL, ZOO_PERSISTENT, answer_string, created));
    OK(zoo_acreate2(client->zh, "/a/b", "two", 3, ACL, ZOO_EPHEMERAL, answer_string_stat, created2));
    OK(zoo_aset(client->zh, "/a", "three", 5, 0, answer_stat, set));
    OK(zoo_aget(client->zh, "/a", 0, answer_data, got));
    OK(zoo_aexists(client->zh, "/a", 0, answer_stat, found));
    OK(zoo_aget_children(client->zh, "/a", 0, answer_strings, names));
    OK(zoo_aget_children2(client->zh, "/a", 0, answer_strings_stat, names2));
    OK(zoo_async(client->zh, "/a", answer_string, synced));
    OK(zoo_aget_acl(client->zh, "/a", answer_acl, acl));
    OK(zoo_aset_acl(client->zh, "/a", 0, ACL, answer_void, acl_set));
    OK(zoo_adelete(client->zh, "/a/b", 0, answer_void, deleted));
    OK(zoo_aget(client->zh, "/a/b", 0, answer_data, missing));
    CHECK_RC(answer_wait(missing), ZNONODE);
    OK(answer_wait(created));
    CHECK_STR(created->text, "/a");
    OK(answer_wait(created2));
    CHECK_STR(created2->text, "/a/b");
    CHECK_INT(created2->stat.ephemeralOwner, zoo_client_id(client->zh)->client_id);
    CHECK_INT(created2->stat.dataLength, 3);
    OK(answer_wait(set));
    CHECK_INT(set->stat.version, 1);
    OK(answer_wait(got));
    CHECK_STR(got->text, "three");
    CHECK_INT(got->stat.numChildren, 1);
    OK(answer_wait(found));
    CHECK_INT(found->stat.dataLength, 5);
    OK(answer_wait(names));
    CHECK_INT(names->count, 1);
    OK(answer_wait(names2));
    CHECK_INT(names2->count, 1);
    CHECK_INT(names2->stat.numChildren, 1);
    OK(answer_wait(synced));
    CHECK_STR(synced->text, "/a");
    OK(answer_wait(acl));
    CHECK_INT(acl->count, 1);
    OK(answer_wait(acl_set));
    OK(answer_wait(deleted));
}

static void errors(void) {
    struct client *client = client_connect("");
    struct Stat stat;
    char data[8];
    int len = sizeof data;
    struct String_vector names;
    make(client, "/a", "");
    make(client, "/a/b", "");
    CHECK_RC(zoo_create(client->zh, "/a", "", 0, ACL, ZOO_PERSISTENT, NULL, 0), ZNODEEXISTS);
    CHECK_RC(zoo_create(client->zh, "/no/b", "", 0, ACL, ZOO_PERSISTENT, NULL, 0), ZNONODE);
    CHECK_RC(zoo_get(client->zh, "/no", 0, data, &len, &stat), ZNONODE);
    CHECK_RC(zoo_set(client->zh, "/no", "", 0, -1), ZNONODE);
    CHECK_RC(zoo_exists(client->zh, "/no", 0, &stat), ZNONODE);
    CHECK_RC(zoo_delete(client->zh, "/no", -1), ZNONODE);
    CHECK_RC(zoo_get_children(client->zh, "/no", 0, &names), ZNONODE);
    CHECK_RC(zoo_set(client->zh, "/a", "", 0, 7), ZBADVERSION);
    CHECK_RC(zoo_delete(client->zh, "/a/b", 7), ZBADVERSION);
    CHECK_RC(zoo_delete(client->zh, "/a", -1), ZNOTEMPTY);
    OK(zoo_create(client->zh, "/e", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    CHECK_RC(zoo_create(client->zh, "/e/x", "", 0, ACL, ZOO_PERSISTENT, NULL, 0), ZNOCHILDRENFOREPHEMERALS);
    /* The library lets these through; the server refuses them. */
    CHECK_RC(zoo_create(client->zh, "/a/../b", "", 0, ACL, ZOO_PERSISTENT, NULL, 0), ZBADARGUMENTS);
    CHECK_RC(zoo_create(client->zh, "/a//b", "", 0, ACL, ZOO_PERSISTENT, NULL, 0), ZBADARGUMENTS);
    CHECK_RC(zoo_delete(client->zh, "/", -1), ZBADARGUMENTS);
    CHECK_RC(zoo_create(client->zh, "/zookeeper/x/y", "", 0, ACL, ZOO_PERSISTENT, NULL, 0), ZNONODE);
    CHECK(exists(client, "/a/b"));
}

static void no_data_and_empty_data(void) {
    struct client *client = client_connect("");
    char data[8];
    struct Stat stat;
    int len = sizeof data;
    OK(zoo_create(client->zh, "/null", NULL, -1, ACL, ZOO_PERSISTENT, NULL, 0));
    OK(zoo_get(client->zh, "/null", 0, data, &len, &stat));
    CHECK_INT(len, -1);
    CHECK_INT(stat.dataLength, 0);
    OK(zoo_set(client->zh, "/null", "", 0, 0));
    len = sizeof data;
    OK(zoo_get(client->zh, "/null", 0, data, &len, &stat));
    CHECK_INT(len, 0);
    OK(zoo_set(client->zh, "/null", NULL, -1, 1));
    len = sizeof data;
    OK(zoo_get(client->zh, "/null", 0, data, &len, &stat));
    CHECK_INT(len, -1);
}

/* Field by field: the structure has holes. */
static void check_same(const struct Stat *a, const struct Stat *b) {
    CHECK_INT(a->czxid, b->czxid);
    CHECK_INT(a->mzxid, b->mzxid);
    CHECK_INT(a->pzxid, b->pzxid);
    CHECK_INT(a->ctime, b->ctime);
    CHECK_INT(a->mtime, b->mtime);
    CHECK_INT(a->version, b->version);
    CHECK_INT(a->cversion, b->cversion);
    CHECK_INT(a->aversion, b->aversion);
    CHECK_INT(a->ephemeralOwner, b->ephemeralOwner);
    CHECK_INT(a->dataLength, b->dataLength);
    CHECK_INT(a->numChildren, b->numChildren);
}

static void create2_returns_the_stat(void) {
    struct client *client = client_connect("");
    char path[64];
    struct Stat made, read;
    OK(zoo_create2(client->zh, "/a", "four", 4, ACL, ZOO_PERSISTENT, path, sizeof path, &made));
    OK(zoo_exists(client->zh, "/a", 0, &read));
    check_same(&made, &read);
    OK(zoo_create2(client->zh, "/a/n-", "", 0, ACL, ZOO_EPHEMERAL_SEQUENTIAL, path, sizeof path, &made));
    CHECK_STR(path, "/a/n-0000000000");
    CHECK_INT(made.ephemeralOwner, zoo_client_id(client->zh)->client_id);
    /* What marks a container is no session, so it is not shown as an owner. */
    OK(zoo_create2(client->zh, "/c", "", 0, ACL, ZOO_CONTAINER, path, sizeof path, &made));
    CHECK_INT(made.ephemeralOwner, 0);
}

static void sequences_count_per_parent(void) {
    struct client *client = client_connect("");
    char path[64], expected[64];
    make(client, "/a", "");
    make(client, "/b", "");
    for (int i = 0; i < 12; i++) {
        OK(zoo_create(client->zh, "/a/n-", "", 0, ACL, i % 2 ? ZOO_PERSISTENT_SEQUENTIAL : ZOO_EPHEMERAL_SEQUENTIAL,
                      path, sizeof path));
        snprintf(expected, sizeof expected, "/a/n-%010d", i);
        CHECK_STR(path, expected);
    }
    /* Every creation below the parent counts, whatever its name; a deletion does not count back. */
    make(client, "/a/plain", "");
    OK(zoo_delete(client->zh, "/a/plain", -1));
    OK(zoo_create(client->zh, "/a/", "", 0, ACL, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
    CHECK_STR(path, "/a/0000000013");
    OK(zoo_create(client->zh, "/b/n-", "", 0, ACL, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
    CHECK_STR(path, "/b/n-0000000000");
}

static void ephemerals_go_with_their_session(void) {
    struct client *owner = client_connect(""), *other = client_connect("");
    struct Stat stat;
    make(owner, "/live", "");
    OK(zoo_create(owner->zh, "/live/a", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    OK(zoo_create(owner->zh, "/live/b", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    OK(zoo_create(other->zh, "/live/c", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    OK(zoo_exists(other->zh, "/live/a", 0, &stat));
    CHECK_INT(stat.ephemeralOwner, zoo_client_id(owner->zh)->client_id);
    client_close(owner);
    /* The session ends before its last reply, so nothing has to be waited for. */
    CHECK(!exists(other, "/live/a"));
    CHECK(!exists(other, "/live/b"));
    CHECK(exists(other, "/live/c"));
}

static void containers_go_when_they_become_empty(void) {
    struct client *client = client_connect("");
    struct Stat stat;
    OK(zoo_create(client->zh, "/used", "", 0, ACL, ZOO_CONTAINER, NULL, 0));
    OK(zoo_create(client->zh, "/fresh", "", 0, ACL, ZOO_CONTAINER, NULL, 0));
    make(client, "/used/child", "");
    pause_ms(700);
    CHECK(exists(client, "/used"));
    OK(zoo_delete(client->zh, "/used/child", -1));
    wait_gone(client, "/used");
    /* One that never had a child stays. */
    OK(zoo_exists(client->zh, "/fresh", 0, &stat));
    CHECK_INT(stat.ephemeralOwner, 0);
}

static void znodes_with_a_ttl_expire(void) {
    struct client *client = client_connect("");
    char path[64];
    struct Stat stat;
    OK(zoo_create_ttl(client->zh, "/short", "", 0, ACL, ZOO_PERSISTENT_WITH_TTL, 300, path, sizeof path));
    OK(zoo_create2_ttl(client->zh, "/long", "", 0, ACL, ZOO_PERSISTENT_WITH_TTL, 60000, path, sizeof path, &stat));
    CHECK_INT(stat.ephemeralOwner, 0);
    OK(zoo_create2_ttl(client->zh, "/n-", "", 0, ACL, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 300, path, sizeof path,
                       &stat));
    CHECK(strncmp(path, "/n-000000000", 12) == 0);
    struct answer *first = answer_new(), *second = answer_new();
    OK(zoo_acreate_ttl(client->zh, "/async", "", 0, ACL, ZOO_PERSISTENT_WITH_TTL, 300, answer_string, first));
    OK(zoo_acreate2_ttl(client->zh, "/parent", "", 0, ACL, ZOO_PERSISTENT_WITH_TTL, 300, answer_string_stat, second));
    OK(answer_wait(first));
    OK(answer_wait(second));
    CHECK_INT(second->stat.ephemeralOwner, 0);
    make(client, "/parent/child", "");
    wait_gone(client, "/short");
    wait_gone(client, path);
    wait_gone(client, "/async");
    /* A child keeps it. */
    CHECK(exists(client, "/parent"));
    CHECK(exists(client, "/long"));
    OK(zoo_delete(client->zh, "/parent/child", -1));
    wait_gone(client, "/parent");
}

static void ttls_are_refused_unless_enabled(void) {
    struct client *client = client_connect("");
    CHECK_RC(zoo_create_ttl(client->zh, "/t", "", 0, ACL, ZOO_PERSISTENT_WITH_TTL, 300, NULL, 0), ZUNIMPLEMENTED);
    /* The connection and the session go on. */
    make(client, "/a", "");
    CHECK_INT(client->connects, 1);
}

static void large_data(void) {
    struct client *client = client_connect("");
    enum { BYTES = 1000 * 1000 };
    char *sent = malloc(BYTES), *got = malloc(BYTES);
    struct Stat stat;
    int len = BYTES;
    for (int i = 0; i < BYTES; i++) sent[i] = (char)(i * 31 >> 3);
    OK(zoo_create(client->zh, "/big", sent, BYTES, ACL, ZOO_PERSISTENT, NULL, 0));
    OK(zoo_get(client->zh, "/big", 0, got, &len, &stat));
    CHECK_INT(len, BYTES);
    CHECK(memcmp(sent, got, BYTES) == 0);
    /* A frame above jute.maxbuffer costs the connection, not the session. */
    char *above = calloc(1, 2 * BYTES);
    CHECK_RC(zoo_set(client->zh, "/big", above, 2 * BYTES, -1), ZCONNECTIONLOSS);
    client_wait_connects(client, 2);
    client_wait_state(client, ZOO_CONNECTED_STATE);
    OK(zoo_exists(client->zh, "/big", 0, &stat));
    CHECK_INT(stat.version, 0);
}

#define OUTSTANDING 1000

static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static int completed, out_of_order, bad_codes;

static void in_order(int rc, const char *value, const void *data) {
    (void)value;
    pthread_mutex_lock(&order_lock);
    if (rc != ZOK) bad_codes++;
    if ((intptr_t)data != completed) out_of_order++;
    completed++;
    pthread_mutex_unlock(&order_lock);
}

static void thousand_outstanding_requests(void) {
    struct client *client = client_connect("");
    make(client, "/q", "");
    for (intptr_t i = 0; i < OUTSTANDING; i++) {
        char path[64];
        snprintf(path, sizeof path, "/q/%ld", (long)i);
        OK(zoo_acreate(client->zh, path, "x", 1, ACL, ZOO_PERSISTENT, in_order, (void *)i));
    }
    struct String_vector names;
    OK(zoo_get_children(client->zh, "/q", 0, &names));
    CHECK_INT(names.count, OUTSTANDING);
    /* The library calls completions on a thread of its own, and only a synchronous reply past it. */
    for (int waited = 0; waited < WAIT_MS && completed < OUTSTANDING; waited += 10) pause_ms(10);
    pthread_mutex_lock(&order_lock);
    CHECK_INT(completed, OUTSTANDING);
    CHECK_INT(out_of_order, 0);
    CHECK_INT(bad_codes, 0);
    pthread_mutex_unlock(&order_lock);
}

static void many_children(void) {
    struct client *client = client_connect("");
    enum { COUNT = 5000 };
    struct answer *last = answer_new();
    make(client, "/many", "");
    completed = 0;
    for (intptr_t i = 0; i < COUNT; i++) {
        char path[64];
        snprintf(path, sizeof path, "/many/child-with-a-long-name-%06ld", (long)i);
        OK(zoo_acreate(client->zh, path, NULL, -1, ACL, ZOO_PERSISTENT, in_order, (void *)i));
    }
    OK(zoo_aget_children2(client->zh, "/many", 0, answer_strings_stat, last));
    OK(answer_wait(last));
    CHECK_INT(last->count, COUNT);
    CHECK_INT(last->stat.cversion, COUNT);
    CHECK_INT(bad_codes, 0);
}

static void chrooted(void) {
    struct client *whole = client_connect("");
    make(whole, "/app", "");
    struct client *inside = client_connect("/app");
    char path[64];
    OK(zoo_create(inside->zh, "/n-", "", 0, ACL, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
    CHECK_STR(path, "/n-0000000000");
    CHECK(exists(whole, "/app/n-0000000000"));
    struct String_vector names;
    OK(zoo_get_children(inside->zh, "/", 0, &names));
    CHECK_INT(names.count, 1);
    struct Stat stat;
    struct inbox *inbox = inbox_new();
    OK(zoo_wexists(inside->zh, "/n-0000000000", inbox_watcher, inbox, &stat));
    OK(zoo_delete(whole->zh, "/app/n-0000000000", -1));
    inbox_expect(inbox, ZOO_DELETED_EVENT, "/n-0000000000");
}

static void configuration(void) {
    struct client *client = client_connect("");
    char data[512];
    int len = sizeof data;
    struct Stat stat;
    /* A standalone server has an empty one, and no reconfiguration. */
    OK(zoo_getconfig(client->zh, 0, data, &len, &stat));
    CHECK_INT(len, 0);
    len = sizeof data;
    CHECK_RC(zoo_reconfig(client->zh, NULL, "1", NULL, -1, data, &len, &stat), ZRECONFIGDISABLED);
    struct String_vector names;
    OK(zoo_get_children(client->zh, "/zookeeper", 0, &names));
    CHECK_INT(names.count, 2);
}

const struct scenario crud_scenarios[] = {
    {"crud/synchronous_calls", NULL, sync_calls},
    {"crud/asynchronous_calls_take_effect_in_order", NULL, async_calls},
    {"crud/each_error_has_its_code", NULL, errors},
    {"crud/no_data_is_not_empty_data", NULL, no_data_and_empty_data},
    {"crud/create2_returns_the_stat", NULL, create2_returns_the_stat},
    {"crud/sequences_count_per_parent", NULL, sequences_count_per_parent},
    {"crud/ephemerals_go_with_their_session", NULL, ephemerals_go_with_their_session},
    {"crud/containers_go_when_they_become_empty", REAPER, containers_go_when_they_become_empty},
    {"crud/znodes_with_a_ttl_expire", REAPER, znodes_with_a_ttl_expire},
    {"crud/ttls_are_refused_unless_enabled", NULL, ttls_are_refused_unless_enabled},
    {"crud/large_data_and_too_large_frames", NULL, large_data},
    {"crud/thousand_outstanding_requests_complete_in_order", NULL, thousand_outstanding_requests},
    {"crud/five_thousand_children", NULL, many_children},
    {"crud/chroot", NULL, chrooted},
    {"crud/standalone_configuration", NULL, configuration},
    {NULL, NULL, NULL},
};
