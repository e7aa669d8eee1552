// What users of node-zookeeper-client do, and what the server must answer.
'use strict';

const assert = require('assert');
const { ACL, CreateMode, Id, Permission } = require('node-zookeeper-client');
const { Watcher, fails, sleep, TICK_MS } = require('./harness');

const CONTAINER = 4;
// Containers are looked for five times a second.
const REAPER = ['-Dznode.container.checkIntervalMs=200'];

const scenarios = [];
function scenario(name, run, flags = []) {
    scenarios.push({ name, run, flags });
}

scenario('crud/create_read_write_delete', async (server) => {
    const client = await server.connect();
    assert.strictEqual(await client.create('/a', 'one'), '/a');
    let [data, stat] = await client.call('getData', '/a');
    assert.strictEqual(data.toString(), 'one');
    assert.strictEqual(stat.version, 0);
    assert.strictEqual(stat.dataLength, 3);
    assert.deepStrictEqual(stat.czxid, stat.mzxid);
    stat = await client.call('setData', '/a', Buffer.from('seven'), 0);
    assert.strictEqual(stat.version, 1);
    await client.create('/a/x');
    await client.create('/a/y');
    const [names, parent] = await client.call('getChildren', '/a');
    assert.deepStrictEqual(names.sort(), ['x', 'y']);
    assert.strictEqual(parent.numChildren, 2);
    assert.strictEqual(parent.cversion, 2);
    await client.call('remove', '/a/x', -1);
    await client.call('remove', '/a/y', 0);
    await client.call('remove', '/a', 1);
    assert(!(await client.exists('/a')));
});

scenario('crud/each_error_has_its_name', async (server) => {
    const client = await server.connect();
    await client.create('/a');
    await client.create('/a/b');
    await client.create('/e', '', CreateMode.EPHEMERAL);
    await fails(client.create('/a'), 'NODE_EXISTS');
    await fails(client.create('/no/b'), 'NO_NODE');
    await fails(client.create('/e/x'), 'NO_CHILDREN_FOR_EPHEMERALS');
    await fails(client.call('getData', '/no'), 'NO_NODE');
    await fails(client.call('getChildren', '/no'), 'NO_NODE');
    await fails(client.call('setData', '/no', Buffer.alloc(0), -1), 'NO_NODE');
    await fails(client.call('remove', '/no', -1), 'NO_NODE');
    await fails(client.call('setData', '/a', Buffer.alloc(0), 7), 'BAD_VERSION');
    await fails(client.call('remove', '/a/b', 7), 'BAD_VERSION');
    await fails(client.call('remove', '/a', -1), 'NOT_EMPTY');
});

scenario('crud/large_data', async (server) => {
    const client = await server.connect();
    const data = Buffer.alloc(1000 * 1000, 'zorilla');
    await client.call('create', '/big', data);
    const [got] = await client.call('getData', '/big');
    assert(got.equals(data));
});

scenario('crud/no_data', async (server) => {
    const client = await server.connect();
    await client.call('create', '/none');
    const [data, stat] = await client.call('getData', '/none');
    assert(data === undefined || data === null);
    assert.strictEqual(stat.dataLength, 0);
});

scenario('crud/mkdirp_and_recursive_removal', async (server) => {
    const client = await server.connect();
    await client.call('mkdirp', '/a/b/c/d', Buffer.from('x'));
    await client.call('mkdirp', '/a/b/e');
    // This client looks one level deep.
    assert.deepStrictEqual((await client.call('listSubTreeBFS', '/a/b')).sort(), ['/a/b', '/a/b/c', '/a/b/e']);
    await client.call('removeRecursive', '/a/b/c', -1);
    assert(await client.exists('/a/b/e'));
    assert(!(await client.exists('/a/b/c')));
});

scenario('crud/thousand_requests_under_way', async (server) => {
    const client = await server.connect();
    await client.create('/q');
    const order = [];
    const made = [];
    for (let i = 0; i < 1000; i++) {
        made.push(client.create('/q/n-', '', CreateMode.PERSISTENT_SEQUENTIAL).then((at) => order.push(at)));
    }
    await Promise.all(made);
    assert.deepStrictEqual(order, [...order].sort());
    assert.strictEqual(new Set(order).size, 1000);
    const [names] = await client.call('getChildren', '/q');
    assert.strictEqual(names.length, 1000);
});

