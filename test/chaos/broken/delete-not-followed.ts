import { WireClient } from '../../simulators/proxmox-client.js';
import { withHypervisor, type Build } from './build.js';

/** The delete is done when the cluster has accepted it; nobody asks how its task ended (F26). */
export const deleteNotFollowed: Build = {
  parts: (parts, site) =>
    withHypervisor(parts, (real) => ({
      destroyOwn: async (guest, options, call) => {
        const own = await real.readOwn(guest, call);
        if (own.answer !== 'ours') return real.destroyOwn(guest, options, call);
        const client = new WireClient(site.simulators.proxmox);
        await client.delete(`/nodes/${own.guest.node}/qemu/${guest.vmid}?purge=1`);
        client.close();
        return { existed: true };
      },
    })),
};
