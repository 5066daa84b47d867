import { availableParallelism } from 'node:os';
import swc from 'unplugin-swc';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Whatever begins last keeps the others waiting for it. */
const LONGEST = ['test/chaos/campaign.test.ts', 'test/engine/kill-points.test.ts'];

/** The pure specs last: their process is another one, and each is short. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId, project }: TestSpecification): number => {
      const at = LONGEST.findIndex((path) => moduleId.endsWith(path));
      if (at !== -1) return at;
      return LONGEST.length + (project.name === 'pure' ? 1 : 0);
    };
    return (await super.sort(files)).toSorted((one, other) => place(one) - place(other));
  }
}

const shared = {
  oxc: false,
  plugins: [swc.vite({ module: { type: 'es6' }, swcrc: true })],
} as const;

/** Loading Nest, its decorators and the drivers costs a second for each file: the files of a process share what they import. */
const FORKS = { pool: 'forks', isolate: false } as const;

export default defineConfig({
  ...shared,
  test: {
    // Tests wait more than they compute: two files at a time also on two cores.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    sequence: { sequencer: LongestFirst },
    // Two projects, so that a run of pure specs alone starts no Postgres and no Redis.
    projects: [
      {
        ...shared,
        test: {
          name: 'pure',
          include: ['src/**/*.spec.ts'],
          setupFiles: ['reflect-metadata'],
          ...FORKS,
          testTimeout: 60_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'world',
          include: ['test/**/*.test.ts'],
          setupFiles: ['reflect-metadata'],
          globalSetup: ['test/support/global-setup.ts'],
          ...FORKS,
          // A test waits for what happens, not for time: these limits end what hangs, on the slowest machine too.
          testTimeout: 180_000,
          hookTimeout: 360_000,
          expect: { poll: { timeout: 60_000 } },
        },
      },
    ],
  },
});