scenario('crud/chroot', async (server) => {
    const whole = await server.connect();
    await whole.create('/app');
    const inside = await server.connect('/app');
    assert.strictEqual(await inside.create('/n-', 'x', CreateMode.PERSISTENT_SEQUENTIAL), '/n-0000000000');
    assert(await whole.exists('/app/n-0000000000'));
    const watcher = new Watcher();
    await inside.call('getChildren', '/', watcher.callback);
    await whole.create('/app/other');
    await watcher.expect('NODE_CHILDREN_CHANGED', '/');
});

scenario('crud/sequences_and_ephemerals', async (server) => {
    const owner = await server.connect();
    const other = await server.connect();
    await owner.create('/live');
    for (let i = 0; i < 5; i++) {
        const at = await owner.create('/live/m-', '', CreateMode.EPHEMERAL_SEQUENTIAL);
        assert.strictEqual(at, `/live/m-000000000${i}`);
    }
    const stat = await other.call('exists', '/live/m-0000000000');
    assert.strictEqual(stat.ephemeralOwner.toString('hex'), owner.id);
    await owner.close();
    const [names] = await other.call('getChildren', '/live');
    assert.deepStrictEqual(names, []);
    // The counter goes on.
    assert.strictEqual(await other.create('/live/n-', '', CreateMode.PERSISTENT_SEQUENTIAL), '/live/n-0000000005');
});

scenario(
    'crud/a_container_asked_for_by_a_plain_create_is_persistent',
    async (server) => {
        // This client knows no containers; whoever passes the mode nevertheless gets what the reference gives.
        const client = await server.connect();
        await client.create('/used', '', CONTAINER);
        await client.create('/used/child');
        await client.call('remove', '/used/child', -1);
        await sleep(1000);
        assert(await client.exists('/used'));
    },
    REAPER,
);

scenario('multi/all_operations_succeed', async (server) => {
    const client = await server.connect();
    const [error, results] = await client.commit((t) =>
        t
            .create('/a', Buffer.from('x'))
            .create('/a/n-', Buffer.from(''), CreateMode.EPHEMERAL_SEQUENTIAL)
            .setData('/a', Buffer.from('y'), 0)
            .check('/a', 1)
            .remove('/a/n-0000000000', -1),
    );
    assert.ifError(error);
    assert.strictEqual(results.length, 5);
    assert.strictEqual(results[0].path, '/a');
    assert.strictEqual(results[1].path, '/a/n-0000000000');
    assert.strictEqual(results[2].stat.version, 1);
    const [data, stat] = await client.call('getData', '/a');
    assert.strictEqual(data.toString(), 'y');
    assert.deepStrictEqual(stat.czxid, stat.mzxid);
});

scenario('multi/a_failure_in_the_middle_undoes_all', async (server) => {
    const client = await server.connect();
    await client.create('/a');
    const [error, results] = await client.commit((t) =>
        t.create('/b').setData('/a', Buffer.from('x'), -1).check('/a', 7).remove('/a', -1),
    );
    assert.strictEqual(error.name, 'BAD_VERSION');
    assert.deepStrictEqual(
        results.map((result) => result.err),
        [0, 0, -103, -2],
    );
    assert(!(await client.exists('/b')));
    const stat = await client.call('exists', '/a');
    assert.strictEqual(stat.version, 0);
});

scenario('acl/creator_only', async (server) => {
    const owner = await server.connect();
    const other = await server.connect();
    await fails(owner.create('/mine', '', CreateMode.PERSISTENT, ACL.CREATOR_ALL_ACL), 'INVALID_ACL');
    owner.raw.addAuthInfo('digest', Buffer.from('user:secret'));
    await owner.create('/mine', 'x', CreateMode.PERSISTENT, ACL.CREATOR_ALL_ACL);
    await fails(other.call('getData', '/mine'), 'NO_AUTH');
    await fails(other.call('setData', '/mine', Buffer.from(''), -1), 'NO_AUTH');
    await fails(other.create('/mine/x'), 'NO_AUTH');
    await fails(other.call('setACL', '/mine', ACL.OPEN_ACL_UNSAFE, -1), 'NO_AUTH');
    const [error] = await other.commit((t) => t.setData('/mine', Buffer.from(''), -1));
    assert.strictEqual(error.name, 'NO_AUTH');
    other.raw.addAuthInfo('digest', Buffer.from('user:secret'));
    const [data] = await other.call('getData', '/mine');
    assert.strictEqual(data.toString(), 'x');
});

