import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { maskSecrets, openJournal, parseJournal } from './journal.js';

describe('the journal', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'journal-spec-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('begins with the world, once, whoever opens it', () => {
    const file = join(dir, 'journal');
    const first = openJournal(file, { timeScale: 1 });
    const second = openJournal(file, { timeScale: 1 });
    second.record({ sim: 'winrm', event: 'request', op: 'dhcp.allow' });
    first.record({ sim: 'proxmox', event: 'request', op: 'version' });
    first.close();
    second.close();
    const lines = parseJournal(readFileSync(file, 'utf8'));
    expect(lines.map(({ event, op }) => op ?? event)).toEqual(['world', 'dhcp.allow', 'version']);
    expect(new Set(lines.map(({ writer }) => writer)).size).toBe(2);
    expect(lines.filter(({ writer }) => writer === lines[0]!.writer).map(({ seq }) => seq)).toEqual([1, 2]);
  });

  it('writes the world into an empty file', () => {
    const file = join(dir, 'journal');
    writeFileSync(file, '');
    openJournal(file, { timeScale: 1 }).close();
    expect(parseJournal(readFileSync(file, 'utf8')).map(({ event }) => event)).toEqual(['world']);
  });

  it('keeps the moment of the effect when the line is written later', () => {
    const journal = openJournal(join(dir, 'journal'), {});
    const ns = journal.now();
    journal.record({ sim: 'a', event: 'request', op: 'second' });
    journal.record({ sim: 'a', event: 'request', op: 'first', ns });
    expect(journal.read().map(({ op }) => op)).toEqual([undefined, 'first', 'second']);
    journal.close();
  });

  it('is read on from where it was, in the order of all writers, each line when it is whole', () => {
    const file = join(dir, 'journal');
    const journal = openJournal(file, {});
    const ops = (): (string | undefined)[] => journal.read().map(({ op }) => op);
    const line = { v: 1, ns: '1', writer: 'other', seq: 1, sim: 'b', event: 'request', op: 'earliest' };
    const text = `${JSON.stringify(line)}\n`;
    journal.record({ sim: 'a', event: 'request', op: 'é' });
    appendFileSync(file, text.slice(0, 30));
    expect(ops()).toEqual([undefined, 'é']);
    appendFileSync(file, text.slice(30));
    journal.record({ sim: 'a', event: 'request', op: 'last' });
    expect(ops()).toEqual(['earliest', undefined, 'é', 'last']);
    expect(ops()).toEqual(['earliest', undefined, 'é', 'last']);
    journal.close();
  });

  it('hides secrets at any depth', () => {
    expect(
      maskSecrets({ cipassword: 'x', a: [{ tokenSecret: 'y', name: 'z' }], PVEAuthCookie: 'c' }),
    ).toEqual({
      cipassword: '***',
      a: [{ tokenSecret: '***', name: 'z' }],
      PVEAuthCookie: '***',
    });
  });

  it('leaves out the torn last line of a writer that was killed', () => {
    const file = join(dir, 'journal');
    openJournal(file, {}).close();
    expect(parseJournal(`${readFileSync(file, 'utf8')}{"v":1,"ns":"12`)).toHaveLength(1);
  });
});
