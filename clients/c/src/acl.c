/* Who may do what: schemes, permissions, and proving who one is. */
#include "harness.h"

/* digest:user:secret, as the library's users write it down: base64 of the SHA-1 of `user:secret`. */
#define USER_ID "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4="

static struct ACL_vector one_acl(struct ACL *acl, int perms, const char *scheme, const char *id) {
    acl->perms = perms;
    acl->id.scheme = (char *)(uintptr_t)scheme;
    acl->id.id = (char *)(uintptr_t)id;
    return (struct ACL_vector){.count = 1, .data = acl};
}

static void authenticate(struct client *client, const char *secret) {
    struct answer *answer = answer_new();
    OK(zoo_add_auth(client->zh, "digest", secret, (int)strlen(secret), answer_void, answer));
    OK(answer_wait(answer));
}

static void creators_acl(void) {
    struct client *owner = client_connect(""), *other = client_connect("");
    char data[8];
    int len = sizeof data;
    struct Stat stat;
    struct String_vector names;
    /* Nobody is authenticated yet, so `auth` stands for nobody. */
    CHECK_RC(zoo_create(owner->zh, "/mine", "", 0, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    authenticate(owner, "user:secret");
    OK(zoo_create(owner->zh, "/mine", "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    OK(zoo_create(owner->zh, "/mine/child", "", 0, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    CHECK_RC(zoo_get(other->zh, "/mine", 0, data, &len, &stat), ZNOAUTH);
    CHECK_RC(zoo_set(other->zh, "/mine", "", 0, -1), ZNOAUTH);
    CHECK_RC(zoo_get_children(other->zh, "/mine", 0, &names), ZNOAUTH);
    CHECK_RC(zoo_create(other->zh, "/mine/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0), ZNOAUTH);
    CHECK_RC(zoo_delete(other->zh, "/mine/child", -1), ZNOAUTH);
    CHECK_RC(zoo_set_acl(other->zh, "/mine", -1, &ZOO_OPEN_ACL_UNSAFE), ZNOAUTH);
    /* Its stat may be seen only by those who may read it. */
    CHECK_RC(zoo_exists(other->zh, "/mine", 0, &stat), ZNOAUTH);
    authenticate(other, "user:wrong");
    CHECK_RC(zoo_get(other->zh, "/mine", 0, data, &len, &stat), ZNOAUTH);
    authenticate(other, "user:secret");
    len = sizeof data;
    OK(zoo_get(other->zh, "/mine", 0, data, &len, &stat));
    CHECK_INT(len, 1);
    OK(zoo_delete(other->zh, "/mine/child", -1));
}

static void get_and_set(void) {
    struct client *client = client_connect("");
    struct ACL storage;
    struct ACL_vector wanted = one_acl(&storage, ZOO_PERM_READ | ZOO_PERM_ADMIN, "world", "anyone"), got;
    struct Stat stat;
    make(client, "/a", "x");
    OK(zoo_get_acl(client->zh, "/a", &got, &stat));
    CHECK_INT(got.count, 1);
    CHECK_INT(got.data[0].perms, ZOO_PERM_ALL);
    CHECK_STR(got.data[0].id.scheme, "world");
    CHECK_STR(got.data[0].id.id, "anyone");
    CHECK_INT(stat.aversion, 0);
    CHECK_RC(zoo_set_acl(client->zh, "/a", 3, &wanted), ZBADVERSION);
    OK(zoo_set_acl(client->zh, "/a", 0, &wanted));
    OK(zoo_get_acl(client->zh, "/a", &got, &stat));
    CHECK_INT(got.data[0].perms, ZOO_PERM_READ | ZOO_PERM_ADMIN);
    CHECK_INT(stat.aversion, 1);
    CHECK_INT(stat.version, 0);
    CHECK_RC(zoo_set(client->zh, "/a", "y", 1, -1), ZNOAUTH);
    CHECK_RC(zoo_get_acl(client->zh, "/no", &got, &stat), ZNONODE);
    CHECK_RC(zoo_set_acl(client->zh, "/no", -1, &wanted), ZNONODE);
    /* Without ADMIN it is final. */
    wanted = one_acl(&storage, ZOO_PERM_READ, "world", "anyone");
    OK(zoo_set_acl(client->zh, "/a", 1, &wanted));
    CHECK_RC(zoo_set_acl(client->zh, "/a", -1, &ZOO_OPEN_ACL_UNSAFE), ZNOAUTH);
}

static void each_permission_guards_its_calls(void) {
    struct client *client = client_connect("");
    struct ACL storage;
    struct ACL_vector wanted;
    char data[8];
    int len = sizeof data;
    struct Stat stat;
    wanted = one_acl(&storage, ZOO_PERM_WRITE, "world", "anyone");
    OK(zoo_create(client->zh, "/w", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0));
    OK(zoo_set(client->zh, "/w", "x", 1, -1));
    CHECK_RC(zoo_get(client->zh, "/w", 0, data, &len, &stat), ZNOAUTH);
    CHECK_RC(zoo_create(client->zh, "/w/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0), ZNOAUTH);
    wanted = one_acl(&storage, ZOO_PERM_CREATE, "world", "anyone");
    OK(zoo_create(client->zh, "/c", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0));
    make(client, "/c/x", "");
    CHECK_RC(zoo_delete(client->zh, "/c/x", -1), ZNOAUTH);
    wanted = one_acl(&storage, ZOO_PERM_CREATE | ZOO_PERM_DELETE, "world", "anyone");
    OK(zoo_create(client->zh, "/d", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0));
    make(client, "/d/x", "");
    /* DELETE is asked of the parent; the znode itself may forbid everything. */
    OK(zoo_delete(client->zh, "/d/x", -1));
    wanted = one_acl(&storage, ZOO_PERM_ADMIN, "ip", "127.0.0.1");
    OK(zoo_create(client->zh, "/ip", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0));
    OK(zoo_set_acl(client->zh, "/ip", 0, &ZOO_OPEN_ACL_UNSAFE));
    wanted = one_acl(&storage, ZOO_PERM_ALL, "ip", "10.0.0.0/8");
    OK(zoo_create(client->zh, "/net", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0));
    CHECK_RC(zoo_set(client->zh, "/net", "", 0, -1), ZNOAUTH);
}

static void digest_ids_and_masking(void) {
    struct client *owner = client_connect(""), *other = client_connect("");
    struct ACL entries[2] = {
        {ZOO_PERM_ALL, {(char *)(uintptr_t)"digest", (char *)(uintptr_t)USER_ID}},
        {ZOO_PERM_READ, {(char *)(uintptr_t)"world", (char *)(uintptr_t)"anyone"}},
    };
    struct ACL_vector wanted = {2, entries}, got;
    struct Stat stat;
    OK(zoo_create(owner->zh, "/a", "x", 1, &wanted, ZOO_PERSISTENT, NULL, 0));
    CHECK_RC(zoo_set(owner->zh, "/a", "", 0, -1), ZNOAUTH);
    authenticate(owner, "user:secret");
    OK(zoo_set(owner->zh, "/a", "", 0, -1));
    OK(zoo_get_acl(owner->zh, "/a", &got, &stat));
    CHECK_INT(got.count, 2);
    CHECK_STR(got.data[0].id.id, USER_ID);
    /* Who may only read does not learn the digest. */
    OK(zoo_get_acl(other->zh, "/a", &got, &stat));
    CHECK_STR(got.data[0].id.id, "user:x");
    wanted.count = 1;
    OK(zoo_set_acl(owner->zh, "/a", -1, &wanted));
    CHECK_RC(zoo_get_acl(other->zh, "/a", &got, &stat), ZNOAUTH);
}

static void acls_that_are_none(void) {
    struct client *client = client_connect("");
    struct ACL storage;
    struct ACL_vector wanted = {.count = 0, .data = NULL};
    CHECK_RC(zoo_create(client->zh, "/a", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    wanted = one_acl(&storage, ZOO_PERM_ALL, "nonesuch", "x");
    CHECK_RC(zoo_create(client->zh, "/a", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    wanted = one_acl(&storage, ZOO_PERM_ALL, "world", "everyone");
    CHECK_RC(zoo_create(client->zh, "/a", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    wanted = one_acl(&storage, ZOO_PERM_ALL, "ip", "not.an.address");
    CHECK_RC(zoo_create(client->zh, "/a", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    wanted = one_acl(&storage, ZOO_PERM_ALL, "digest", "no colon");
    CHECK_RC(zoo_create(client->zh, "/a", "", 0, &wanted, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    make(client, "/a", "");
    CHECK_RC(zoo_set_acl(client->zh, "/a", -1, &wanted), ZINVALIDACL);
}

static void unknown_schemes_end_the_client(void) {
    struct client *client = client_connect("");
    struct answer *answer = answer_new();
    OK(zoo_add_auth(client->zh, "nonesuch", "x", 1, answer_void, answer));
    CHECK_RC(answer_wait(answer), ZAUTHFAILED);
    client_wait_state(client, ZOO_AUTH_FAILED_STATE);
    struct Stat stat;
    CHECK_RC(zoo_exists(client->zh, "/", 0, &stat), ZINVALIDSTATE);
}

static void authentication_survives_a_reconnect(void) {
    struct client *client = client_connect("");
    char data[8];
    int len = sizeof data;
    struct Stat stat;
    authenticate(client, "user:secret");
    OK(zoo_create(client->zh, "/mine", "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    server_kill();
    server_start();
    client_wait_connects(client, 2);
    OK(zoo_get(client->zh, "/mine", 0, data, &len, &stat));
    CHECK_INT(len, 1);
}

static void super_user(void) {
    struct client *owner = client_connect(""), *super = client_connect("");
    char data[8];
    int len = sizeof data;
    struct Stat stat;
    authenticate(owner, "user:secret");
    OK(zoo_create(owner->zh, "/mine", "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    CHECK_RC(zoo_get(super->zh, "/mine", 0, data, &len, &stat), ZNOAUTH);
    authenticate(super, "super:test");
    OK(zoo_get(super->zh, "/mine", 0, data, &len, &stat));
    OK(zoo_set_acl(super->zh, "/mine", -1, &ZOO_OPEN_ACL_UNSAFE));
    OK(zoo_delete(super->zh, "/mine", -1));
}

static void transactions_ask_for_permission_too(void) {
    struct client *owner = client_connect(""), *other = client_connect("");
    zoo_op_t ops[2];
    zoo_op_result_t results[2];
    authenticate(owner, "user:secret");
    OK(zoo_create(owner->zh, "/mine", "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    zoo_create_op_init(&ops[0], "/free", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    zoo_set_op_init(&ops[1], "/mine", "", 0, -1, NULL);
    CHECK_RC(zoo_multi(other->zh, 2, ops, results), ZNOAUTH);
    CHECK_RC(results[1].err, ZNOAUTH);
    zoo_check_op_init(&ops[1], "/mine", -1);
    CHECK_RC(zoo_multi(other->zh, 2, ops, results), ZNOAUTH);
    CHECK(!exists(owner, "/free"));
    OK(zoo_multi(owner->zh, 2, ops, results));
    CHECK(exists(owner, "/free"));
}

/* The digest is that of `super:test`. */
#define SUPER "-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="

const struct scenario acl_scenarios[] = {
    {"acl/creator_only", NULL, creators_acl},
    {"acl/get_and_set_with_versions", NULL, get_and_set},
    {"acl/each_permission_guards_its_calls", NULL, each_permission_guards_its_calls},
    {"acl/digests_are_masked_for_those_who_only_read", NULL, digest_ids_and_masking},
    {"acl/invalid_ones_are_refused", NULL, acls_that_are_none},
    {"acl/unknown_scheme_ends_the_client", NULL, unknown_schemes_end_the_client},
    {"acl/authentication_survives_a_reconnect", NULL, authentication_survives_a_reconnect},
    {"acl/super_user", SUPER, super_user},
    {"acl/transactions_ask_for_permission_too", NULL, transactions_ask_for_permission_too},
    {NULL, NULL, NULL},
};