scenario('acl/get_and_set', async (server) => {
    const client = await server.connect();
    await client.create('/a');
    let [acls, stat] = await client.call('getACL', '/a');
    assert.strictEqual(acls.length, 1);
    assert.strictEqual(acls[0].permission, Permission.ALL);
    assert.strictEqual(acls[0].id.scheme, 'world');
    const readOnly = [new ACL(Permission.READ, new Id('ip', '127.0.0.1'))];
    await fails(client.call('setACL', '/a', readOnly, 7), 'BAD_VERSION');
    stat = await client.call('setACL', '/a', readOnly, 0);
    assert.strictEqual(stat.aversion, 1);
    await fails(client.call('setData', '/a', Buffer.from(''), -1), 'NO_AUTH');
    await client.call('getData', '/a');
    const unknown = [new ACL(Permission.ALL, new Id('nonesuch', 'x'))];
    await fails(client.create('/x', '', CreateMode.PERSISTENT, unknown), 'INVALID_ACL');
});

scenario('acl/authentication_survives_a_reconnect', async (server) => {
    const client = await server.connect();
    client.raw.addAuthInfo('digest', Buffer.from('user:secret'));
    await client.create('/mine', 'x', CreateMode.PERSISTENT, ACL.CREATOR_ALL_ACL);
    client.drop();
    await client.reached('connected', 2);
    await client.call('getData', '/mine');
    await server.restart();
    await client.reached('connected', 3);
    await client.call('getData', '/mine');
});

scenario('acl/unknown_scheme_ends_the_client', async (server) => {
    const client = await server.connect();
    client.raw.addAuthInfo('nonesuch', Buffer.from('x'));
    await client.reached('authenticationFailed');
});

scenario('watch/each_kind_fires_once', async (server) => {
    const client = await server.connect();
    const writer = await server.connect();
    const data = new Watcher();
    const children = new Watcher();
    const created = new Watcher();
    await client.create('/a');
    await client.call('getData', '/a', data.callback);
    await client.call('getChildren', '/a', children.callback);
    await client.call('exists', '/a/b', created.callback);
    await writer.create('/a/b');
    await children.expect('NODE_CHILDREN_CHANGED', '/a');
    await created.expect('NODE_CREATED', '/a/b');
    await data.expectNone(client);
    await writer.call('setData', '/a', Buffer.from('x'), -1);
    await data.expect('NODE_DATA_CHANGED', '/a');
    await writer.call('setData', '/a', Buffer.from('y'), -1);
    await writer.call('remove', '/a/b', -1);
    await data.expectNone(client);
    await children.expectNone(client);
    await created.expectNone(client);
    await client.call('getData', '/a', data.callback);
    await writer.call('remove', '/a', -1);
    await data.expect('NODE_DELETED', '/a');
});

scenario('watch/changes_missed_over_a_reconnect_are_told', async (server) => {
    const client = await server.connect();
    const writer = await server.connect();
    const watchers = {};
    for (const name of ['changed', 'deleted', 'parent', 'quiet']) await client.create(`/${name}`);
    for (const name of ['changed', 'deleted', 'created', 'parent', 'quiet']) watchers[name] = new Watcher();
    await client.call('getData', '/changed', watchers.changed.callback);
    await client.call('exists', '/deleted', watchers.deleted.callback);
    await client.call('exists', '/created', watchers.created.callback);
    await client.call('getChildren', '/parent', watchers.parent.callback);
    await client.call('getData', '/quiet', watchers.quiet.callback);
    // The client may not come back before the changes are made.
    client.hold();
    client.drop();
    await client.reached('disconnected');
    await writer.call('setData', '/changed', Buffer.from('x'), -1);
    await writer.call('remove', '/deleted', -1);
    await writer.create('/created');
    await writer.create('/parent/x');
    client.release();
    await client.reached('connected', 2);
    await watchers.changed.expect('NODE_DATA_CHANGED', '/changed');
    await watchers.deleted.expect('NODE_DELETED', '/deleted');
    await watchers.created.expect('NODE_CREATED', '/created');
    await watchers.parent.expect('NODE_CHILDREN_CHANGED', '/parent');
    await watchers.quiet.expectNone(client);
    await writer.call('setData', '/quiet', Buffer.from('x'), -1);
    await watchers.quiet.expect('NODE_DATA_CHANGED', '/quiet');
});

