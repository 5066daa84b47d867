import { readFile } from 'node:fs/promises';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/app/config/package-root.js';
import { firstBootArguments, firstBootSchema } from '../../src/core/lxc/first-boot.js';
import { readHookReport } from '../../src/core/lxc/hook-report.js';
import { rawConfig, type PlacedHook } from '../../src/core/lxc/on-node.js';
import { renderRawConfig, type HostMount } from '../../src/core/lxc/raw-lines.js';
import { RealContainer, realLxc } from '../support/real-lxc.js';

const lxc = await realLxc(inject('stateFolder'));
const why = 'missing' in lxc ? ` (skipped: ${lxc.missing})` : '';

const identities = [{ from: 600_000_000, count: 999_999_999 }];
const SUBIDS = ['root:100000:65536', 'root:600000000:999999999'];

describe.skipIf(why !== '')(`a real unprivileged container${why}`, () => {
  let container: RealContainer;

  beforeEach(async () => {
    const { programs } = lxc as { programs: string };
    container = new RealContainer(await mkdtemp(join(tmpdir(), 'lxc-')), programs);
    await container.prepare();
  });
  afterEach(() => rm(container.folder, { recursive: true, force: true }));

  it('takes the lines that we write: identities, home, and the first boot before its first process', async () => {
    const wish = firstBootSchema.parse({ update: false });
    const given = firstBootArguments(wish, { mac: '02:00:00:00:00:07', login: 'ada' }, undefined);
    const first: PlacedHook = {
      hook: { name: 'first-boot', phase: 'start' },
      script: await container.give('hook', { file: join(PACKAGE_ROOT, 'hooks/first-boot.sh') }),
      arguments: await container.give('arguments', { text: JSON.stringify(given) }),
      report: await container.give('report', { text: '' }),
    };
    await container.give('homes/ada/thesis.txt', { text: 'mine' }, 600_000_123);
    const home: HostMount = {
      source: join(container.folder, 'node/homes/ada'),
      target: '/home/ada',
      kind: 'dir',
      readOnly: false,
      optional: false,
    };
    const lines = renderRawConfig(rawConfig({ identities }, home, [first]));
    const within = 'cat /proc/self/uid_map; stat -c %u:%g /home/ada/thesis.txt; cat /etc/nologin';
    const { code, text } = await container.start(lines, SUBIDS, within);
    expect({ code, text: text.replaceAll(/ +/g, ' ').trim().split('\n') }).toEqual({
      code: 0,
      text: [
        '0 100000 65536',
        ' 600000000 600000000 999999999',
        '600000123:600000123',
        'This machine is being prepared.',
      ],
    });
    expect(readHookReport(await readFile(first.report!, 'utf8'))).toMatchObject({
      state: 'working',
      percent: 4,
    });
  });

  it('does not start without the lines of subuid, or when a hook is missing or fails', async () => {
    const onlyIds = renderRawConfig(rawConfig({ identities }, undefined, []));
    const withoutSubids = await container.start(onlyIds, SUBIDS.slice(0, 1), 'true');
    expect(withoutSubids).toMatchObject({ code: 1, text: expect.stringContaining('id mapping') as string });

    const hook = { name: 'lab', phase: 'start' } as const;
    const gone: PlacedHook = {
      hook,
      script: join(container.folder, 'node/nothing'),
      arguments: await container.give('arguments', { text: '{}' }),
      report: undefined,
    };
    const withGone = await container.start(
      renderRawConfig(rawConfig({ identities }, undefined, [gone])),
      SUBIDS,
      'true',
    );
    expect(withGone).toMatchObject({ code: 1, text: expect.stringContaining('node/nothing') as string });

    const failing = { ...gone, script: await container.give('lab', { file: '/bin/false' }) };
    const withFailing = await container.start(
      renderRawConfig(rawConfig({ identities }, undefined, [failing])),
      SUBIDS,
      'true',
    );
    expect(withFailing).toMatchObject({ code: 1, text: expect.stringContaining('lxc.hook.start') as string });
  });
});
