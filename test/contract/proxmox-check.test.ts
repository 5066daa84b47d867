import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  clusterRecording,
  compareRecordings,
  type ClusterRecording,
} from '../../src/core/cluster-recording.js';
import { clusterSchema } from '../../src/core/definitions.js';
import { describeWithMark, type Mark } from '../../src/core/mark.js';
import { ProxmoxDriver } from '../../src/drivers/proxmox/proxmox.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type { Clock } from '../../src/ports/clock.js';
import type { CheckFinding, IntendedUse } from '../../src/ports/hypervisor.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import type { WorldSpec } from '../../src/simulators/build-world.js';
import type { World } from '../../src/simulators/world.js';
import { aUse } from '../support/intended-use.js';

const SCALE = 0.005;
const POOL = 'hatchery-demo';
const DEPLOYMENT = '0190aaaa-0000-7000-8000-000000000001';

describe('the check of a cluster', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let drivers: ProxmoxDriver[];
  let calls: string[];

  beforeEach(() => begin('9.1'));
  afterEach(end);

  async function begin(version: World['version'], world: WorldSpec = {}): Promise<void> {
    context = createContext({ timeScale: SCALE, world: { ...world, version } });
    simulator = await startProxmoxSimulator(context);
    drivers = [];
    calls = [];
  }
  async function end(): Promise<void> {
    for (const driver of drivers) driver.close();
    await simulator.stop();
    context.close();
  }
  function aDriver(
    over: Record<string, unknown> = {},
    {
      token = simulator.token,
      clock = systemClock,
    }: { token?: ProxmoxSimulator['token']; clock?: Clock } = {},
  ): ProxmoxDriver {
    const driver = new ProxmoxDriver({
      definition: clusterSchema.parse({
        name: 'main',
        kind: 'proxmox',
        endpoints: simulator.endpoints,
        trust: { fingerprints: simulator.fingerprints },
        token: { id: token.id, secret: { env: 'NOT_READ' } },
        pool: POOL,
        vmids: { from: 10_000, to: 19_999 },
        ...over,
      }),
      secret: new Secret(token.secret),
      deployment: DEPLOYMENT,
      clock,
      remoteTimeScale: SCALE,
      metrics: { observe: (op) => void calls.push(op) },
      log: { warn: () => undefined },
    });
    drivers.push(driver);
    return driver;
  }
  const checked = async (driver = aDriver(), use: IntendedUse = aUse()): Promise<readonly CheckFinding[]> =>
    driver.check(use, plainCall());
  const subjects = (findings: readonly CheckFinding[]): string[] => findings.map(({ subject }) => subject);
  const failed = (findings: readonly CheckFinding[]): CheckFinding[] => findings.filter(({ ok }) => !ok);
  const warned = (findings: readonly CheckFinding[]): CheckFinding[] =>
    findings.filter(({ warning }) => warning);
  const aMark = (vmid: number, deployment = DEPLOYMENT): Mark => ({
    deployment,
    machine: randomUUID(),
    run: randomUUID(),
    step: 'clone-template',
    vmid,
    attempt: 1,
  });
  const makeForeign = (vmid: number, description?: string): void =>
    void simulator.foreign.create({ vmid, node: 'pve2', kind: 'qemu', owner: 'alice', description });
  const inPool = (vmid: number): void => void context.world.pools.get(POOL)!.members.add(vmid);

  it.each(['8.4', '9.1'] as const)(
    'finds everything in order on a cluster set up as documented (%s)',
    async (version) => {
      await end();
      await begin(version);
      const findings = await checked();
      expect(failed(findings)).toEqual([]);
      expect(subjects(findings)).toEqual(
        expect.arrayContaining([
          ...simulator.endpoints.map((endpoint) => `endpoint ${endpoint}`),
          'quorum',
          ...['pve1', 'pve2', 'pve3'].flatMap((node) => [
            `node ${node}`,
            `clock of ${node}`,
            `certificate of ${node}`,
          ]),
          'rights of workflow student-vm',
          `pool ${POOL}`,
          'VMIDs 10000-19999',
          'template debian-12-xfce of blueprint desk',
          'storage ceph',
        ]),
      );
      const rights = findings.find(({ subject }) => subject === 'rights of workflow student-vm')!;
      expect(rights.detail).toMatch(
        new RegExp(`/pool/${POOL}: [^;]* ${version === '8.4' ? 'VM.Monitor' : 'VM.GuestAgent.Audit'}(;|$)`),
      );
      expect(rights.detail).toContain('/vms/9000: VM.Clone');
    },
  );

  it('refuses a token that may write everywhere, and only warns when the site accepts it', async () => {
    const token = { id: simulator.rootToken.id, secret: { env: 'NOT_READ' }, mayWriteOutsidePool: true };
    expect(subjects(failed(await checked(aDriver({}, { token: simulator.rootToken }))))).toContain(
      'rights on /',
    );
    const accepted = await checked(aDriver({ token }, { token: simulator.rootToken }));
    expect(failed(accepted)).toEqual([]);
    expect(subjects(warned(accepted))).toContain('rights on /');
  });

  it('names a pool and an endpoint that are not there', async () => {
    const driver = aDriver({ pool: 'nowhere', endpoints: [...simulator.endpoints, 'https://127.0.0.1:1'] });
    const found = failed(await checked(driver));
    expect(subjects(found)).toEqual(
      expect.arrayContaining([
        'endpoint https://127.0.0.1:1',
        'pool nowhere',
        'VM.Allocate on /pool/nowhere',
      ]),
    );
    expect(found.find(({ subject }) => subject === 'pool nowhere')?.remedy).toBe('pveum pool add nowhere');
  });

  it('names each right that a workflow lacks with the steps that need it and the command that gives it', async () => {
    const entry = context.world.acl.find(({ path }) => path === `/pool/${POOL}`)!;
    const lost = ['VM.Config.Disk', 'VM.PowerMgmt'];
    const kept = context.world.roles.get(entry.role)!.filter((privilege) => !lost.includes(privilege));
    context.world.roles.set(entry.role, kept);
    const found = failed(await checked());
    expect(subjects(found)).toEqual([`VM.PowerMgmt on /pool/${POOL}`, `VM.Config.Disk on /pool/${POOL}`]);
    expect(found[0]!.detail).toBe('missing, and needed by student-vm/clone, student-vm/start');
    expect(found[1]).toMatchObject({
      detail: 'missing, and needed by student-vm/resize',
      remedy: expect.stringContaining(
        `pveum acl modify /pool/${POOL} --users 'hatchery@pve' --tokens '${simulator.token.id}'`,
      ),
    });
  });

  it('compares each node: certificate with its pin, clock with ours', async () => {
    const trust = { fingerprints: { ...simulator.fingerprints, pve2: simulator.fingerprints['pve1']! } };
    const endpoints = [simulator.endpoints[0]!];
    const [wrong] = failed(await checked(aDriver({ trust, endpoints })));
    expect(wrong).toMatchObject({
      subject: 'certificate of pve2',
      detail: expect.stringContaining('not the pinned one'),
    });
    const late: Clock = { ...systemClock, wallMs: () => systemClock.wallMs() + 95_000 };
    const clocks = failed(await checked(aDriver({}, { clock: late })));
    expect(subjects(clocks)).toEqual(['clock of pve1', 'clock of pve2', 'clock of pve3']);
    expect(clocks[0]!.detail).toMatch(/^it is 9[3-6] s behind ours/);
  });

  it('says which node the others cannot reach', async () => {
    context.faults.add({
      id: 'down',
      match: { node: 'pve3' },
      when: 'before',
      effect: 'status',
      value: { status: 595, message: 'No route to host' },
    });
    const driver = aDriver({ endpoints: simulator.endpoints.slice(0, 2) });
    expect(failed(await checked(driver)).find(({ subject }) => subject === 'node pve3')).toMatchObject({
      detail: expect.stringContaining('status 595'),
      remedy: expect.stringContaining('nodes: { exclude: [pve3] }'),
    });
  });

  it('tells a misspelt name among the nodes that are to be left out', async () => {
    const found = failed(await checked(aDriver({ nodes: { exclude: ['pve2', 'pve22'] } })));
    expect(found).toMatchObject([
      { subject: 'node pve22', remedy: expect.stringContaining('pve1, pve2, pve3') as string },
    ]);
  });

  it('looks at the templates of every blueprint', async () => {
    const { config } = simulator.guest(9000)!;
    config['lock'] = 'backup';
    config['hookscript'] = 'local:snippets/x.sh';
    const found = failed(
      await checked(
        aDriver(),
        aUse({
          blueprint: { source: { templates: ['debian-12-xfce', 'nowhere'], clone: 'linked' } },
        }),
      ),
    );
    expect(found.map(({ detail }) => detail)).toEqual([
      expect.stringContaining('hook script local:snippets/x.sh'),
      '9000 on pve1: it is locked (backup)',
      expect.stringContaining('no virtual machine template has this name'),
    ]);
    expect(found[1]!.remedy).toContain('qm unlock 9000');
    delete config['lock'];
    delete config['hookscript'];
    const [small] = failed(await checked(aDriver(), aUse({ blueprint: { diskGiB: 1 } })));
    expect(small!.detail).toContain('disks do not shrink');
  });

  it('looks at the storages that blueprints put disks on', async () => {
    const full = aUse({
      blueprint: { source: { templates: ['debian-12-xfce'], clone: 'full', storage: 'nowhere' } },
    });
    const found = failed(await checked(aDriver(), full));
    expect(found.find(({ subject }) => subject === 'storage nowhere')?.detail).toContain(
      'pve1, pve2, pve3 cannot use it',
    );
  });

  it('counts the range, and tells the guests in it apart', async () => {
    makeForeign(15_001, describeWithMark('x', aMark(15_001)));
    makeForeign(15_002, describeWithMark('x', aMark(15_002, randomUUID())));
    makeForeign(15_003, describeWithMark('x', aMark(10_999)));
    makeForeign(15_004, describeWithMark('x', aMark(15_004)));
    makeForeign(20_500);
    inPool(20_500);
    const use = aUse({ vmids: [15_004], restingVmids: [15_100, 15_101] });
    const findings = await checked(aDriver(), use);
    expect(failed(findings)).toMatchObject([
      {
        subject: 'VMIDs 10000-19999',
        detail: expect.stringMatching(/another Hatchery .* 15002 \(mark of deployment/),
      },
    ]);
    const details = warned(findings).map(({ subject, detail }) => `${subject}: ${detail}`);
    expect(details).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^guest 15001 on pve2: it bears our mark/),
        expect.stringMatching(new RegExp(`^pool ${POOL}: it holds guests .* qemu 20500 on pve2`)),
        expect.stringMatching(/guests of others live in it: .*15003/),
      ]),
    );
    expect(details.join('\n')).not.toMatch(/15004/);
    expect(findings.find(({ detail }) => detail.includes('resting'))?.detail).toMatch(
      /^99\d\d of 10000 free, \d+ used, 2 resting$/,
    );
  });

  it('finds disks of the range whose guest is gone', async () => {
    const [sample] = context.world.volumes.values();
    context.world.volumes.set('ceph:vm-15010-disk-0', {
      ...sample!,
      volid: 'ceph:vm-15010-disk-0',
      storage: 'ceph',
      vmid: 15_010,
    });
    const found = await checked(aDriver({}, { token: simulator.rootToken }));
    expect(found.find(({ subject }) => subject === 'leftovers')).toMatchObject({
      warning: true,
      detail: expect.stringContaining('ceph:vm-15010-disk-0'),
      remedy: 'pvesm free ceph:vm-15010-disk-0',
    });
  });

  it('says that such disks are not shown to a token that may not allocate the storage', async () => {
    expect((await checked()).find(({ subject }) => subject === 'leftovers')).toMatchObject({
      ok: true,
      remedy: "(pvesm list ceph --content images) | awk '$NF >= 10000 && $NF <= 19999'",
    });
  });

  describe('of the vendor data', () => {
    const VOLUME = 'nas:snippets/hatchery.yaml';
    const use = aUse({ phonesHome: true });
    const told = async (driver: ProxmoxDriver, what = use): Promise<CheckFinding[]> =>
      (await checked(driver, what)).filter(({ subject }) => subject === 'vendor data');
    const asRoot = (over: Record<string, unknown> = { vendorData: VOLUME }): ProxmoxDriver =>
      aDriver(over, { token: simulator.rootToken });

    beforeEach(async () => {
      await end();
      const files = ['pve1', 'pve3'].map((node) => ({ volid: VOLUME, node }));
      await begin('9.1', {
        storages: [
          { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1_000 },
          { id: 'nas', type: 'dir', shared: false, sizeGiB: 10, content: ['snippets'] },
        ],
        files,
      });
    });

    it('names the nodes that lack it, and the command that prints it', async () => {
      expect(await told(asRoot())).toMatchObject([
        {
          ok: false,
          detail: expect.stringMatching(/^pve2 has no/),
          remedy: expect.stringContaining('hatchery cluster vendor-data main'),
        },
      ]);
      expect(await told(asRoot({ vendorData: VOLUME, nodes: { exclude: ['pve2'] } }))).toMatchObject([
        { ok: true, detail: `${VOLUME} is on pve1, pve3` },
      ]);
    });

    it('says what it cannot tell, and that nobody uses it without a public address', async () => {
      expect(await told(aDriver({ vendorData: VOLUME }))).toMatchObject([
        { ok: true, warning: true, detail: expect.stringContaining('Datastore.Allocate on /storage/nas') },
      ]);
      expect(await told(asRoot(), aUse())).toMatchObject([
        { warning: true, remedy: expect.stringContaining('HATCHERY_PUBLIC_URL') },
      ]);
      expect(await told(asRoot({}))).toEqual([]);
    });

    it('finds which nodes have no place for cloud-init files, and why', async () => {
      const asking = aUse({ blueprint: { hasSnippets: true } });
      const found = async (over: object, storage = 'nas'): Promise<CheckFinding[]> => {
        const nas = context.world.storages.find(({ id }) => id === storage);
        if (nas) Object.assign(nas, { content: ['snippets'], nodes: undefined, isDisabled: false }, over);
        const findings = await checked(aDriver({ snippetStorage: storage }), asking);
        return findings.filter(({ subject }) => subject.startsWith('snippets'));
      };
      expect(await found({})).toEqual([
        { ok: true, subject: 'snippets on storage nas', detail: 'pve1, pve2, pve3: each its own' },
      ]);
      expect(await found({ shared: true })).toMatchObject([{ ok: true, detail: 'one for all nodes' }]);
      expect(await found({ shared: false, content: ['iso'] })).toMatchObject([
        { ok: false, remedy: 'pvesm set nas --content iso,snippets' },
      ]);
      expect(await found({ nodes: ['pve1', 'pve3'] })).toMatchObject([
        { ok: false, detail: 'pve2 cannot use it', remedy: 'pvesm set nas --nodes pve1,pve2,pve3' },
      ]);
      expect(await found({}, 'nowhere')).toMatchObject([
        { ok: false, remedy: expect.stringContaining(`pveum acl modify /storage/nowhere`) },
      ]);
      const driver = aDriver({ snippetStorage: 'nas' });
      expect((await checked(driver, aUse())).filter(({ subject }) => subject.startsWith('snippets'))).toEqual(
        [],
      );
      await simulator.conditions.powerOff('pve3');
      expect(await found({})).toMatchObject([
        { ok: true, warning: true, detail: expect.stringMatching(/^pve3 is off/) },
      ]);
    });

    it('asks for the right to write a serial number only where it is needed', async () => {
      const entry = context.world.acl.find(({ path }) => path === `/pool/${POOL}`)!;
      const all = context.world.roles.get(entry.role)!;
      context.world.roles.set(
        entry.role,
        all.filter((privilege) => privilege !== 'VM.Config.HWType'),
      );
      expect(failed(await checked())).toEqual([]);
      expect(subjects(failed(await checked(aDriver(), use)))).toEqual([`VM.Config.HWType on /pool/${POOL}`]);
    });
  });

  it('reads nothing for guests that our machines hold, and no more than 50 configs of others', async () => {
    const ours = Array.from({ length: 40 }, (_, n) => 16_000 + n);
    for (const vmid of ours) makeForeign(vmid, describeWithMark('x', aMark(vmid)));
    for (let vmid = 17_000; vmid < 17_070; vmid += 1) makeForeign(vmid);
    const findings = await checked(aDriver(), aUse({ vmids: ours }));
    expect(calls.filter((op) => op === 'guest-config')).toHaveLength(50);
    expect(
      warned(findings).some(({ detail }) => /^\d+ more guests in it .* not looked at/.test(detail)),
    ).toBe(true);
  });
});

