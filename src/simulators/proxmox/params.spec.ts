import { describe, expect, it } from 'vitest';
import { FORMATS } from './formats.js';
import { checkConflicts, checkParams, OPTIONAL_FLAG, TEXT, VMID, type ParamSpecs } from './params.js';
import { PveError, type RawValue } from './wire.js';

const SPECS: ParamSpecs = {
  vmid: VMID,
  cores: { type: 'integer', optional: true, minimum: 1, maximum: 128 },
  limit: { type: 'number', optional: true, minimum: 0 },
  start: OPTIONAL_FLAG,
  name: { type: 'string', optional: true, format: FORMATS['dns-name'], minLength: 3, maxLength: 5 },
  kind: { type: 'string', optional: true, enum: ['a', 'b'] },
  word: { type: 'string', optional: true, pattern: /^[a-z]+$/ },
  tags: { type: 'string', optional: true, format: FORMATS['pve-tag'], list: true },
  command: { type: 'array', optional: true, items: { type: 'string', maxLength: 3 } },
  path: { type: 'string', optional: true, requires: 'word' },
  'net[n]': {
    type: 'string',
    optional: true,
    properties: {
      model: { type: 'string', enum: ['virtio', 'e1000'], defaultKey: true },
      macaddr: { type: 'string', optional: true, format: FORMATS['mac-addr'] },
      virtio: { type: 'string', alias: 'macaddr', keyAlias: 'model' },
      tag: { type: 'integer', optional: true, minimum: 1, maximum: 4094 },
      firewall: OPTIONAL_FLAG,
      rate: { type: 'number', optional: true, requires: 'tag' },
    },
  },
  'cores-of-nine': { type: 'integer', optional: true, version: '9.1' },
};

function check(
  raw: Record<string, RawValue>,
  fromPath: Record<string, string> = {},
  version: '8.4' | '9.1' = '9.1',
) {
  return checkParams(SPECS, new Map(Object.entries({ vmid: '100', ...raw })), fromPath, version);
}

function errorsOf(
  raw: Record<string, RawValue>,
  fromPath: Record<string, string> = {},
  version?: '8.4' | '9.1',
): Record<string, unknown> {
  try {
    check(raw, fromPath, version);
  } catch (error) {
    if (error instanceof PveError && error.status === 400) return { ...error.more.errors };
    throw error;
  }
  return {};
}

const one = (raw: Record<string, RawValue>): unknown => {
  return Object.values(errorsOf(raw))[0];
};

