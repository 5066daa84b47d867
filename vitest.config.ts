import swc from 'unplugin-swc';
import { defineConfig } from 'vitest/config';

const shared = {
  oxc: false,
  plugins: [swc.vite({ module: { type: 'es6' }, swcrc: true })],
} as const;

export default defineConfig({
  ...shared,
  test: {
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
          testTimeout: 20_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
