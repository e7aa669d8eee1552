/* Transactions: all or nothing, and what each operation is told. */
#include "harness.h"

#define ACL &ZOO_OPEN_ACL_UNSAFE

static void succeeds(void) {
    struct client *client = client_connect("");
    char first[64], second[64];
    struct Stat stat;
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    zoo_create_op_init(&ops[0], "/a", "one", 3, ACL, ZOO_PERSISTENT, first, sizeof first);
    zoo_create_op_init(&ops[1], "/a/n-", "", 0, ACL, ZOO_EPHEMERAL_SEQUENTIAL, second, sizeof second);
    zoo_set_op_init(&ops[2], "/a", "seven", 5, 0, &stat);
    zoo_check_op_init(&ops[3], "/a", 1);
    zoo_delete_op_init(&ops[4], "/a/n-0000000000", -1);
    OK(zoo_multi(client->zh, 5, ops, results));
    for (int i = 0; i < 5; i++) CHECK_RC(results[i].err, ZOK);
    CHECK_STR(first, "/a");
    CHECK_STR(second, "/a/n-0000000000");
    CHECK_INT(stat.version, 1);
    CHECK_INT(stat.dataLength, 5);
    /* One transaction, one zxid. */
    struct Stat read;
    OK(zoo_exists(client->zh, "/a", 0, &read));
    CHECK_INT(read.czxid, read.mzxid);
    CHECK_INT(read.pzxid, read.mzxid);
    CHECK_INT(read.numChildren, 0);
}