describe('parameter checks', () => {
  it('say each kind of mistake in its own words', () => {
    expect(one({ cores: 'many' })).toBe("type check ('integer') failed - got 'many'");
    expect(one({ cores: '1.5' })).toBe("type check ('integer') failed - got '1.5'");
    expect(one({ limit: 'x' })).toBe("type check ('number') failed - got 'x'");
    expect(one({ start: 'true' })).toBe("type check ('boolean') failed - got 'true'");
    expect(one({ cores: '0' })).toBe('value must have a minimum value of 1');
    expect(one({ cores: '129' })).toBe('value must have a maximum value of 128');
    expect(one({ name: 'ab' })).toBe('value must be at least 3 characters long');
    expect(one({ name: 'abcdef' })).toBe('value may only be 5 characters long');
    expect(one({ name: 'a b' })).toBe('invalid format - value does not look like a valid DNS name\n');
    expect(one({ word: 'A' })).toBe('value does not match the regex pattern');
    expect(one({ kind: 'c' })).toBe("value 'c' does not have a value in the enumeration 'a, b'");
    expect(one({ colour: 'red' })).toBe(
      'property is not defined in schema and the schema does not allow additional properties',
    );
    expect(errorsOf({ path: '/' })).toEqual({ word: "missing property required by 'path'" });
    expect(() => checkParams(SPECS, new Map(), {}, '9.1')).toThrow(
      expect.objectContaining({ more: { errors: { vmid: 'property is missing and it is not optional' } } }),
    );
  });

  it('report all that fails together, also what the URI says', () => {
    expect(errorsOf({ cores: 'x', start: '2' }, { node: '-', vmid: '99' })).toEqual({
      node: 'invalid format - value does not look like a valid node name\n',
      vmid: 'invalid format - value does not look like a valid VM ID\n',
      cores: "type check ('integer') failed - got 'x'",
      start: "type check ('boolean') failed - got '2'",
    });
  });

  it('refuse another value for what the URI says', () => {
    const conflict = (): void => checkConflicts(new Map([['node', 'b']]), { node: 'a' });
    expect(conflict).toThrow(
      expect.objectContaining({
        more: {
          errors: { node: 'duplicate parameter (already defined in URI) with conflicting values!' },
        },
      }),
    );
    expect(() => checkConflicts(new Map([['node', 'a']]), { node: 'a' })).not.toThrow();
  });

  it('know indexed parameters up to their last one', () => {
    expect(errorsOf({ net31: 'virtio' })).toEqual({});
    for (const name of ['net32', 'net00', 'net', 'net[n]'])
      expect(errorsOf({ [name]: 'virtio' })[name]).toMatch(/^property is not defined in schema/);
  });

  it('wrap a single value of an array, and join the values of a list', () => {
    expect(check({ command: 'ls' }).list('command')).toEqual(['ls']);
    expect(check({ command: ['ls', '-l'] }).list('command')).toEqual(['ls', '-l']);
    expect(errorsOf({ command: ['ls', 'long'] })).toMatchObject({
      'command[1]': 'value may only be 3 characters long',
    });
    expect(check({ tags: ['a', 'b'] }).text('tags')).toBe('a,b');
    expect(check({ tags: 'a;b c' }).list('tags')).toEqual(['a', 'b', 'c']);
    expect(one({ tags: 'a;/' })).toBe('invalid format - invalid characters in tag\n');
    expect(one({ word: ['a', 'b'] })).toBe("type check ('string') failed - got ARRAY");
  });

  it('take JSON booleans where a boolean belongs only', () => {
    expect(check({ start: true }).flag('start')).toBe(true);
    expect(check({ start: null }).has('start')).toBe(false);
    expect(one({ word: true })).toBe("type check ('string') failed - got JSON::PP::Boolean");
    expect(one({ word: { a: 'b' } })).toBe("type check ('string') failed - got HASH");
  });

  it('know some parameters in one version only', () => {
    expect(errorsOf({ 'cores-of-nine': '1' })).toEqual({});
    expect(errorsOf({ 'cores-of-nine': '1' }, {}, '8.4')).toMatchObject({
      'cores-of-nine': expect.stringMatching(/^property is not defined/),
    });
  });

  it('read property strings', () => {
    const bad = (value: string): unknown => one({ net0: value });
    expect(errorsOf({ net0: 'virtio=BC:24:11:00:00:01,tag=5,firewall=on' })).toEqual({});
    expect(errorsOf({ net0: 'model=e1000,macaddr=BC:24:11:00:00:01' })).toEqual({});
    expect(bad('virtio,colour=red')).toBe(
      'invalid format - invalid key in comma-separated list property: colour\n',
    );
    expect(bad('tag=5')).toBe(
      'invalid format - format error\nnet0.model: property is missing and it is not optional\n',
    );
    expect(bad('virtio,tag=9999')).toBe(
      'invalid format - format error\nnet0.tag: value must have a maximum value of 4094\n',
    );
    expect(bad('virtio=01:24:11:00:00:01')).toBe(
      'invalid format - format error\nnet0.macaddr: invalid format - value does not look like a valid unicast MAC address\n\n',
    );
    expect(bad('virtio,rate=3')).toBe(
      "invalid format - format error\nnet0.tag: missing property required by 'net0.rate'\n",
    );
    expect(bad('virtio,e1000')).toBe(
      'invalid format - duplicate key in comma-separated list property: model\n',
    );
    expect(bad('virtio,tag=5,tag=6')).toBe(
      'invalid format - duplicate key in comma-separated list property: tag\n',
    );
    expect(bad('virtio,tag=')).toBe('invalid format - missing key in comma-separated list property\n');
    expect(bad('virtio,firewall=maybe')).toBe(
      "invalid format - format error\nnet0.firewall: type check ('boolean') failed - got 'maybe'\n",
    );
  });

  it('need a default key for a value without one', () => {
    const specs: ParamSpecs = { boot: { type: 'string', properties: { order: TEXT } } };
    expect(() => checkParams(specs, new Map([['boot', 'scsi0']]), {}, '9.1')).toThrow(
      expect.objectContaining({
        more: {
          errors: { boot: 'invalid format - value without key, but schema does not define a default key\n' },
        },
      }),
    );
  });
});
