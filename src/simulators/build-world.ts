import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { addAccess, emptyAccess, tokenSpec, userSpec } from './build-access.js';
import { SimRandom } from './seed.js';
import {
  holdsFiles,
  newGuest,
  STORAGE_CONTENTS,
  STORAGE_TYPES,
  volumeKey,
  WORLD_FORMAT,
  type World,
  type WorldGuest,
  type WorldStorage,
} from './world.js';

const vmid = z.number().int().min(100).max(999_999_999);
const storageSpec = z.strictObject({
  id: z.string(),
  type: z.enum(STORAGE_TYPES),
  shared: z.boolean(),
  sizeGiB: z.number().positive(),
  content: z.array(z.enum(STORAGE_CONTENTS)).default(['images', 'rootdir']),
  /** Left out = all nodes. */
  nodes: z.array(z.string()).optional(),
  isDisabled: z.boolean().default(false),
});
/** A file that somebody put on a storage; on a local one `node` says where. */
const fileSpec = z.strictObject({
  volid: z.string(),
  node: z.string().optional(),
  text: z.string().default(''),
  sizeBytes: z.number().int().min(0).optional(),
});
const templateSpec = z.strictObject({
  vmid,
  node: z.string(),
  name: z.string(),
  storage: z.string().default('ceph'),
  diskGiB: z.number().int().default(8),
  usedGiB: z.number().default(3),
  pool: z.string().optional(),
});
type TemplateSpec = z.output<typeof templateSpec>;
const CONTAINER_TEMPLATE = 'debian-12-desktop-lxc';
const ARCHIVE = 'local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst';
const duration = z
  .strictObject({ medianMs: z.number().positive(), p95Ms: z.number().positive() })
  .refine(({ medianMs, p95Ms }) => p95Ms >= medianMs, 'p95Ms must not be below medianMs');
const nodeSpec = z.union([
  z.string().transform((name) => ({ name, cores: 128, memoryMiB: 1_048_576 })),
  z.strictObject({
    name: z.string(),
    cores: z.number().int().default(128),
    memoryMiB: z.number().int().default(1_048_576),
  }),
]);

/** What `--world FILE` holds (YAML or JSON). Everything that is left out is as in the default world. */
const worldSpecSchema = z.strictObject({
  cluster: z.string().default('simcluster'),
  version: z.enum(['8.4', '9.1']).default('9.1'),
  /** Left out = `legacy` for 8.4 and `current` for 9.1. */
  lockPolling: z.enum(['legacy', 'current']).optional(),
  /** How long guests boot, in simulated milliseconds: all nearly the same time when the two are close. */
  boot: duration.default({ medianMs: 25_000, p95Ms: 50_000 }),
  /** How long the first boot of a container works once its network is up, each half drawn by itself. */
  firstBoot: duration.default({ medianMs: 40_000, p95Ms: 90_000 }),
  seed: z.string().or(z.number().transform(String)).optional(),
  nodes: z
    .array(nodeSpec)
    .min(1)
    .default(['pve1', 'pve2', 'pve3'].map((name) => ({ name, cores: 128, memoryMiB: 1_048_576 }))),
  storages: z.array(storageSpec).prefault([
    { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 40_960 },
    { id: 'local-lvm', type: 'lvmthin', shared: false, sizeGiB: 1_024 },
    { id: 'local', type: 'dir', shared: false, sizeGiB: 100, content: ['iso', 'vztmpl', 'snippets'] },
  ]),
  templates: z
    .array(templateSpec)
    .default([templateSpec.parse({ vmid: 9000, node: 'pve1', name: 'debian-12-xfce' })]),
  /** Left out = copies of one on the first three nodes, if the storages are there. */
  containerTemplates: z.array(templateSpec).optional(),
  guests: z
    .array(
      z.strictObject({
        vmid,
        node: z.string(),
        kind: z.enum(['qemu', 'lxc']),
        owner: z.string(),
        name: z.string().optional(),
        pool: z.string().optional(),
        running: z.boolean().default(true),
        description: z.string().optional(),
      }),
    )
    .default([
      { vmid: 100, node: 'pve1', kind: 'qemu', owner: 'alice', name: 'gitlab', pool: 'prod', running: true },
      { vmid: 101, node: 'pve2', kind: 'lxc', owner: 'alice', name: 'proxy', pool: 'prod', running: true },
      { vmid: 104, node: 'pve3', kind: 'qemu', owner: 'bob', name: 'windows-dc', running: true },
      { vmid: 10_003, node: 'pve2', kind: 'qemu', owner: 'bob', name: 'lab-old', running: true },
      { vmid: 10_007, node: 'pve3', kind: 'lxc', owner: 'carol', name: 'wiki', running: false },
    ]),
  pools: z.array(z.string()).default([]),
  /** Left out = an archive of Debian on every node, if there is a storage `local` that may hold it. */
  files: z.array(fileSpec).optional(),
  /** `next-id` of datacenter.cfg: lower bound, and the upper one that is not part of it. */
  nextId: z.tuple([vmid, vmid]).default([100, 1_000_000]),
  /** Guests that HA manages: `vm:105` or `ct:105`. */
  ha: z.array(z.string().regex(/^(vm|ct):[1-9][0-9]+$/)).default([]),
  /** Name of the deployment whose pool and token are made: pool `hatchery-<deployment>`, token `hatchery@pve!<deployment>`. */
  deployment: z.string().default('demo'),
  /** Users besides `root@pam` and the one of the deployment; a user of `tokens` that is not among them is made. */
  users: z.array(userSpec).default([]),
  tokens: z.array(tokenSpec).default([]),
  range: z.tuple([vmid, vmid]).default([10_000, 19_999]),
  /** Ids that root of every node may map: first and how many. */
  subIds: z.array(z.tuple([z.number().int(), z.number().int()])).default([
    [100_000, 65_536],
    [600_000_000, 999_999_999],
  ]),
  mounts: z.array(z.string()).default(['/mnt/pve/home', '/var/lib/hatchery/reports']),
  links: z.record(z.string(), z.string()).default({}),
});
export type WorldSpec = z.input<typeof worldSpecSchema>;

