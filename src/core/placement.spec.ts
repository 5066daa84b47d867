import { describe, expect, it } from 'vitest';
import {
  place,
  storageKey,
  type Placement,
  type PlacementNode,
  type PlacementRequest,
  type PlacementSource,
  type PlacementStorage,
} from './placement.js';

const aNode = (name: string, freeMiB = 64_000, more: Partial<PlacementNode> = {}): PlacementNode => ({
  name, online: true, cores: 16, memoryTotalMiB: freeMiB + 1024, memoryUsedMiB: 0, guestCores: 0, ...more,
}); // prettier-ignore
const ceph = (freeGiB = 1000): PlacementStorage => ({
  id: 'ceph',
  node: undefined,
  shared: true,
  totalGiB: freeGiB,
  usedGiB: 0,
});
const localLvm = (node: string, freeGiB = 1000): PlacementStorage => ({
  id: 'local-lvm',
  node,
  shared: false,
  totalGiB: freeGiB,
  usedGiB: 0,
});

const aRequest = ({
  templates = [{ vmid: 9000, node: 'pve1', storage: 'ceph', storageShared: true, diskGiB: 8 }],
  clone = 'linked',
  storage,
  oneCloneAtATime = false,
  ...more
}: Partial<PlacementRequest & Extract<PlacementSource, { clone: unknown }>> = {}): PlacementRequest => ({
  machines: 3,
  size: { cores: 2, memoryMiB: 4096, diskGiB: 20 },
  source: { templates, clone, storage, oneCloneAtATime },
  nodes: [aNode('pve1'), aNode('pve2'), aNode('pve3')],
  storages: [ceph()],
  reserved: { perNode: new Map(), perStorageGiB: new Map(), perTemplate: new Map() },
  exclude: { byCluster: [], byBlueprint: [] },
  pinned: undefined,
  ...more,
});
const local = { vmid: 9000, node: 'pve2', storage: 'local-lvm', storageShared: false, diskGiB: 8 };

const nodesOf = (placement: Placement): string[] =>
  placement.machines.map((machine) => ('node' in machine ? machine.node : '-'));
const refusals = (placement: Placement): string[] =>
  placement.machines.flatMap((machine) => ('refused' in machine ? [machine.refused] : []));
const line = (placement: Placement, name: string) =>
  placement.capacity.find((candidate) => candidate.name === name);

