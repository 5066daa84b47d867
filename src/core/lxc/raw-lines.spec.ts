import { describe, expect, it } from 'vitest';
import { idMappings } from './identities.js';
import {
  isSameLines,
  mergeRawLines,
  parseRawLines,
  rawLineText,
  renderRawConfig,
  withoutLines,
  type RawConfig,
  type RawLine,
} from './raw-lines.js';

const config: RawConfig = {
  idMappings: idMappings([{ from: 600_000_000, count: 999_999_999 }]),
  mounts: [
    {
      source: '/mnt/pve/homes/rapamato',
      target: '/home/rapamato',
      kind: 'dir',
      readOnly: false,
      optional: false,
    },
    {
      source: '/var/lib/hatchery/a.json',
      target: '/var/lib/a',
      kind: 'file',
      readOnly: true,
      optional: true,
    },
  ],
  hooks: [
    { phase: 'mount', path: '/var/lib/hatchery/hooks/x', arguments: ['/var/lib/a'] },
    { phase: 'start', path: '/var/lib/hatchery/first-boot', arguments: [] },
  ],
};

describe('raw lines', () => {
  it('are those of the FastStack talk for its identities', () => {
    expect(renderRawConfig({ ...config, mounts: [], hooks: [] }).map(rawLineText)).toEqual([
      'lxc.idmap: u 0 100000 65536',
      'lxc.idmap: g 0 100000 65536',
      'lxc.idmap: u 600000000 600000000 999999999',
      'lxc.idmap: g 600000000 600000000 999999999',
    ]);
  });

  it('read back as the config that they were rendered from', () => {
    const lines = renderRawConfig(config);
    expect(lines.slice(4).map(rawLineText)).toEqual([
      'lxc.mount.entry: /mnt/pve/homes/rapamato home/rapamato none bind,create=dir 0 0',
      'lxc.mount.entry: /var/lib/hatchery/a.json var/lib/a none bind,ro,create=file,optional 0 0',
      'lxc.hook.mount: /var/lib/hatchery/hooks/x /var/lib/a',
      'lxc.hook.start: /var/lib/hatchery/first-boot',
    ]);
    expect(parseRawLines(lines)).toEqual({ ...config, others: [] });
  });

  it.each([
    '/mnt/homes/x\nlxc.hook.pre-start: /tmp/x',
    '/mnt/homes/x lxc.idmap',
    '/mnt/homes/../../etc',
    '/mnt/homes/.',
    '/mnt/homes/$(id)',
    '/mnt/homes/x;id',
    '/mnt/homes/x\\040y',
    '/mnt/homes/x,bind',
    '//etc',
    '/',
    'etc',
    `/mnt/${'a'.repeat(129)}`,
    '/mnt/é',
    "/mnt/'x'",
    '/mnt/\u2019x',
  ])('are never made of the path %j (S02, S03, S36)', (source) => {
    const mount = { ...config.mounts[0]!, source };
    expect(() => renderRawConfig({ ...config, mounts: [mount] })).toThrow(/no plain absolute path/);
    expect(() =>
      renderRawConfig({ ...config, hooks: [{ phase: 'mount', path: source, arguments: [] }] }),
    ).toThrow(/no plain absolute path/);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 32])('are never made of the id %d', (outside) => {
    const mapping = { of: 'u', inside: 0, outside, count: 1 } as const;
    expect(() => renderRawConfig({ ...config, idMappings: [mapping] })).toThrow(/no user or group id/);
  });

  it('that we never write are told apart', () => {
    const foreign: RawLine[] = [
      ['lxc.idmap', 'u 0 100000'],
      ['lxc.hook.pre-start', '/root/x'],
      ['lxc.hook.start', '/x; id'],
      ['lxc.mount.entry', '/dev/dri dev/dri none rw,bind 0 0'],
      ['lxc.apparmor.profile', 'unconfined'],
    ];
    expect(parseRawLines(foreign)).toEqual({ idMappings: [], mounts: [], hooks: [], others: foreign });
  });
});

describe('merging', () => {
  const lines = renderRawConfig(config);
  const gpu: RawLine = ['lxc.cgroup2.devices.allow', 'c 226:* rwm'];

  it('keeps what the site allows a template to bring, and tells of everything else', () => {
    const hook: RawLine = ['lxc.hook.start', '/root/of-the-template'];
    const merged = mergeRawLines([gpu, hook], config, new Set([rawLineText(gpu)]));
    expect(merged).toEqual({ lines: [gpu, ...lines], unknown: [hook] });
  });

  it('changes nothing when it is done again, or when the template has our mappings already', () => {
    const kept = new Set([rawLineText(gpu)]);
    const once = mergeRawLines([...lines.slice(0, 4), gpu], config, kept).lines;
    expect(isSameLines(mergeRawLines(once, config, kept).lines, once)).toBe(true);
    expect(once).toHaveLength(lines.length + 1);
  });

  it('is undone line by line', () => {
    expect(withoutLines([gpu, ...lines], lines)).toEqual([gpu]);
  });
});
