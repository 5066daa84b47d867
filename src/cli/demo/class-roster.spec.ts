import { describe, expect, it } from 'vitest';
import { classRoster } from './class-roster.js';

const EXAMPLE =
  'identifiant;nom;prénom;courriel;groupe\nabe;Abe;Ann;ann@example.org;A\nbob;Bob;Bo;bo@example.org;B\nabe2;Abe;Al;al@example.org;A\n';
const logins = (roster: string) =>
  roster
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((row) => row.split(';')[0]);

describe('the roster of the demo', () => {
  it('is the example class when nobody asks for a number', () => {
    expect(classRoster(EXAMPLE, undefined)).toBe(EXAMPLE);
  });

  it('stops after the number asked for', () => {
    expect(logins(classRoster(EXAMPLE, 2))).toEqual(['abe', 'bob']);
  });

  it('repeats the class under logins that nobody else has, always the same', () => {
    expect(logins(classRoster(EXAMPLE, 7))).toEqual(['abe', 'bob', 'abe2', 'abe2x', 'bob2', 'abe22', 'abe3']);
    expect(classRoster(EXAMPLE, 7)).toBe(classRoster(EXAMPLE, 7));
  });
});
