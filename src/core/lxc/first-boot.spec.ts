import { describe, expect, it } from 'vitest';
import { firstBootArguments, firstBootSchema } from './first-boot.js';
import { argumentsProblem, hookSchema, hookUseSchema } from './hook-definition.js';

const machine = { mac: 'BC:24:11:B3:C1:3D', login: 'rapamato' };

describe('the arguments of the first boot', () => {
  it('are plain names and values', () => {
    const asked = firstBootSchema.parse({
      packages: ['cinnamon'],
      domain: 'cri',
      signIn: { admins: ['it-staff'] },
    });
    const domain = { realm: 'local.isima.fr', user: 'join', password: `a"'$(id)\\` };
    expect(firstBootArguments(asked, machine, domain)).toEqual({
      version: 1,
      mac: 'bc:24:11:b3:c1:3d',
      update: true,
      packages: ['cinnamon'],
      realm: 'local.isima.fr',
      joinUser: 'join',
      joinPassword: `a"'$(id)\\`,
      owner: 'rapamato',
      admins: ['it-staff'],
    });
  });

  it.each([
    [{ packages: ['-oDebug::x=1'] }],
    [{ packages: ['a b'] }],
    [{ packages: ['a;id'] }],
    [{ packages: ['A'] }],
    [{ signIn: { admins: ['domain admins'] } }],
    [{ signIn: { admins: ['x\n+:ALL:ALL'] } }],
    [{ signIn: { admins: ['ALL : ALL'] } }],
    [{ script: 'x' }],
  ])('refuse %j', (asked) => expect(firstBootSchema.safeParse(asked).success).toBe(false));

  it('let nobody sign in by a login that is no name of an account', () => {
    const asked = firstBootSchema.parse({ signIn: {} });
    for (const login of ['élodie', 'a b', 'x\n+:ALL:ALL', '(root)', ''])
      expect(() => firstBootArguments(asked, { ...machine, login }, undefined)).toThrow(
        /no name of an account/,
      );
  });
});

describe('a registered hook', () => {
  const hook = hookSchema.parse({
    name: 'lab',
    phase: 'start',
    script: { file: 'lab.sh' },
    sha256: 'a'.repeat(64),
    arguments: ['labName'],
  });

  it('gets exactly the arguments that it declares', () => {
    expect(argumentsProblem(hook, { labName: 'b12' })).toBeUndefined();
    expect(argumentsProblem(hook, {})).toBe('the hook lab needs labName');
    expect(argumentsProblem(hook, { labName: 'b12', path: '/x' })).toBe('the hook lab has no path');
    expect(
      argumentsProblem(hook, JSON.parse('{"labName":"b","__proto__":"x"}') as Record<string, string>),
    ).toBe('the hook lab has no __proto__');
  });

  it.each(['a\nb', 'a\u0000', '\u001b[2J', 'a\u2028b'])('gets no argument %j', (value) =>
    expect(hookUseSchema.safeParse({ hook: 'lab', arguments: { labName: value } }).success).toBe(false),
  );

  it.each(['../x', '/etc/x', 'x;id', 'x\n'])('is asked for by its name, never by %j (S09)', (name) =>
    expect(hookUseSchema.safeParse({ hook: name }).success).toBe(false),
  );
});