describe('the recording of a cluster', () => {
  async function recorded(version: World['version']): Promise<ClusterRecording> {
    const context = createContext({ timeScale: SCALE, world: { version } });
    const simulator = await startProxmoxSimulator(context);
    const driver = new ProxmoxDriver({
      definition: clusterSchema.parse({
        name: 'main',
        kind: 'proxmox',
        endpoints: simulator.endpoints,
        trust: { fingerprints: simulator.fingerprints },
        token: { id: simulator.token.id, secret: { env: 'NOT_READ' } },
        pool: POOL,
        vmids: { from: 10_000, to: 19_999 },
      }),
      secret: new Secret(simulator.token.secret),
      deployment: DEPLOYMENT,
      clock: systemClock,
      remoteTimeScale: SCALE,
      log: { warn: () => undefined },
    });
    try {
      const before = [...context.world.guests.values()].map(({ config }) => ({ ...config }));
      const recording = await driver.record(plainCall());
      expect([...context.world.guests.values()].map(({ config }) => config)).toEqual(before);
      return recording;
    } finally {
      driver.close();
      await simulator.stop();
      context.close();
    }
  }

  it('holds shapes, times and refusals, and nothing that belongs to the site', async () => {
    const recording = clusterRecording.parse(await recorded('9.1'));
    expect(recording).toMatchObject({ releases: [expect.stringMatching(/^9\.1/)], timeScale: SCALE });
    const inventory = recording.calls.find(({ call }) => call === 'GET /cluster/resources')!;
    expect(inventory).toMatchObject({ status: 200, timing: { reads: 5 } });
    expect(inventory.shape).toContainEqual(
      expect.objectContaining({
        at: '[].type',
        words: expect.arrayContaining(['lxc', 'node', 'qemu', 'storage']),
      }),
    );
    expect(recording.refusals.find((one) => one.case === 'unknown guest')).toMatchObject({
      status: 500,
      message: "Configuration file 'nodes/<node>/qemu-server/<n>.conf' does not exist",
      connection: 'close',
    });
    const text = JSON.stringify(recording);
    for (const own of [
      'pve1',
      'ceph',
      'local-lvm',
      'hatchery@',
      POOL,
      '127.0.0.1',
      'debian-12',
      '9000',
      'alice',
    ])
      expect(text).not.toContain(own);
  });

  it('differs between two versions in what is known to differ', async () => {
    const differences = compareRecordings(await recorded('8.4'), await recorded('9.1'));
    expect(differences.map(({ subject }) => subject)).toContain('GET /access/permissions');
    expect(compareRecordings(await recorded('9.1'), await recorded('9.1'))).toEqual([]);
  });
});