static void fails_in_the_middle(void) {
    struct client *client = client_connect("");
    char path[64];
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    make(client, "/there", "");
    zoo_create_op_init(&ops[0], "/first", "", 0, ACL, ZOO_PERSISTENT, path, sizeof path);
    zoo_set_op_init(&ops[1], "/there", "x", 1, -1, NULL);
    zoo_delete_op_init(&ops[2], "/absent", -1);
    zoo_create_op_init(&ops[3], "/last", "", 0, ACL, ZOO_PERSISTENT, path, sizeof path);
    CHECK_RC(zoo_multi(client->zh, 4, ops, results), ZNONODE);
    CHECK_RC(results[0].err, ZOK);
    CHECK_RC(results[1].err, ZOK);
    CHECK_RC(results[2].err, ZNONODE);
    CHECK_RC(results[3].err, ZRUNTIMEINCONSISTENCY);
    CHECK(!exists(client, "/first"));
    CHECK(!exists(client, "/last"));
    struct Stat stat;
    OK(zoo_exists(client->zh, "/there", 0, &stat));
    CHECK_INT(stat.version, 0);
    /* What was undone is not seen by the next transaction: the sequence goes on from where it was. */
    OK(zoo_create(client->zh, "/there/n-", "", 0, ACL, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
    CHECK_STR(path, "/there/n-0000000000");
}

static void each_kind_of_failure(void) {
    struct client *client = client_connect("");
    zoo_op_t ops[2];
    zoo_op_result_t results[2];
    make(client, "/a", "");
    make(client, "/a/b", "");
    zoo_create_op_init(&ops[0], "/z", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    zoo_check_op_init(&ops[1], "/a", 3);
    CHECK_RC(zoo_multi(client->zh, 2, ops, results), ZBADVERSION);
    zoo_check_op_init(&ops[1], "/no", -1);
    CHECK_RC(zoo_multi(client->zh, 2, ops, results), ZNONODE);
    zoo_delete_op_init(&ops[1], "/a", -1);
    CHECK_RC(zoo_multi(client->zh, 2, ops, results), ZNOTEMPTY);
    zoo_create_op_init(&ops[1], "/a", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    CHECK_RC(zoo_multi(client->zh, 2, ops, results), ZNODEEXISTS);
    zoo_set_op_init(&ops[1], "/a", "", 0, 9, NULL);
    CHECK_RC(zoo_multi(client->zh, 2, ops, results), ZBADVERSION);
    /* The first operation is undone for the second of the same transaction to fail on. */
    zoo_create_op_init(&ops[0], "/e", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0);
    zoo_create_op_init(&ops[1], "/e/x", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    CHECK_RC(zoo_multi(client->zh, 2, ops, results), ZNOCHILDRENFOREPHEMERALS);
    CHECK(!exists(client, "/z"));
    CHECK(!exists(client, "/e"));
}

static void later_operations_see_earlier_ones(void) {
    struct client *client = client_connect("");
    char path[64];
    struct Stat stat;
    zoo_op_t ops[6];
    zoo_op_result_t results[6];
    zoo_create_op_init(&ops[0], "/a", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    zoo_create_op_init(&ops[1], "/a/b", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    zoo_set_op_init(&ops[2], "/a/b", "x", 1, 0, &stat);
    zoo_delete_op_init(&ops[3], "/a/b", 1);
    zoo_delete_op_init(&ops[4], "/a", 0);
    zoo_create_op_init(&ops[5], "/a", "again", 5, ACL, ZOO_PERSISTENT, path, sizeof path);
    OK(zoo_multi(client->zh, 6, ops, results));
    OK(zoo_exists(client->zh, "/a", 0, &stat));
    CHECK_INT(stat.cversion, 0);
    CHECK_INT(stat.dataLength, 5);
}

static void asynchronous(void) {
    struct client *client = client_connect("");
    struct answer *done = answer_new(), *failed = answer_new();
    zoo_op_t good[100], bad[2];
    zoo_op_result_t results[100], bad_results[2];
    char paths[100][32];
    for (int i = 0; i < 100; i++) {
        snprintf(paths[i], sizeof paths[i], "/n%d", i);
        zoo_create_op_init(&good[i], paths[i], "", 0, ACL, ZOO_EPHEMERAL, NULL, 0);
    }
    zoo_create_op_init(&bad[0], "/x", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    zoo_check_op_init(&bad[1], "/n0", 5);
    OK(zoo_amulti(client->zh, 100, good, results, answer_void, done));
    OK(zoo_amulti(client->zh, 2, bad, bad_results, answer_void, failed));
    OK(answer_wait(done));
    CHECK_RC(answer_wait(failed), ZBADVERSION);
    CHECK(exists(client, "/n99"));
    CHECK(!exists(client, "/x"));
}

static void watches_fire_once_for_each_change(void) {
    struct client *client = client_connect("");
    struct inbox *data = inbox_new(), *children = inbox_new(), *created = inbox_new();
    char text[8];
    int len = sizeof text;
    struct Stat stat;
    struct String_vector names;
    zoo_op_t ops[3];
    zoo_op_result_t results[3];
    make(client, "/a", "");
    OK(zoo_wget(client->zh, "/a", inbox_watcher, data, text, &len, &stat));
    OK(zoo_wget_children(client->zh, "/a", inbox_watcher, children, &names));
    CHECK_RC(zoo_wexists(client->zh, "/a/b", inbox_watcher, created, &stat), ZNONODE);
    zoo_set_op_init(&ops[0], "/a", "x", 1, -1, NULL);
    zoo_create_op_init(&ops[1], "/a/b", "", 0, ACL, ZOO_PERSISTENT, NULL, 0);
    zoo_set_op_init(&ops[2], "/a", "y", 1, -1, NULL);
    OK(zoo_multi(client->zh, 3, ops, results));
    inbox_expect(data, ZOO_CHANGED_EVENT, "/a");
    inbox_expect(children, ZOO_CHILD_EVENT, "/a");
    inbox_expect(created, ZOO_CREATED_EVENT, "/a/b");
    inbox_expect_none(data, client->zh);
    inbox_expect_none(children, NULL);
    /* A transaction that fails changes nothing, so it tells nobody. */
    len = sizeof text;
    OK(zoo_wget(client->zh, "/a", inbox_watcher, data, text, &len, &stat));
    zoo_delete_op_init(&ops[2], "/no", -1);
    zoo_delete_op_init(&ops[1], "/a/b", -1);
    CHECK_RC(zoo_multi(client->zh, 3, ops, results), ZNONODE);
    inbox_expect_none(data, client->zh);
}

const struct scenario multi_scenarios[] = {
    {"multi/all_operations_succeed_in_one_transaction", NULL, succeeds},
    {"multi/a_failure_in_the_middle_undoes_all", NULL, fails_in_the_middle},
    {"multi/each_kind_of_failure", NULL, each_kind_of_failure},
    {"multi/later_operations_see_earlier_ones", NULL, later_operations_see_earlier_ones},
    {"multi/asynchronous", NULL, asynchronous},
    {"multi/watches_fire_once_for_each_change", NULL, watches_fire_once_for_each_change},
    {NULL, NULL, NULL},
};
