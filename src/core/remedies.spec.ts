import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERRORS, type ErrorCode } from './errors.js';
import { nextCommand, REMEDIES } from './remedies.js';

const SOURCES = join(import.meta.dirname, '..');
const RUN = '0193bd9c-0000-7000-8000-000000000001';
const codes = Object.keys(ERRORS) as ErrorCode[];

/** Codes that stand, as an error’s own, in whatever an attempt of a step or an undo can reach. */
function thrownBehindSteps(): Set<string> {
  const folders = ['steps', 'ports', 'drivers', 'engine'];
  const files = folders.flatMap((folder) =>
    readdirSync(join(SOURCES, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !path.endsWith('.spec.ts'))
      .map((path) => join(SOURCES, folder, path)),
  );
  // What people ask for is refused at the door, and a process that does not start has no runs.
  const isDoor = (path: string): boolean =>
    /(batch-intake|batch-store|new-deployment|migrations|redis-url|state-folder|embedded|site-catalog)/.test(
      path,
    );
  return new Set(
    files
      .filter((path) => !isDoor(path))
      .flatMap((path) =>
        [
          ...readFileSync(path, 'utf8').matchAll(
            /(?:HatcheryError\(|super\(|code: |code === '[a-z-]+' \? |\? |: )\s*'([a-z]+(?:-[a-z]+)*)'/g,
          ),
        ].map(([, code]) => code!),
      )
      .filter((code) => Object.hasOwn(ERRORS, code)),
  );
}

describe('a cause that a machine can be parked for', () => {
  it('has an explanation and a remedy, whatever code a step, a driver or the engine throws', () => {
    const thrown = thrownBehindSteps();
    expect([...thrown]).toEqual(
      expect.arrayContaining(['foreign-guest', 'outcome-unknown', 'workers-died', 'service-unreachable']),
    );
    const refusedBefore = ['settings-invalid', 'request-invalid'];
    expect(
      [...thrown].filter((code) => !Object.hasOwn(REMEDIES, code) && !refusedBefore.includes(code)),
    ).toEqual([]);
  });

  it('is explained in its own words', () => {
    const remedies = Object.values(REMEDIES);
    expect(new Set(remedies.map(({ explanation }) => explanation)).size).toBe(remedies.length);
    expect(new Set(remedies.map(({ advice }) => advice)).size).toBe(remedies.length);
    for (const { explanation, advice } of remedies) {
      expect(explanation).toMatch(/^[A-Z].{30,}\.$/);
      expect(advice).toMatch(/^[A-Z].{15,}\.$/);
    }
  });
});

describe('the next command', () => {
  it('exists for every code, made of the CLI’s own words only', () => {
    for (const code of codes)
      for (const state of ['parked', 'failed'] as const)
        for (const reader of ['admin', 'teacher'] as const)
          for (const runId of [undefined, RUN])
            expect(nextCommand(code, 'l3-info', { state, reader, runId })).toMatch(
              /^hatchery (run|batch|cluster|admin) [a-z0-9 &-]+$/,
            );
  });

  it('sends teachers to nothing that is for admins', () => {
    for (const code of codes)
      expect(nextCommand(code, 'l3', { state: 'parked', reader: 'teacher' })).not.toMatch(
        /hatchery (cluster|admin)/,
      );
  });
});
