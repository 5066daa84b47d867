import { availableParallelism } from 'node:os';
import swc from 'unplugin-swc';
import { defineConfig } from 'vitest/config';

const shared = {
  oxc: false,
  plugins: [swc.vite({ module: { type: 'es6' }, swcrc: true })],
} as const;

export default defineConfig({
  ...shared,
  test: {
    // Tests wait more than they compute: two files at a time also on two cores.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Two projects, so that a run of pure specs alone starts no Postgres and no Redis.
    projects: [
      {
        ...shared,
        test: {
          name: 'pure',
          include: ['src/**/*.spec.ts'],
          setupFiles: ['reflect-metadata'],
          pool: 'forks',
          testTimeout: 20_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'world',
          include: ['test/**/*.test.ts'],
          setupFiles: ['reflect-metadata'],
          globalSetup: ['test/support/global-setup.ts'],
          pool: 'forks',
          testTimeout: 40_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
