import { expect } from 'vitest';
import type { WorldSpec } from '../../src/simulators/build-world.js';
import { DossierBench, type Reply, type Sent } from '../support/dossier-table.js';

export const GUEST = '/nodes/pve1/qemu/100';

/** Storages of every kind, a snippet and images beside the default world. */
export const STORAGES: WorldSpec = {
  storages: [
    { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1_000 },
    { id: 'local-lvm', type: 'lvmthin', shared: false, sizeGiB: 500 },
    { id: 'thick', type: 'lvm', shared: false, sizeGiB: 500 },
    { id: 'tank', type: 'zfspool', shared: false, sizeGiB: 500 },
    { id: 'nfs', type: 'nfs', shared: true, sizeGiB: 500, content: ['images', 'iso', 'snippets', 'import'] },
    { id: 'iso', type: 'dir', shared: false, sizeGiB: 100, content: ['iso'] },
    { id: 'off', type: 'dir', shared: false, sizeGiB: 100, isDisabled: true },
    { id: 'only2', type: 'nfs', shared: true, sizeGiB: 100, nodes: ['pve2'] },
  ],
  files: [
    { volid: 'nfs:snippets/user.yaml', text: '#cloud-config\nhello: world\n' },
    { volid: 'nfs:iso/debian.iso' },
    { volid: 'nfs:import/cloud.qcow2', text: '3G' },
  ],
};

/** One cluster, and the sentences that tests of guests repeat. */
export class QemuBench {
  private constructor(readonly bench: DossierBench) {}

  static async start(world: WorldSpec = STORAGES): Promise<QemuBench> {
    return new QemuBench(await DossierBench.start({ world, timeScale: 0.008 }));
  }

  get world(): DossierBench['world'] {
    return this.bench.world;
  }

  get simulator(): DossierBench['simulator'] {
    return this.bench.simulator;
  }

  stop = (): Promise<void> => this.bench.stop();

  send = (call: string, form?: Sent['form'], as: Sent['as'] = 'root'): Promise<Reply> =>
    this.bench.send({ call, as, ...(form === undefined ? {} : { form }) });

  /** `data` of a call that works. */
  read = async <T = Record<string, unknown>>(
    call: string,
    form?: Sent['form'],
    as?: Sent['as'],
  ): Promise<T> => {
    const reply = await this.send(call, form, as);
    expect(reply, reply.text).toMatchObject({ status: 200 });
    return reply.json.data as T;
  };

  /** How the task of a call ends. */
  exit = async (call: string, form?: Sent['form'], as?: Sent['as']): Promise<string> =>
    (await this.bench.follow(await this.read<string>(call, form, as))).exit;

  log = async (call: string, form?: Sent['form']): Promise<string[]> =>
    (await this.bench.follow(await this.read<string>(call, form))).log;

  /** Why a call is refused at once. */
  refusal = async (call: string, form?: Sent['form'], as?: Sent['as']): Promise<string> => {
    const reply = await this.send(call, form, as);
    expect(reply.status, reply.text).toBeGreaterThanOrEqual(400);
    return reply.status === 400 ? JSON.stringify(reply.json.errors) : reply.reason;
  };

  config = (vmid = 100): Promise<Record<string, string | number>> =>
    this.read(`GET /nodes/pve1/qemu/${vmid}/config`);

  /** A small stopped guest, made over the wire. */
  async make(vmid: number, form: Record<string, string | number> = {}): Promise<void> {
    expect(await this.exit('POST /nodes/pve1/qemu', { vmid, memory: 512, ...form })).toBe('OK');
  }
}
