// Runs the scenarios one after the other, each with a server of its own, and prints one line for each.
'use strict';

const { Server, within } = require('./harness');
const scenarios = require('./scenarios');

const SCENARIO_MS = 90000;

async function run(scenario) {
    const server = new Server(scenario.flags);
    try {
        await server.start();
        await within(scenario.run(server), 'the scenario', SCENARIO_MS);
        return true;
    } catch (error) {
        console.log(`    ${error.stack}`.replace(/\n/g, '\n    '));
        return false;
    } finally {
        await server.destroy();
    }
}

async function main(words) {
    let passed = 0;
    let failed = 0;
    for (const scenario of scenarios) {
        if (words.length !== 0 && !words.some((word) => scenario.name.includes(word))) continue;
        const began = Date.now();
        const good = await run(scenario);
        if (good) passed++;
        else failed++;
        const took = ((Date.now() - began) / 1000).toFixed(2).padStart(6);
        console.log(`${good ? 'ok    ' : 'FAILED'} ${took} s  ${scenario.name}`);
    }
    if (passed + failed === 0) console.log('no scenario matches');
    console.log(`${passed} passed, ${failed} failed`);
    // Clients that were abandoned may still have timers.
    process.exit(failed === 0 && passed !== 0 ? 0 : 1);
}

// What goes wrong where nobody waits for it belongs to no scenario, so it fails all of them.
process.on('unhandledRejection', (error) => {
    console.log(`${error.stack}\n0 passed, 1 failed`);
    process.exit(1);
});
main(process.argv.slice(2));
