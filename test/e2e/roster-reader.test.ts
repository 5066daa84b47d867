import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { RosterReader } from '../../src/app/batches/roster-reader.js';
import { storeZip } from '../../src/core/roster/zip.js';

const workbook = { name: 'class.xlsx', bytes: readFileSync('test/fixtures/roster.xlsx') };
const damaged = { name: 'class.xlsx', bytes: storeZip(new Map([['a', Buffer.from('b')]])) };

it('reads workbooks beside the service, and answers as if they were read inside', async () => {
  const reader = new RosterReader();
  let beats = 0;
  const heart = setInterval(() => (beats += 1), 1);
  const roster = await reader.read(workbook);
  clearInterval(heart);
  expect(roster.rows.map(({ login }) => login)).toEqual(['eberenger', '21904512', 'zdangely']);
  expect(beats).toBeGreaterThan(0);
  await expect(reader.read(damaged)).rejects.toMatchObject({
    code: 'roster-invalid',
    hint: expect.stringMatching(/\S/) as string,
    problems: [{ code: 'file-type', detail: 'The file is a ZIP archive, not a roster.' }],
  });
});

it('gives up on a workbook that takes too long, and reads the next one', async () => {
  const reader = new RosterReader({ deadlineMs: 1, waiting: 1 });
  await expect(reader.read(workbook)).rejects.toMatchObject({
    code: 'roster-invalid',
    problems: [{ code: 'xlsx-unreadable' }],
  });
  await expect(reader.read({ name: 'a.csv', bytes: Buffer.from('login\nada\n') })).resolves.toMatchObject({
    rows: [{ login: 'ada' }],
  });
});

it('reads two at a time, lets some wait, and refuses more', async () => {
  const reader = new RosterReader({ deadlineMs: 20_000, waiting: 2 });
  const reads = await Promise.allSettled(Array.from({ length: 6 }, () => reader.read(workbook)));
  expect(reads.map(({ status }) => status)).toEqual([
    'fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected',
  ]); // prettier-ignore
  expect(reads.at(-1)).toMatchObject({ reason: { code: 'too-many-requests', afterMs: 5000 } });
  expect((await reader.read(workbook)).rows).toHaveLength(3);
});
