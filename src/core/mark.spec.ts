import { describe, expect, it } from 'vitest';
import { describeWithMark, formatMark, isOwnMark, parseMark, type Mark } from './mark.js';

const id = (digit: string): string => `0193bd9c-0000-7000-8000-${digit.repeat(12)}`;
const aMark = (more: Partial<Mark> = {}): Mark => ({
  deployment: id('1'), machine: id('2'), run: id('3'), step: 'clone-template', vmid: 10_000, attempt: 1, ...more,
}); // prettier-ignore

describe('a mark', () => {
  it('is the last line of the description, and is read back as it was written', () => {
    for (const mark of [aMark(), aMark({ deleting: id('4') })]) {
      const description = describeWithMark('Ada Lovelace\nL3-INFO-1\n', mark);
      expect(description.split('\n')).toHaveLength(3);
      expect(parseMark(description)).toEqual(mark);
      expect(parseMark(`${description}\n\n`)).toEqual(mark);
    }
  });

  it.each([
    ['nothing', undefined],
    ['text', 'made by hand'],
    ['a mark that is not on the last line', `${formatMark(aMark())}\nmoved by hand`],
    ['text around it', `see ${formatMark(aMark())}`],
    ['another version', formatMark(aMark()).replace('v1', 'v2')],
    ['a short VMID', formatMark(aMark({ vmid: 99 }))],
    ['an upper-case id', formatMark(aMark({ machine: id('A') }))],
    ['two blanks', formatMark(aMark()).replace(' run=', '  run=')],
  ])('is not read from %s', (_, description) => {
    expect(parseMark(description)).toBeUndefined();
  });

  it('proves a guest ours only with the same deployment, machine and VMID', () => {
    expect(isOwnMark(aMark(), aMark({ run: id('9'), step: 'start-vm', attempt: 7 }))).toBe(true);
    expect(isOwnMark(undefined, aMark())).toBe(false);
    for (const other of [{ deployment: id('9') }, { machine: id('9') }, { vmid: 10_001 }]) {
      expect(isOwnMark(aMark(other), aMark())).toBe(false);
    }
  });

  it('is searched in linear time', () => {
    expect(parseMark(`[hatchery v1 ${'deployment='.repeat(50_000)}]`)).toBeUndefined();
  });
});
