import { describe, expect, it } from 'vitest';
import { assignNames, batchNameProblem, machineName } from './names.js';

const rows = (...logins: readonly string[]): { login: string }[] => logins.map((login) => ({ login }));
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

describe('a machine name', () => {
  it.each([
    ['jdupont', 'vm-jdupont'],
    ['Élodie.Du_Pré', 'vm-elodie-du-pre'],
    ['bœuf', 'vm-boeuf'],
    ['e\u0301lodie', 'vm-elodie'],
    ['Łukasz', 'vm-lukasz'],
    ['a..b--c', 'vm-a-b-c'],
    ['a-', 'vm-a'],
    ['$&', 'vm'],
  ])('of %s is %s', (login, name) => {
    expect(machineName('vm-{login}', login)).toBe(name);
  });

  it('is always one DNS label of at most 63 characters', () => {
    for (const login of ['x'.repeat(64), `${'x'.repeat(59)}.y.z`, '-', `${'-'.repeat(70)}a`]) {
      expect(machineName('VM {login} TP!', login)).toMatch(LABEL);
    }
  });

  it('takes the login as text, never as part of a pattern', () => {
    expect(machineName('vm-{login}', '$1{login}')).toBe('vm-1-login');
  });
});

describe('names of a class', () => {
  it('number the logins that fold to one name, in row order', () => {
    expect(assignNames(rows('a.b', 'a-b', 'c', 'a_b'), 'vm-{login}', new Set())).toEqual([
      'vm-a-b',
      'vm-a-b-2',
      'vm-c',
      'vm-a-b-3',
    ]);
  });

  it('pass over names of live machines', () => {
    expect(assignNames(rows('ada', 'ada.'), 'vm-{login}', new Set(['vm-ada', 'vm-ada-3']))).toEqual([
      'vm-ada-2',
      'vm-ada-4',
    ]);
  });

  it('never give a row’s own name to another row', () => {
    expect(assignNames(rows('a', 'a.', 'a-2'), 'vm-{login}', new Set())).toEqual([
      'vm-a',
      'vm-a-3',
      'vm-a-2',
    ]);
  });

  it('keep within 63 characters with their number, and stay different', () => {
    const names = assignNames(
      rows(...Array.from({ length: 200 }, (_, index) => `${'x'.repeat(62)}${index}`)),
      '{login}',
      new Set(),
    );
    expect(new Set(names).size).toBe(200);
    for (const name of names) expect(name).toMatch(LABEL);
  });

  it('are found quickly for 2,000 rows of one name', () => {
    const names = assignNames(rows(...Array.from({ length: 2000 }, () => 'same')), 'vm-{login}', new Set());
    expect(names.at(-1)).toBe('vm-same-2000');
  });
});

describe('a batch name', () => {
  it('may be a slug', () => {
    expect(batchNameProblem('l3-info')).toBeUndefined();
  });

  it.each([
    ['L3 Info — été', 'Write l3-info-ete.'],
    ['-x-', 'Write x.'],
    ['', 'Write a name such as l3-info.'],
    ['../..', 'Write a name such as l3-info.'],
    ['01994a3e-0000-7000-8000-000000000001', 'Write a name such as l3-info.'],
  ])('%j is refused with what to write', (name, hint) => {
    expect(batchNameProblem(name)?.hint).toBe(hint);
  });
});
