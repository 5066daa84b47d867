import { WireClient } from '../../simulators/proxmox-client.js';
import { withHypervisor, type Build } from './build.js';

/** Whoever has the number is deleted: neither mark nor incarnation is read (F03). */
export const deleteByVmid: Build = {
  parts: (parts, site) =>
    withHypervisor(parts, (real) => ({
      destroyOwn: async ({ vmid }, _options, call) => {
        const { guests } = await real.inventory({ maxAgeMs: 0 });
        const guest = guests.find((one) => one.vmid === vmid);
        if (guest === undefined) return { existed: false };
        const client = new WireClient(site.simulators.proxmox);
        const { json } = await client.delete(`/nodes/${guest.node}/qemu/${vmid}?purge=1`);
        client.close();
        await real.followTask({ id: String(json.data) }, call);
        return { existed: true };
      },
    })),
};
