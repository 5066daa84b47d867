// The engine without Nest and without a queue, as a process of its own: it is told which steps to take, or what to accept, and where to stand still.
// From the build.
import { existsSync } from 'node:fs';
import { assemble } from '../../dist/app/engine/assemble.js';
import { loadSite } from '../../dist/app/config/site.js';
import { EngineWorker } from '../../dist/engine/worker.js';
import { EFFECTS } from '../../dist/steps/effects.js';
import { STEPS } from '../../dist/steps/index.js';

/** `point run step` -> how often it is still passed before an attempt stands there until told to go on. */
const armed = new Map();
const standing = new Map();
let intake;
let engine;

const checkpoints = {
  async reach(point, { runId, step }) {
    const key = `${point} ${runId} ${step}`;
    const order = armed.get(key);
    if (order === undefined) return;
    order.left -= 1;
    if (order.left > 0) return;
    process.send({ stands: key });
    if (order.freezes) {
      armed.delete(key);
      standStill(order.freezes);
      return;
    }
    // An attempt that comes again, because the lease of this crowded process ran out, stands there too.
    await new Promise((resolve) => standing.set(key, resolve));
  },
};

/** In the turn of the caller: nothing of this process moves until somebody wakes it, and then it goes on where it was. */
function standStill({ until }) {
  if (until === 'SIGCONT') process.kill(process.pid, 'SIGSTOP');
  else while (!existsSync(until)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
}

/** What a worker says about attempts that were no longer its own. */
const REFUSALS = ['a stale result was refused', 'a stale attempt was given up', 'an attempt was interrupted'];
const tell = ({ run, step }, sentence) => {
  if (REFUSALS.includes(sentence)) process.send({ refused: `${run} ${step}`, sentence });
};
const log = { debug() {}, info: tell, warn: tell, error: tell };

/** As in the test's own process: each step by itself. */
const eachAlone = (all) => new Map([...all].map(([id, one]) => [id, { ...one, coalesce: undefined }]));

async function start({ configDir, secretKey, ...options }) {
  const assembly = await assemble({
    ...options,
    secretKey: Buffer.from(secretKey, 'base64'),
    site: loadSite({ configDir, env: {} }),
    log,
    observe() {},
    webhook: { async post() {} },
    checkpoints,
    registry: { steps: eachAlone(STEPS), effects: eachAlone(EFFECTS) },
  });
  intake = assembly.intake;
  engine = new EngineWorker(assembly.parts);
  await engine.start();
  process.send({ started: true });
}

async function take({ stepId }) {
  const failure = await engine.handle(stepId).then(
    () => undefined,
    (error) => String(error),
  );
  process.send({ left: stepId, failure });
}

async function accept({ request, actor, key }) {
  process.send({ accepted: await intake.create(request, actor, key) });
}

function goOn(key) {
  armed.delete(key);
  standing.get(key)?.();
}

// Suspended and awake again, it goes on as if nothing had happened.
process.on('SIGCONT', () => [...standing.keys()].forEach(goOn));
process.on('message', (order) => {
  if (order.start) void start(order.start);
  if (order.arm) armed.set(order.arm.key, { left: order.arm.nth, freezes: order.arm.freezes });
  if (order.goOn) goOn(order.goOn);
  if (order.accept) void accept(order.accept);
  if (order.take) void take(order.take);
});
process.once('disconnect', () => process.exit(0));