scenario('watch/transactions_fire_them', async (server) => {
    const client = await server.connect();
    const data = new Watcher();
    const children = new Watcher();
    await client.create('/a');
    await client.call('getData', '/a', data.callback);
    await client.call('getChildren', '/a', children.callback);
    const [failed] = await client.commit((t) => t.setData('/a', Buffer.from('x'), -1).remove('/no', -1));
    assert.strictEqual(failed.name, 'NO_NODE');
    await data.expectNone(client);
    const [error] = await client.commit((t) => t.setData('/a', Buffer.from('x'), -1).create('/a/b').create('/a/c'));
    assert.ifError(error);
    await data.expect('NODE_DATA_CHANGED', '/a');
    await children.expect('NODE_CHILDREN_CHANGED', '/a');
    await children.expectNone(client);
});

scenario('session/survives_a_lost_connection_and_a_killed_server', async (server) => {
    const client = await server.connect();
    const id = client.id;
    await client.create('/e', 'x', CreateMode.EPHEMERAL);
    client.drop();
    await client.reached('connected', 2);
    assert(await client.exists('/e'));
    await server.restart();
    await client.reached('connected', 3);
    assert.strictEqual(client.id, id);
    const stat = await client.call('exists', '/e');
    assert.strictEqual(stat.ephemeralOwner.toString('hex'), id);
});

scenario('session/resumed_with_id_and_password', async (server) => {
    const first = await server.connect();
    await first.create('/e', '', CreateMode.EPHEMERAL);
    const sessionId = first.raw.getSessionId();
    const sessionPassword = first.raw.getSessionPassword();
    first.abandon();
    const wrong = Buffer.from(sessionPassword);
    wrong[3] ^= 1;
    const thief = server.open('', { sessionId, sessionPassword: wrong });
    await thief.reached('expired');
    const heir = await server.connect('', { sessionId, sessionPassword });
    assert.strictEqual(heir.id, sessionId.toString('hex'));
    assert(await heir.exists('/e'));
    await heir.close();
    const other = await server.connect();
    assert(!(await other.exists('/e')));
});

scenario('session/expires_and_takes_its_ephemerals', async (server) => {
    const owner = await server.connect('', { sessionTimeout: 2 * TICK_MS });
    const other = await server.connect();
    assert.strictEqual(owner.raw.getSessionTimeout(), 2 * TICK_MS);
    await owner.create('/e', '', CreateMode.EPHEMERAL);
    const gone = new Watcher();
    await other.call('exists', '/e', gone.callback);
    const sessionId = owner.raw.getSessionId();
    const sessionPassword = owner.raw.getSessionPassword();
    owner.abandon();
    await gone.expect('NODE_DELETED', '/e');
    const late = server.open('', { sessionId, sessionPassword });
    await late.reached('expired');
});

scenario('session/pings_keep_an_idle_one', async (server) => {
    const client = await server.connect('', { sessionTimeout: 2 * TICK_MS });
    await client.create('/e', '', CreateMode.EPHEMERAL);
    await sleep(6 * TICK_MS);
    assert(await client.exists('/e'));
    assert.strictEqual(client.counts.disconnected, undefined);
});

scenario('recipes/lock_by_ephemeral_sequence', async (server) => {
    const setup = await server.connect();
    await setup.create('/lock');
    let holders = 0;
    let entered = 0;
    async function acquire(client) {
        const mine = (await client.create('/lock/n-', '', CreateMode.EPHEMERAL_SEQUENTIAL)).slice('/lock/'.length);
        for (;;) {
            const [names] = await client.call('getChildren', '/lock');
            names.sort();
            const before = names[names.indexOf(mine) - 1];
            if (before === undefined) return `/lock/${mine}`;
            const watcher = new Watcher();
            if (await client.call('exists', `/lock/${before}`, watcher.callback)) {
                await watcher.expect('NODE_DELETED', `/lock/${before}`);
            }
        }
    }
    async function contend() {
        const client = await server.connect();
        for (let round = 0; round < 5; round++) {
            const held = await acquire(client);
            holders++;
            entered++;
            assert.strictEqual(holders, 1);
            await sleep(2);
            holders--;
            await client.call('remove', held, -1);
        }
    }
    await Promise.all(Array.from({ length: 5 }, contend));
    assert.strictEqual(entered, 25);
});

module.exports = scenarios;
