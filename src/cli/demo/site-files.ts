import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { vendorData } from '../../core/vendor-data.js';

/** What the simulators print when they listen (CONTRACT: Simulators). */
const listening = z.object({
  simulator: z.string(),
  endpoints: z.array(z.string()).min(1),
  caFile: z.string().optional(),
  tokenId: z.string().optional(),
  tokenSecret: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  ssh: z
    .object({
      user: z.string(),
      privateKey: z.string(),
      addresses: z.record(z.string(), z.string()),
      hostKeys: z.record(z.string(), z.string()),
    })
    .optional(),
  journal: z.string(),
});
const allListening = listening.extend({ simulators: z.array(listening) });

export const DEPLOYMENT = 'demo';
const VENDOR_DATA = 'local:snippets/hatchery.yaml';
const ARCHIVE = 'local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst';

/** What an admin puts on every node of the simulated cluster: the archive of Debian's containers, and the vendor data of the API at `url`. */
export const clusterWithVendorData = (url: string): string =>
  stringify({
    files: ['pve1', 'pve2', 'pve3'].flatMap((node) => [
      { volid: ARCHIVE, node },
      { volid: VENDOR_DATA, node, text: vendorData(url) },
    ]),
  });

/**
 * Writes the site of the demo, as an admin would for real systems: `clusters/main.yaml`, `services/dhcp.yaml`,
 * `services/guacamole.yaml`, and the secrets in files that only we can read.
 * `line` is the simulators' JSON line.
 */
export async function writeSite(
  folder: string,
  line: string,
  { phonesHome }: { readonly phonesHome: boolean } = { phonesHome: false },
): Promise<void> {
  const { simulators } = allListening.parse(JSON.parse(line));
  const one = (name: string) => simulators.find(({ simulator }) => simulator === name)!;
  const { proxmox, winrm, guacamole } = {
    proxmox: one('proxmox'),
    winrm: one('winrm'),
    guacamole: one('guacamole'),
  };
  for (const name of ['clusters', 'services', 'secrets'])
    await mkdir(join(folder, name), { recursive: true, mode: 0o700 });
  const caFile = join(folder, 'cluster-ca.pem');
  await copyFile(proxmox.caFile!, caFile);
  const secret = async (name: string, value: string) => {
    const file = join(folder, 'secrets', name);
    await writeFile(file, `${value}\n`, { mode: 0o600 });
    return { file };
  };
  const write = (path: string, content: object) =>
    writeFile(join(folder, path), stringify(content), { mode: 0o600 });
  await write('clusters/main.yaml', {
    name: 'main',
    kind: 'proxmox',
    endpoints: proxmox.endpoints,
    trust: { caFile },
    token: { id: proxmox.tokenId, secret: await secret('proxmox-token', proxmox.tokenSecret!) },
    pool: `hatchery-${DEPLOYMENT}`,
    vmids: { from: 10_000, to: 19_999, quarantine: '7d' },
    ssh: { ...proxmox.ssh, privateKey: await secret('ssh-key', proxmox.ssh!.privateKey) },
    snippetStorage: 'local',
    containers: {
      identities: [{ from: 600_000_000, count: 999_999_999 }],
      homes: { students: '/mnt/pve/home' },
    },
    ...(phonesHome && { vendorData: VENDOR_DATA }),
  });
  const service = async (name: string, kind: string, from: typeof winrm) =>
    write(`services/${name}.yaml`, {
      name,
      kind,
      endpoint: from.endpoints[0],
      ...(from.caFile === undefined ? {} : { trust: { caFile } }),
      username: from.username,
      password: await secret(`${name}-password`, from.password!),
    });
  await service('dhcp', 'windows-dhcp', winrm);
  await service('guacamole', 'guacamole', guacamole);
}