/** Reads a world file; errors name the place. */
export function readWorldSpec(file: string): WorldSpec {
  const parsed = worldSpecSchema.safeParse(parse(readFileSync(file, 'utf8')) ?? {});
  if (!parsed.success)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the world ${file}: ${z.prettifyError(parsed.error)}`,
    );
  return parsed.data;
}

/** Makes the world at its beginning. The same spec and seed give the same world; only the secrets of tokens are new. */
export function buildWorld(input: WorldSpec = {}, seed?: string): World {
  const spec = worldSpecSchema.parse(input);
  const worldSeed = seed ?? spec.seed ?? '1';
  const random = new SimRandom(worldSeed);
  const pool = `hatchery-${spec.deployment}`;
  const tokenId = `hatchery@pve!${spec.deployment}`;
  const rootTokenId = 'root@pam!simulator';
  const world: World = {
    format: WORLD_FORMAT,
    cluster: spec.cluster,
    version: spec.version,
    lockPolling: spec.lockPolling ?? (spec.version === '8.4' ? 'legacy' : 'current'),
    boot: spec.boot,
    firstBoot: spec.firstBoot,
    seed: worldSeed,
    life: 1,
    elapsedMs: 0,
    range: spec.range,
    nodes: spec.nodes,
    storages: spec.storages,
    pools: new Map(
      [
        pool,
        ...spec.pools,
        ...spec.guests.flatMap((guest) => guest.pool ?? []),
        ...spec.templates.flatMap((t) => t.pool ?? []),
      ].map((name) => [name, { comment: '', members: new Set(), storages: new Set() }]),
    ),
    nextId: spec.nextId,
    conditions: {
      quorumLost: false,
      isSplit: false,
      nodesOff: new Set(),
      filled: new Map(),
      hiddenConfigs: new Map(),
      hiddenVolumes: new Map(),
      agents: new Map(),
      firstBoots: new Map(),
      due: [],
    },
    ha: {
      resources: new Map(
        spec.ha.map((sid) => [
          sid,
          {
            state: 'started',
            maxRestart: 1,
            maxRelocate: 1,
            failback: true,
            comment: undefined,
            group: undefined,
          },
        ]),
      ),
      rules: new Map(),
      groups: new Map(),
      moves: [],
    },
    ...emptyAccess(spec.version),
    authKey: randomUUID(),
    tokenId,
    rootTokenId,
    guests: new Map(),
    volumes: new Map(),
    files: new Map(),
    dhcp: {
      allowEnabled: true,
      denyEnabled: false,
      // Filters of somebody else: a printer, and a machine that was thrown out.
      allow: new Map([['00:1b:a9:3c:12:7f', { description: 'printer 2nd floor' }]]),
      deny: new Map([['3c:52:82:10:aa:04', { description: 'stolen laptop' }]]),
      leases: new Map(),
      account: { domain: 'SIM', username: 'hatchery', password: randomUUID() },
    },
    guacamole: {
      nextConnectionId: 1,
      nextGroupId: 1,
      users: new Map(),
      groups: new Map(),
      connections: new Map(),
    },
    nodeFiles: new Map(),
    subIds: new Map(
      spec.nodes.map(({ name }) => {
        const ranges = () => spec.subIds.map(([start, count]) => ({ start, count }));
        return [name, { uid: ranges(), gid: ranges() }];
      }),
    ),
    mounts: spec.mounts,
    links: new Map(Object.entries(spec.links)),
    sshKeys: new Map(),
    certificates: new Map(),
  };
  const containerTemplates = spec.containerTemplates ?? defaultContainerTemplates(world);
  addAccess(world, { ...spec, templates: [...spec.templates, ...containerTemplates] }, pool);
  for (const template of spec.templates) {
    const disk = volumeId(world, template, `base-${template.vmid}-disk-0`);
    const cloudInit = volumeId(world, template, `vm-${template.vmid}-cloudinit`);
    addGuest(
      world,
      random,
      { ...template, kind: 'qemu', owner: 'admin' },
      {
        agent: '1',
        boot: 'order=scsi0',
        ciuser: 'debian',
        cores: '2',
        cpu: 'x86-64-v2-AES',
        ide2: `${cloudInit},media=cdrom`,
        ipconfig0: 'ip=dhcp',
        memory: '2048',
        ostype: 'l26',
        scsi0: `${disk},discard=on,size=${template.diskGiB}G`,
        scsihw: 'virtio-scsi-single',
        serial0: 'socket',
        template: '1',
      },
    );
    addVolume(world, template, { volid: disk, sizeGiB: template.diskGiB, usedGiB: template.usedGiB });
    addVolume(world, template, { volid: cloudInit, sizeGiB: 4 / 1024, usedGiB: 4 / 1024 });
  }
  for (const template of containerTemplates) addContainerTemplate(world, random, template);
  for (const guest of spec.guests) addForeignGuest(world, random, guest);
  for (const file of spec.files ?? defaultArchives(world)) addFile(world, file);
  return world;
}

/** Home-made: copies of one, because a container can be cloned only once at a time. */
function defaultContainerTemplates({ nodes, storages }: World): TemplateSpec[] {
  if (!storages.some(({ id, content }) => id === 'ceph' && content.includes('rootdir'))) return [];
  return nodes
    .slice(0, 3)
    .flatMap(({ name: node }, index) =>
      templateSpec.parse({ vmid: 9100 + index, node, name: CONTAINER_TEMPLATE }),
    );
}

function addContainerTemplate(world: World, random: SimRandom, template: TemplateSpec): void {
  const volid = volumeId(world, template, `base-${template.vmid}-disk-0`, 'raw');
  addGuest(
    world,
    random,
    { ...template, kind: 'lxc', owner: 'admin' },
    {
      arch: 'amd64',
      cores: '2',
      features: 'nesting=1',
      memory: '2048',
      ostype: 'debian',
      rootfs: `${volid},size=${template.diskGiB}G`,
      swap: '512',
      template: '1',
      unprivileged: '1',
    },
  );
  addVolume(world, template, { volid, sizeGiB: template.diskGiB, usedGiB: template.usedGiB });
}

function defaultArchives({ nodes, storages }: World): z.output<typeof fileSpec>[] {
  if (!storages.some(({ id, content }) => id === 'local' && content.includes('vztmpl'))) return [];
  return nodes.map(({ name: node }) => ({ volid: ARCHIVE, node, text: '', sizeBytes: 126_000_000 }));
}

export interface ForeignGuestSpec {
  readonly vmid: number;
  readonly node: string;
  readonly kind: 'qemu' | 'lxc';
  readonly owner: string;
  readonly name?: string | undefined;
  readonly pool?: string | undefined;
  readonly running?: boolean | undefined;
  readonly description?: string | undefined;
}

/** Adds a guest that somebody else made; one disk on the first storage. */
export function addForeignGuest(world: World, random: SimRandom, spec: ForeignGuestSpec): WorldGuest {
  const storage = world.storages[0]?.id ?? 'local';
  const format = spec.kind === 'qemu' ? 'qcow2' : 'raw';
  const volid = volumeId(world, { storage, vmid: spec.vmid }, `vm-${spec.vmid}-disk-0`, format);
  const disk = `${volid},size=32G`;
  const shared = {
    cores: '2',
    memory: '2048',
    ...(spec.description === undefined ? {} : { description: spec.description }),
  };
  const config =
    spec.kind === 'qemu'
      ? { ...shared, boot: 'order=scsi0', ostype: 'l26', scsi0: disk, scsihw: 'virtio-scsi-single' }
      : { ...shared, arch: 'amd64', ostype: 'debian', rootfs: disk, swap: '512', unprivileged: '1' };
  const guest = addGuest(world, random, { ...spec, name: spec.name ?? `guest-${spec.vmid}` }, config);
  addVolume(world, spec, { volid, sizeGiB: 32, usedGiB: 12 });
  guest.status = spec.running === false ? 'stopped' : 'running';
  return guest;
}

/** On storages that hold files a volume lies in a folder of its guest and says its format. */
function volumeId(
  world: World,
  { storage, vmid: owner }: { readonly storage: string; readonly vmid: number },
  name: string,
  format = 'qcow2',
): string {
  const found = world.storages.find(({ id }) => id === storage);
  return found && holdsFiles(found) ? `${storage}:${owner}/${name}.${format}` : `${storage}:${name}`;
}

function addGuest(
  world: World,
  random: SimRandom,
  spec: ForeignGuestSpec,
  config: Record<string, string>,
): WorldGuest {
  if (!world.nodes.some((node) => node.name === spec.node))
    throw new HatcheryError(
      'settings-invalid',
      `Unable to place guest ${spec.vmid}: there is no node "${spec.node}"`,
    );
  const draw = random.stream('guest', spec.vmid, world.life);
  const mac = `BC:24:11:${draw
    .hex(6)
    .toUpperCase()
    .replace(/(..)(..)(..)/, '$1:$2:$3')}`;
  const identity: Record<string, string> =
    spec.kind === 'qemu'
      ? {
          name: spec.name ?? '',
          net0: `virtio=${mac},bridge=vmbr0`,
          smbios1: `uuid=${draw.uuid()}`,
          vmgenid: draw.uuid(),
        }
      : { hostname: spec.name ?? '', net0: `name=eth0,bridge=vmbr0,hwaddr=${mac},ip=dhcp,type=veth` };
  const guest = newGuest({
    vmid: spec.vmid,
    kind: spec.kind,
    node: spec.node,
    owner: spec.owner,
    incarnation: draw.uuid(),
    config: { ...config, ...identity },
  });
  world.guests.set(spec.vmid, guest);
  if (spec.pool !== undefined) world.pools.get(spec.pool)?.members.add(spec.vmid);
  return guest;
}

function addFile(world: World, file: z.output<typeof fileSpec>): void {
  const storage = storageFor(world, file.volid);
  const content = /^[^:]+:([^/]+)\//.exec(file.volid)?.[1];
  const kind = storage.content.find((one) => one === content);
  const node = storage.shared ? undefined : (file.node ?? world.nodes[0]!.name);
  if (kind === undefined)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to place ${file.volid}: storage "${storage.id}" holds ${storage.content.join(', ')}`,
    );
  world.files.set(volumeKey(node, file.volid), {
    volid: file.volid,
    storage: storage.id,
    node,
    content: kind,
    text: file.text,
    ...(file.sizeBytes === undefined ? {} : { sizeBytes: file.sizeBytes }),
  });
}

function storageFor(world: World, volid: string): WorldStorage {
  const id = volid.slice(0, volid.indexOf(':'));
  const storage = world.storages.find((candidate) => candidate.id === id);
  if (!storage)
    throw new HatcheryError('settings-invalid', `Unable to place ${volid}: there is no storage "${id}"`);
  return storage;
}

function addVolume(
  world: World,
  owner: { vmid: number; node: string },
  volume: { volid: string; sizeGiB: number; usedGiB: number },
): void {
  const storage = storageFor(world, volume.volid);
  world.volumes.set(volumeKey(storage.shared ? undefined : owner.node, volume.volid), {
    ...volume,
    storage: storage.id,
    node: storage.shared ? undefined : owner.node,
    vmid: owner.vmid,
    parent: undefined,
  });
}
