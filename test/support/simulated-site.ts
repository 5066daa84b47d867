import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { vendorData } from '../../src/core/vendor-data.js';
import { volumeKey } from '../../src/simulators/world.js';
import { startSimulators, type Simulators, type SimulatorSettings } from '../../src/simulators/simulators.js';

/** A whole site on simulated systems: what its YAML files say, and the systems themselves. */
export interface SimulatedSite {
  readonly simulators: Required<Simulators>;
  /** For HATCHERY_CONFIG_DIR. */
  readonly configDir: string;
  readonly timeScale: number;
  stop(): Promise<void>;
}

const TIME_SCALE = 0.01;
const VENDOR_DATA = 'local:snippets/hatchery.yaml';
const SNIPPETS: WorldStorages[number] = {
  id: 'local',
  type: 'dir',
  shared: false,
  sizeGiB: 100,
  content: ['snippets'],
};
const CEPH_AND_LOCAL: WorldStorages = [
  { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 40_960 },
  { id: 'local-lvm', type: 'lvmthin', shared: false, sizeGiB: 1_024 },
];
type WorldStorages = NonNullable<NonNullable<SimulatorSettings['world']>['storages']>;

/** As the site's admin does: puts the vendor data of this deployment on every node, where a site with `vendorData` says. */
export function putVendorData({ world }: Simulators, publicUrl: string): void {
  const file = { volid: VENDOR_DATA, storage: SNIPPETS.id, content: 'snippets' } as const;
  for (const { name } of world.nodes)
    world.files.set(volumeKey(name, VENDOR_DATA), { ...file, node: name, text: vendorData(publicUrl) });
}

/** Proxmox, Windows DHCP and Guacamole in this process on one world, with the config folder that names them. */
export async function simulatedSite(
  settings: Partial<SimulatorSettings> & {
    cluster?: ClusterParts | ((proxmox: Required<Simulators>['proxmox']) => ClusterParts);
    /** The nodes have a place for vendor data, and the cluster's file names it; the guests phone home once it is put there. */
    vendorData?: boolean;
  } = {},
): Promise<SimulatedSite> {
  const { cluster, vendorData: hasVendorData = false, ...rest } = settings;
  const timeScale = rest.timeScale ?? TIME_SCALE;
  const simulators = (await startSimulators({
    which: ['proxmox', 'winrm', 'guacamole'],
    timeScale,
    ...rest,
    ...(hasVendorData && {
      world: { ...rest.world, storages: [...(rest.world?.storages ?? CEPH_AND_LOCAL), SNIPPETS] },
    }),
  })) as Required<Simulators>;
  const configDir = await writeSite(simulators, {
    ...(hasVendorData && { vendorData: VENDOR_DATA }),
    ...(typeof cluster === 'function' ? cluster(simulators.proxmox) : cluster),
  });
  return {
    simulators,
    configDir,
    timeScale,
    async stop() {
      await simulators.stop();
      await rm(configDir, { recursive: true, force: true });
    },
  };
}

/** What a cluster's file says, with its secrets in clear. */
type ClusterParts = Record<string, unknown> & {
  token?: { id: string; secret: string };
  /** Instead of a token. */
  account?: { username: string; password: string };
};

/** The config folder of a deployment on simulated systems; `cluster` replaces what its file says. */
export async function writeSite(
  simulators: Required<Simulators>,
  cluster: ClusterParts = {},
): Promise<string> {
  const configDir = await mkdtemp(join(tmpdir(), 'hatchery-site-'));
  const { proxmox, winrm, guacamole } = simulators;
  const { token = proxmox.token, account, ...more } = cluster;
  const secret = async (name: string, value: string): Promise<{ file: string }> => {
    const file = join(configDir, name);
    await writeFile(file, value, { mode: 0o600 });
    return { file };
  };
  const write = async (folder: string, definition: { name: string }): Promise<void> => {
    await mkdir(join(configDir, folder), { recursive: true });
    await writeFile(join(configDir, folder, `${definition.name}.yaml`), stringify(definition));
  };
  const trust = { caFile: proxmox.caFile };
  const signIn: Record<string, unknown> = account
    ? { account: { ...account, password: await secret('account', account.password) } }
    : { token: { ...token, secret: await secret('token', token.secret) } };
  await write('clusters', {
    name: 'main',
    kind: 'proxmox',
    endpoints: proxmox.endpoints,
    trust,
    ...signIn,
    pool: 'hatchery-demo',
    vmids: { from: 10_000, to: 19_999 },
    ssh: { ...proxmox.ssh, privateKey: await secret('ssh-key', proxmox.ssh.privateKey) },
    snippetStorage: 'local',
    containers: {
      identities: [{ from: 600_000_000, count: 999_999_999 }],
      homes: { students: '/mnt/pve/home' },
    },
    ...more,
  } as { name: string });
  const service = async (
    name: string,
    kind: string,
    endpoint: string,
    login: { username?: string; password?: string },
  ): Promise<void> =>
    write('services', {
      name,
      kind,
      endpoint,
      trust,
      username: login.username,
      password: await secret(`${name}-password`, login.password ?? ''),
    } as { name: string });
  await service('dhcp', 'windows-dhcp', `${winrm.endpoint}/wsman`, winrm);
  await service('guacamole', 'guacamole', guacamole.endpoints[0]!, guacamole);
  return configDir;
}