describe('placement', () => {
  it('spreads a class evenly and always in the same way', () => {
    const request = aRequest({
      machines: 120,
      nodes: ['pve1', 'pve2', 'pve3'].map((name) => aNode(name, 512_000)),
      storages: [ceph(10_000)],
    });
    const placement = place(request);
    for (const name of ['pve1', 'pve2', 'pve3']) expect(line(placement, name)?.plannedMachines).toBe(40);
    expect(nodesOf(placement).slice(0, 4)).toEqual(['pve1', 'pve2', 'pve3', 'pve1']);
    expect(place({ ...request, nodes: [...request.nodes].reverse() })).toEqual(placement);
  });

  it('fills the emptiest node first', () => {
    expect(nodesOf(place(aRequest({ nodes: [aNode('pve1', 20_000), aNode('pve2', 64_000)] })))).toEqual([
      'pve2',
      'pve2',
      'pve2',
    ]);
  });

  it('counts what is promised but not yet used', () => {
    const reserved = {
      perNode: new Map([['pve1', { memoryMiB: 62_000, cores: 30 }]]),
      perStorageGiB: new Map([['ceph', 970]]),
      perTemplate: new Map(),
    };
    const placement = place(aRequest({ reserved, nodes: [aNode('pve1')] }));
    expect(line(placement, 'pve1')).toMatchObject({ freeMemoryMiB: 2000, fits: 0 });
    expect(line(placement, 'ceph')).toMatchObject({ freeGiB: 30, fits: 1 });
  });

  it('passes over nodes that are offline, excluded or too small, and says so', () => {
    const nodes = [
      aNode('pve1', 64_000, { online: false }),
      aNode('pve2'),
      aNode('pve3', 64_000, { cores: 1 }),
      aNode('pve4'),
    ];
    const placement = place(aRequest({ nodes, exclude: { byCluster: ['pve2'], byBlueprint: [] } }));
    expect(nodesOf(placement)).toEqual(['pve4', 'pve4', 'pve4']);
    expect(placement.capacity.map(({ note }) => note)).toEqual([
      'offline',
      'excluded by the cluster definition',
      'has 1 cores, fewer than one machine needs',
      undefined,
      undefined,
    ]);
  });

  it('keeps clones of a local template on its node', () => {
    const storages = [localLvm('pve1'), localLvm('pve2'), ceph()];
    for (const clone of ['linked', 'full'] as const) {
      const placement = place(aRequest({ templates: [local], clone, storages }));
      expect(placement.machines).toHaveLength(3);
      for (const machine of placement.machines)
        expect(machine).toMatchObject({ node: 'pve2', storage: 'local-lvm', template: 9000 });
      expect(line(placement, 'pve1')?.note).toContain('local to pve2');
    }
  });

  it('keeps full clones to a local storage on the template’s node', () => {
    const storages = [ceph(), localLvm('pve1'), localLvm('pve2'), localLvm('pve3')];
    expect(nodesOf(place(aRequest({ clone: 'full', storage: 'local-lvm', storages })))).toEqual([
      'pve1',
      'pve1',
      'pve1',
    ]);
  });

  it('ignores the target storage of linked clones, which stay with their template', () => {
    const storages = [ceph(), localLvm('pve1')];
    expect(place(aRequest({ storage: 'local-lvm', storages })).machines[0]).toMatchObject({
      node: 'pve1',
      storage: 'ceph',
    });
  });

  it('counts linked clones with their whole virtual size, and never less than the template’s', () => {
    const placement = place(aRequest({ machines: 6, storages: [ceph(100)] }));
    expect(refusals(placement)).toHaveLength(1);
    expect(line(placement, 'ceph')).toMatchObject({ plannedMachines: 5, plannedGiB: 100, fits: 5 });
    const small = { cores: 1, memoryMiB: 512, diskGiB: 2 };
    expect(line(place(aRequest({ size: small, storages: [ceph(100)] })), 'ceph')?.fits).toBe(12);
  });

  it('says for each node what is missing when a machine has no room', () => {
    const placement = place(aRequest({ machines: 2, nodes: [aNode('pve1', 5000), aNode('pve2', 3000)] }));
    expect(nodesOf(placement)).toEqual(['pve1', '-']);
    expect(refusals(placement)).toEqual([
      'No node has room for one more machine (pve1: 904 of 4096 MiB memory left; pve2: 3000 of 4096 MiB memory left).',
    ]);
    expect(refusals(place(aRequest({ storages: [ceph(10)] })))[0]).toContain('10 of 20 GiB left on ceph');
    expect(refusals(place(aRequest({ storages: [] })))[0]).toMatch(/pve1: .*storage/);
    expect(refusals(place(aRequest({ nodes: [] })))[0]).toBe('The cluster has no nodes.');
  });

  it('never shows less than nothing as free', () => {
    const placement = place(
      aRequest({
        nodes: [aNode('pve1', 1000, { memoryUsedMiB: 9000 })],
        storages: [{ ...ceph(5), usedGiB: 9 }],
      }),
    );
    expect(line(placement, 'pve1')).toMatchObject({ freeMemoryMiB: 0, fits: 0 });
    expect(line(placement, 'ceph')).toMatchObject({ freeGiB: 0, fits: 0 });
  });

  it('keeps away from a node whose cores are given out, however much memory it has', () => {
    const nodes = [aNode('pve1', 200_000, { guestCores: 60 }), aNode('pve2', 64_000)];
    expect(nodesOf(place(aRequest({ nodes })))).toEqual(['pve2', 'pve2', 'pve2']);
  });

  it('spreads over the copies of a template on local storages, each on its own node', () => {
    const names = ['pve1', 'pve2', 'pve3'];
    const templates = names.map((node, index) => ({ ...local, vmid: 9000 + index, node }));
    const placement = place(
      aRequest({ templates, machines: 6, storages: names.map((name) => localLvm(name)) }),
    );
    expect(
      placement.machines.map((machine) => ('node' in machine ? [machine.node, machine.template] : [])),
    ).toEqual([
      ['pve1', 9000],
      ['pve2', 9001],
      ['pve3', 9002],
      ['pve1', 9000],
      ['pve2', 9001],
      ['pve3', 9002],
    ]);
  });

  it('leaves a local disk alone that is fuller than the others', () => {
    const templates = ['pve1', 'pve2'].map((node, index) => ({ ...local, vmid: 9000 + index, node }));
    const storages = [{ ...localLvm('pve1'), usedGiB: 800 }, localLvm('pve2')];
    const nodes = [aNode('pve1'), aNode('pve2')];
    expect(nodesOf(place(aRequest({ templates, storages, nodes })))).toEqual(['pve2', 'pve2', 'pve2']);
  });

  it('takes copies on a shared storage in turn, its own node’s first', () => {
    const copy = (vmid: number, node: string) => ({
      vmid,
      node,
      storage: 'ceph',
      storageShared: true,
      diskGiB: 8,
    });
    const placement = place(aRequest({ machines: 6, templates: [copy(9000, 'pve1'), copy(9001, 'pve1')] }));
    const of = (vmid: number) =>
      placement.machines.filter((machine) => 'node' in machine && machine.template === vmid).length;
    expect([of(9000), of(9001)]).toEqual([3, 3]);
    const own = place(aRequest({ templates: [copy(9000, 'pve1'), copy(9001, 'pve2')] }));
    expect(own.machines[1]).toMatchObject({ node: 'pve2', template: 9001 });
  });

  it('gives each copy as many clones as the others where a copy makes one at a time', () => {
    const copy = (vmid: number) => ({ vmid, node: 'pve1', storage: 'ceph', storageShared: true, diskGiB: 8 });
    const templates = [copy(9100), { ...copy(9101), node: 'pve2' }];
    const { machines } = place(aRequest({ machines: 6, templates, oneCloneAtATime: true }));
    const of = (vmid: number) => machines.filter((one) => 'node' in one && one.template === vmid);
    expect([of(9100).length, of(9101).length]).toEqual([3, 3]);
  });

  it('takes the copy of which fewest machines of other batches are being made', () => {
    const copy = (vmid: number) => ({ vmid, node: 'pve1', storage: 'ceph', storageShared: true, diskGiB: 8 });
    const templates = [copy(9100), copy(9101)];
    const reserved = { ...aRequest({}).reserved, perTemplate: new Map([[9100, 1]]) };
    const { machines } = place(aRequest({ machines: 1, templates, oneCloneAtATime: true, reserved }));
    expect(machines[0]).toMatchObject({ template: 9101 });
  });

  it('unpacks an archive only where it is, onto the storage that the blueprint names', () => {
    const volume = 'local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst';
    const archives = ['pve1', 'pve3'].map((node) => ({ volume, node }));
    const storages = [ceph(), localLvm('pve1')];
    const onCeph = place(aRequest({ source: { archives, storage: 'ceph' }, storages }));
    expect(nodesOf(onCeph)).toEqual(['pve1', 'pve3', 'pve1']);
    expect(onCeph.machines[0]).toMatchObject({ storage: 'ceph', storageShared: true, archive: volume });
    expect(line(onCeph, 'pve2')?.note).toBe(`does not have the archive ${volume}`);
    const local = place(aRequest({ source: { archives, storage: 'local-lvm' }, storages }));
    expect(nodesOf(local)).toEqual(['pve1', 'pve1', 'pve1']);
    expect(line(local, 'pve3')?.note).toBe('has no storage local-lvm');
  });

  it('keeps to the nodes that a blueprint names, and off those that it leaves out', () => {
    const pinned = place(aRequest({ pinned: ['pve3'] }));
    expect(nodesOf(pinned)).toEqual(['pve3', 'pve3', 'pve3']);
    expect(line(pinned, 'pve1')?.note).toBe('the blueprint wants pve3');
    const without = place(aRequest({ exclude: { byCluster: [], byBlueprint: ['pve1'] } }));
    expect(nodesOf(without)).toEqual(['pve2', 'pve3', 'pve2']);
    expect(line(without, 'pve1')?.note).toBe('excluded by the blueprint');
  });

  it('says why each machine is where it is', () => {
    const reasons = (request: PlacementRequest) =>
      place(request).machines.map((machine) => ('node' in machine ? machine.reason : ''));
    expect(reasons(aRequest({ machines: 1 }))).toEqual(['least full of 3: memory 8 %, cores 3 %']);
    expect(reasons(aRequest({ machines: 1, templates: [local], storages: [localLvm('pve2')] }))).toEqual([
      'the only node with room: memory 8 %, cores 3 %, disk 2 %',
    ]);
  });

  it('tells local storages of one id apart', () => {
    expect([storageKey(ceph()), storageKey(localLvm('pve1'))]).toEqual(['ceph', 'local-lvm@pve1']);
  });
});
