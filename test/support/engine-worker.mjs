// An engine worker without Nest, as a process of its own that a test may kill at a named point. Runs from the build.
import { assemble } from '../../dist/app/engine/assemble.js';
import { loadSite } from '../../dist/app/config/site.js';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

process.once('message', (order) => void work(order));

async function work(order) {
  const { options, kill } = order;
  const checkpoints = {
    async reach(point, facts) {
      if (point !== kill?.point || facts.step !== kill.step) return;
      process.kill(process.pid, 'SIGKILL');
      await new Promise(() => {});
    },
  };
  const { configDir, secretKey, ...rest } = options;
  const assembly = await assemble({
    ...rest,
    secretKey: Buffer.from(secretKey, 'base64'),
    site: loadSite({ configDir, env: {} }),
    log: process.env.ENGINE_LOG ? console : quiet,
    observe() {},
    webhook: { async post() {} },
    checkpoints,
  });
  assembly.caretaker.start();
  await assembly.startWorker(16);
  process.send('working');
}
process.once('disconnect', () => process.exit(0));
