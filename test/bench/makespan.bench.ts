import { type Bench, percentile, round } from './support/bench.js';
import { followToEnd, rosterOf, startProduct, submitRoster } from './support/product.js';

const MACHINES = 24;

/** How long the product takes to make a class. */
export const bench: Bench = async () => {
  const product = await startProduct({ timeScale: 0.05 });
  try {
    const client = await product.signIn('teacher');
    const roster = await rosterOf(MACHINES);
    const { batch, sentAtNs } = await submitRoster(client, { name: 'class', roster });
    const { readyAtNs } = await followToEnd(product, client, batch);
    const seconds = [...readyAtNs.values()].map((at) => Number(at - sentAtNs) / 1e9);
    return {
      isMet: seconds.length === MACHINES,
      seconds: round(percentile(seconds, 1)),
      medianReadySeconds: round(percentile(seconds, 0.5)),
      cpuSeconds: await product.cpuSeconds(),
    };
  } finally {
    await product.stop();
  }
};
