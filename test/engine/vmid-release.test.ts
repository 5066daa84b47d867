import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LEAST_REST_MS, releaseVmid } from '../../src/engine/vmid-release.js';
import { plainCall } from '../../src/ports/call.js';
import { assembled, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let bench: Assembled;

beforeAll(async () => {
  site = await simulatedSite();
  bench = await assembled(site);
});
afterAll(async () => {
  await bench?.close();
  await site?.stop();
});

/** A VMID that was given back so long ago. */
async function resting(vmid: number, forMinutes: number): Promise<void> {
  await bench.assembly.database.query(
    `insert into reservations (kind, scope, value, released_at, rest_until)
     values ('vmid', 'main', $1, now() - $2 * interval '1 minute', now() + interval '7 days')`,
    [String(vmid), forMinutes],
  );
}

const release = (vmid: number): Promise<void> =>
  releaseVmid(bench.assembly.vmidRests, bench.assembly.hypervisors.get('main'), vmid, 'admin', plainCall());
const rests = async (vmid: number): Promise<boolean> =>
  (await bench.assembly.vmidRests.find('main', vmid)) !== undefined;

describe('a resting VMID', () => {
  it('is released when the cluster shows nothing of it, with a line in the audit list', async () => {
    await resting(12_000, LEAST_REST_MS / 60_000 + 1);
    await release(12_000);
    expect(await rests(12_000)).toBe(false);
    expect(
      await bench.assembly.database.query(`select actor, subject from audit where action = 'vmid.release'`),
    ).toEqual([{ actor: 'admin', subject: 'main/12000' }]);
  });

  it('stays when it was given back less than ten minutes ago, whoever asks', async () => {
    await resting(12_001, 9);
    await expect(release(12_001)).rejects.toMatchObject({
      code: 'not-applicable',
      message: 'Unable to release VMID 12001 of main: it was given back 9 minutes ago',
    });
    expect(await rests(12_001)).toBe(true);
  });

  it('stays while somebody has a guest under it', async () => {
    await resting(12_002, 60);
    site.simulators.proxmox.foreign.create({ vmid: 12_002, node: 'pve3', kind: 'lxc', owner: 'alice' });
    await expect(release(12_002)).rejects.toMatchObject({ code: 'foreign-guest' });
    expect(await rests(12_002)).toBe(true);
  });

  it('stays when the cluster does not answer', async () => {
    await resting(12_004, 60);
    site.simulators.context.faults.add({
      id: 'away',
      match: { op: 'cluster.nextid' },
      effect: 'status',
      value: 595,
    });
    await expect(release(12_004)).rejects.toMatchObject({ code: 'cluster-unreachable' });
    site.simulators.context.faults.remove('away');
    expect(await rests(12_004)).toBe(true);
  });

  it('that does not rest cannot be released', async () => {
    await expect(release(12_999)).rejects.toMatchObject({ code: 'not-applicable' });
  });
});
