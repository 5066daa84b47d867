import type { MachineInput } from '../../../src/core/machine.js';
import { formatMark } from '../../../src/core/mark.js';
import { WireClient } from '../../simulators/proxmox-client.js';
import { withStep, type Build } from './build.js';

/** Whoever bears the name that we want is taken for ours and gets our mark (F02, F08). */
export const adoptByName: Build = {
  parts: (parts, site) =>
    withStep(parts, 'clone-template', (step) => ({
      act: async (input: { machine: MachineInput }, ports, run) => {
        const { guests } = await ports.hypervisor(input.machine.cluster).inventory({ maxAgeMs: 0 });
        const namesake = guests.find(({ name }) => name === input.machine.name);
        if (namesake === undefined) return (await step.act(input, ports, run)) as unknown;
        const client = new WireClient(site.simulators.proxmox);
        const description = formatMark({ ...run.mark(), vmid: namesake.vmid });
        await client.put(`/nodes/${namesake.node}/qemu/${namesake.vmid}/config`, { description });
        client.close();
        return { node: namesake.node, vmid: namesake.vmid };
      },
    })),
};
