/* Sessions: granted, resumed, expired, and carried over the death of the server. */
#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

#define ACL &ZOO_OPEN_ACL_UNSAFE

/* Runs `work` in a process of its own whose connection is lost without a word when it ends. What it writes into `out`
 * comes back. Called before this process has a client: the library's threads would not survive the fork. */
static void in_a_process_that_dies(void (*work)(void *), void *out, size_t bytes) {
    int pipe_ends[2];
    CHECK(pipe(pipe_ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        work(out);
        CHECK(write(pipe_ends[1], out, bytes) == (ssize_t)bytes);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    CHECK(read(pipe_ends[0], out, bytes) == (ssize_t)bytes);
}

static void granted(void) {
    struct client *client = client_connect("");
    const clientid_t *id = zoo_client_id(client->zh);
    CHECK(id->client_id != 0);
    CHECK_INT(zoo_recv_timeout(client->zh), SESSION_MS);
    struct client *other = client_connect("");
    CHECK(zoo_client_id(other->zh)->client_id != id->client_id);
    CHECK(memcmp(zoo_client_id(other->zh)->passwd, id->passwd, sizeof id->passwd) != 0);
    /* Between 2 and 20 ticks, whatever is asked for. */
    struct client *hasty = client_open("", 10, NULL, 0), *patient = client_open("", 3600000, NULL, 0);
    client_wait_state(hasty, ZOO_CONNECTED_STATE);
    CHECK_INT(zoo_recv_timeout(hasty->zh), 2 * TICK_MS);
    client_wait_state(patient, ZOO_CONNECTED_STATE);
    CHECK_INT(zoo_recv_timeout(patient->zh), 20 * TICK_MS);
}

static void idle(void) {
    /* Only the library's pings keep it. */
    struct client *client = client_open("", 2 * TICK_MS, NULL, 0);
    client_wait_state(client, ZOO_CONNECTED_STATE);
    OK(zoo_create(client->zh, "/e", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    pause_ms(6 * TICK_MS);
    CHECK(exists(client, "/e"));
    CHECK_INT(client->connects, 1);
}

static void dying_owner(void *out) {
    struct client *client = client_open("", 2 * TICK_MS, NULL, 0);
    client_wait_state(client, ZOO_CONNECTED_STATE);
    OK(zoo_create(client->zh, "/e", "mine", 4, ACL, ZOO_EPHEMERAL, NULL, 0));
    memcpy(out, zoo_client_id(client->zh), sizeof(clientid_t));
}

static void dying_patient_owner(void *out) {
    struct client *client = client_connect("");
    OK(zoo_create(client->zh, "/e", "mine", 4, ACL, ZOO_EPHEMERAL, NULL, 0));
    memcpy(out, zoo_client_id(client->zh), sizeof(clientid_t));
}

static void expired(void) {
    clientid_t id;
    in_a_process_that_dies(dying_owner, &id, sizeof id);
    struct client *other = client_connect("");
    struct inbox *inbox = inbox_new();
    struct Stat stat;
    OK(zoo_wexists(other->zh, "/e", inbox_watcher, inbox, &stat));
    CHECK_INT(stat.ephemeralOwner, id.client_id);
    inbox_expect(inbox, ZOO_DELETED_EVENT, "/e");
    /* It cannot be resumed any more. */
    struct client *late = client_open("", SESSION_MS, &id, 0);
    client_wait_state(late, ZOO_EXPIRED_SESSION_STATE);
    CHECK_RC(zoo_exists(late->zh, "/", 0, &stat), ZINVALIDSTATE);
}

static void resumed(void) {
    clientid_t id;
    in_a_process_that_dies(dying_patient_owner, &id, sizeof id);
    struct client *heir = client_open("", SESSION_MS, &id, 0);
    client_wait_state(heir, ZOO_CONNECTED_STATE);
    CHECK_INT(zoo_client_id(heir->zh)->client_id, id.client_id);
    CHECK(memcmp(zoo_client_id(heir->zh)->passwd, id.passwd, sizeof id.passwd) == 0);
    CHECK(exists(heir, "/e"));
    /* The session is the heir's to end. */
    client_close(heir);
    struct client *other = client_connect("");
    CHECK(!exists(other, "/e"));
}

static void wrong_password(void) {
    clientid_t id;
    in_a_process_that_dies(dying_patient_owner, &id, sizeof id);
    clientid_t wrong = id;
    wrong.passwd[3] ^= 1;
    struct client *thief = client_open("", SESSION_MS, &wrong, 0);
    client_wait_state(thief, ZOO_EXPIRED_SESSION_STATE);
    /* That cost the owner nothing. */
    struct client *owner = client_open("", SESSION_MS, &id, 0);
    client_wait_state(owner, ZOO_CONNECTED_STATE);
    CHECK(exists(owner, "/e"));
}

static void closed_is_closed(void) {
    struct client *client = client_connect("");
    clientid_t id = *zoo_client_id(client->zh);
    client_close(client);
    struct client *late = client_open("", SESSION_MS, &id, 0);
    client_wait_state(late, ZOO_EXPIRED_SESSION_STATE);
}

static void survives(void (*end)(void)) {
    struct client *client = client_connect("");
    char data[16];
    int len = sizeof data;
    struct Stat stat;
    clientid_t id = *zoo_client_id(client->zh);
    make(client, "/a", "kept");
    OK(zoo_create(client->zh, "/e", "", 0, ACL, ZOO_EPHEMERAL, NULL, 0));
    end();
    server_start();
    client_wait_connects(client, 2);
    CHECK_INT(zoo_client_id(client->zh)->client_id, id.client_id);
    OK(zoo_get(client->zh, "/a", 0, data, &len, &stat));
    CHECK_INT(len, 4);
    OK(zoo_exists(client->zh, "/e", 0, &stat));
    CHECK_INT(stat.ephemeralOwner, id.client_id);
    OK(zoo_set(client->zh, "/a", "on", 2, 0));
    /* New sessions never get an id that was given before. */
    struct client *other = client_connect("");
    CHECK(zoo_client_id(other->zh)->client_id != id.client_id);
    client_close(client);
    CHECK(!exists(other, "/e"));
}

static void kill_survived(void) { survives(server_kill); }
static void stop_survived(void) { survives(server_stop); }

static void outstanding_requests_are_told(void) {
    struct client *client = client_connect("");
    make(client, "/q", "");
    enum { COUNT = 200 };
    struct answer *answers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        answers[i] = answer_new();
        OK(zoo_acreate(client->zh, "/q/n-", "", 0, ACL, ZOO_PERSISTENT_SEQUENTIAL, answer_string, answers[i]));
    }
    server_kill();
    server_start();
    client_wait_connects(client, 2);
    /* A prefix was done and answered; what was answered is there, and the rest was told of the loss. */
    int answered = 0;
    for (int i = 0; i < COUNT; i++) {
        int rc = answer_wait(answers[i]);
        if (rc == ZOK) {
            CHECK_INT(answered, i);
            CHECK(exists(client, answers[i]->text));
            answered++;
        } else {
            CHECK_RC(rc, ZCONNECTIONLOSS);
        }
    }
}

static void read_only_is_a_wish(void) {
    struct client *client = client_open("", SESSION_MS, NULL, ZOO_READONLY);
    client_wait_state(client, ZOO_CONNECTED_STATE);
    make(client, "/a", "");
}

static void sync_then_read(void) {
    struct client *writer = client_connect(""), *reader = client_connect("");
    make(writer, "/a", "");
    for (int i = 1; i <= 200; i++) {
        char text[16], data[16];
        int len = sizeof data;
        struct Stat stat;
        struct answer *synced = answer_new();
        snprintf(text, sizeof text, "%d", i);
        OK(zoo_set(writer->zh, "/a", text, (int)strlen(text), -1));
        OK(zoo_async(reader->zh, "/a", answer_string, synced));
        OK(zoo_get(reader->zh, "/a", 0, data, &len, &stat));
        CHECK_INT(stat.version, i);
        OK(answer_wait(synced));
    }
}

static void other_addresses(void) {
    /* Most addresses in its list refuse; the library goes on to the one that does not. */
    char hosts[100];
    int port = 0;
    CHECK(sscanf(server_hosts(""), "127.0.0.1:%d", &port) == 1);
    snprintf(hosts, sizeof hosts, ",127.0.0.1:%d,127.0.0.1:2,127.0.0.1:3", port);
    /* It shuffles them, so several clients meet a refusing one first. */
    for (int i = 0; i < 5; i++) {
        struct client *client = client_open(hosts, SESSION_MS, NULL, 0);
        client_wait_state(client, ZOO_CONNECTED_STATE);
        OK(zoo_create(client->zh, "/n-", "", 0, ACL, ZOO_EPHEMERAL_SEQUENTIAL, NULL, 0));
    }
}

const struct scenario session_scenarios[] = {
    {"session/granted_with_id_password_and_timeout", NULL, granted},
    {"session/pings_keep_an_idle_one", NULL, idle},
    {"session/expires_and_takes_its_ephemerals", NULL, expired},
    {"session/resumed_by_another_process", NULL, resumed},
    {"session/wrong_password_is_turned_away", NULL, wrong_password},
    {"session/closed_one_cannot_be_resumed", NULL, closed_is_closed},
    {"session/survives_a_killed_server", NULL, kill_survived},
    {"session/survives_a_stopped_server", NULL, stop_survived},
    {"session/outstanding_requests_learn_of_a_lost_connection", NULL, outstanding_requests_are_told},
    {"session/read_only_clients_are_served", NULL, read_only_is_a_wish},
    {"session/sync_then_read_is_fresh", NULL, sync_then_read},
    {"session/other_addresses_are_tried", NULL, other_addresses},
    {NULL, NULL, NULL},
};
