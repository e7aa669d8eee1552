// What the scenarios share: a server of their own, clients with promises, and watchers that can be waited for.
'use strict';

const assert = require('assert');
const { spawn } = require('child_process');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');
const zookeeper = require('node-zookeeper-client');

const TICK_MS = 500;
const SESSION_MS = 8000;
// What anything may take that a scenario waits for.
const WAIT_MS = 15000;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function within(promise, what, ms = WAIT_MS) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function eventually(what, holds) {
    for (const deadline = Date.now() + WAIT_MS; !(await holds()); await sleep(20)) {
        assert(Date.now() < deadline, `not within ${WAIT_MS} ms: ${what}`);
    }
}

// A port below those that the system gives to outgoing connections: no client can take it while the server is down.
async function freePort() {
    for (let attempt = 0; attempt < 1000; attempt++) {
        const port = 24000 + ((process.pid * 7 + Math.floor(Math.random() * 1000)) % 1000);
        const free = await new Promise((done) => {
            const probe = net.createServer();
            probe.once('error', () => done(false));
            probe.listen(port, '127.0.0.1', () => probe.close(() => done(true)));
        });
        if (free) return port;
    }
    throw new Error('no port is free');
}

class Server {
    constructor(flags = []) {
        this.flags = flags;
        this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'zorilla-node-'));
        this.process = null;
        this.clients = [];
    }

    async start() {
        if (this.port === undefined) {
            this.port = await freePort();
            fs.mkdirSync(path.join(this.folder, 'data'));
            const lines = [
                `tickTime=${TICK_MS}`,
                `dataDir=${path.join(this.folder, 'data')}`,
                `clientPort=${this.port}`,
                'clientPortAddress=127.0.0.1',
                'maxClientCnxns=0',
                '4lw.commands.whitelist=*',
                'admin.enableServer=false',
                process.env.ZORILLA_CONF || '',
            ];
            fs.writeFileSync(path.join(this.folder, 'zoo.cfg'), lines.join('\n') + '\n');
        }
        const log = fs.openSync(path.join(this.folder, 'server.log'), 'a');
        const words = process.env.ZORILLA.split(' ').filter(Boolean);
        const config = path.join(this.folder, 'zoo.cfg');
        const child = spawn(words[0], [...words.slice(1), 'server', ...this.flags, config], {
            stdio: ['ignore', log, log],
        });
        fs.closeSync(log);
        this.process = child;
        this.ended = new Promise((done) => child.once('exit', done));
        child.once('error', () => {});
        let gone = false;
        this.ended.then(() => (gone = true));
        for (const deadline = Date.now() + 2 * WAIT_MS; !(await this.serves()); await sleep(20)) {
            assert(!gone && Date.now() < deadline, `the server does not serve; its log ends with:\n${this.logEnd()}`);
        }
    }

    logEnd() {
        return fs.readFileSync(path.join(this.folder, 'server.log'), 'utf8').split('\n').slice(-20).join('\n');
    }

    serves() {
        return new Promise((done) => {
            let answer = '';
            const socket = net.connect(this.port, '127.0.0.1', () => socket.write('srvr'));
            socket.setTimeout(2000, () => socket.destroy());
            socket.on('data', (part) => (answer += part));
            socket.on('error', () => {});
            socket.on('close', () => done(answer.startsWith('Zookeeper version')));
        });
    }

    // A crash of the process.
    async kill() {
        this.process.kill('SIGKILL');
        await within(this.ended, 'the killed server ends');
        this.process = null;
    }

    // Clients come back when it serves again. This client waits without end for the answer to a connect request, and
    // the reference leaves one that it gets while it starts without any.
    async restart() {
        this.clients.forEach((client) => client.hold());
        await this.kill();
        await this.start();
        this.clients.forEach((client) => client.release());
    }

    // A client that has begun to connect: of a session that exists, if `options` name one.
    open(suffix = '', options = {}) {
        const settings = { sessionTimeout: SESSION_MS, spinDelay: 100, retries: 0, ...options };
        const client = new Client(zookeeper.createClient(`127.0.0.1:${this.port}${suffix}`, settings));
        this.clients.push(client);
        client.raw.connect();
        return client;
    }

    // A client whose session is established.
    async connect(suffix, options) {
        const client = this.open(suffix, options);
        await client.reached('connected');
        return client;
    }

    async destroy() {
        for (const client of this.clients) client.abandon();
        if (this.process !== null) await this.kill();
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

// The client with promises in place of callbacks.
class Client {
    constructor(raw) {
        this.raw = raw;
        this.counts = {};
        this.waiting = [];
        for (const state of ['connected', 'disconnected', 'expired', 'authenticationFailed']) {
            raw.on(state, () => {
                this.counts[state] = (this.counts[state] || 0) + 1;
                this.waiting.forEach((check) => check());
            });
        }
    }

    // Resolves when the state was reported `times` times in all.
    reached(state, times = 1) {
        return within(
            new Promise((done) => {
                const check = () => {
                    if (times <= (this.counts[state] || 0)) done();
                };
                this.waiting.push(check);
                check();
            }),
            `${state} ${times} times`,
        );
    }

    call(method, ...args) {
        return within(
            new Promise((done, fail) => {
                this.raw[method](...args, (error, ...results) => {
                    if (error) fail(error);
                    else done(results.length < 2 ? results[0] : results);
                });
            }),
            `${method} ${args[0]}`,
        );
    }

    create(at, data = '', mode = zookeeper.CreateMode.PERSISTENT, acl = zookeeper.ACL.OPEN_ACL_UNSAFE) {
        return this.call('create', at, Buffer.from(data), acl, mode);
    }

    async exists(at) {
        const stat = await this.call('exists', at);
        return stat !== null && stat !== undefined;
    }

    commit(build) {
        const transaction = this.raw.transaction();
        build(transaction);
        return new Promise((done) => transaction.commit((error, results) => done([error, results])));
    }

    get id() {
        return this.raw.getSessionId().toString('hex');
    }

    async close() {
        this.raw.close();
        await this.reached('disconnected', (this.counts.disconnected || 0) + 1);
    }

    // Breaks the connection without a word to the server; the client connects again by itself.
    drop() {
        this.raw.connectionManager.socket.destroy();
    }

    // Keeps the client from connecting again until `release`.
    hold() {
        this.raw.connectionManager.connect = () => {};
    }

    release() {
        // Lets the method of its class show again.
        delete this.raw.connectionManager.connect;
        if (this.raw.connectionManager.socket.destroyed) this.raw.connectionManager.connect();
    }

    // Ends the client without ending the session.
    abandon() {
        this.hold();
        if (this.raw.connectionManager.socket) this.raw.connectionManager.socket.destroy();
    }
}

// A watcher whose events are taken one after the other.
class Watcher {
    constructor() {
        this.events = [];
        this.waiting = null;
        this.callback = (event) => {
            this.events.push([event.getName(), event.getPath()]);
            if (this.waiting) this.waiting();
        };
    }

    async expect(name, at) {
        if (this.events.length === 0) {
            await within(new Promise((done) => (this.waiting = done)), `an event ${name} for ${at}`);
        }
        this.waiting = null;
        assert.deepStrictEqual(this.events.shift(), [name, at]);
    }

    // Events that are due have arrived before the answer to a request made now.
    async expectNone(client) {
        await client.exists('/');
        assert.deepStrictEqual(this.events, []);
    }
}

// The call must fail with this exception of the client.
async function fails(promise, name) {
    await assert.rejects(promise, (error) => {
        assert.strictEqual(error.name, name, String(error.stack));
        return true;
    });
}

module.exports = { Server, Watcher, eventually, fails, sleep, within, TICK_MS, SESSION_MS };
