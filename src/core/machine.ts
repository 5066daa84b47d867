import { z } from 'zod';
import { snippetsInput } from './cloud-init/snippets.js';
import { onNodeInput } from './lxc/on-node.js';

/**
 * What a run gets as its one input `machine`: everything the steps need, decided at accept and never changed after. What a newer build adds
 * an older one leaves out: a step that cannot do without it is another version of that step.
 */
export const machineInput = z.object({
  id: z.uuid(),
  /** Machines that were accepted by an older build are virtual machines. */
  kind: z.enum(['qemu', 'lxc']).default('qemu'),
  name: z.string(),
  cluster: z.string(),
  node: z.string(),
  mac: z.string(),
  pool: z.string(),
  /** What it is made from; machines that were accepted by an older build have none. */
  blueprint: z.string().optional(),
  /** What it is a clone of. */
  template: z
    .object({
      name: z.string(),
      vmid: z.number().int(),
      node: z.string(),
      digest: z.string(),
      disk: z.string(),
      storage: z.string(),
      storageShared: z.boolean(),
      /** What a full clone copies; machines that were accepted by an older build have none. */
      diskGiB: z.number().optional(),
    })
    .optional(),
  /** What a container is unpacked from, instead of a template. */
  archive: z.object({ volume: z.string() }).optional(),
  clone: z.enum(['linked', 'full']).optional(),
  /** Where its disk lies. */
  storage: z.string(),
  /** Of `storage`; machines that were accepted by an older build go by their template's. */
  storageShared: z.boolean().optional(),
  size: z.object({ cores: z.number().int(), memoryMiB: z.number().int(), diskGiB: z.number().int() }),
  network: z.object({
    bridge: z.string(),
    vlan: z.number().int().optional(),
    dhcp: z.string().optional(),
  }),
  user: z.object({ name: z.string(), sshKeys: z.array(z.string()) }),
  container: z.object({ swapMiB: z.number().int(), nesting: z.boolean() }).optional(),
  owner: z.object({
    login: z.string(),
    lastName: z.string(),
    firstName: z.string(),
    email: z.string().optional(),
    group: z.string().optional(),
  }),
  access: z
    .object({
      service: z.string(),
      protocol: z.enum(['rdp', 'ssh', 'vnc']),
      port: z.number().int(),
      signIn: z.enum(['prompt', 'directory', 'generated']),
      group: z.string(),
    })
    .optional(),
  /** Of containers: what is done on their node, beyond the cluster's API. */
  onNode: onNodeInput.optional(),
  /** Of virtual machines: cloud-init files that are put on nodes. */
  snippets: snippetsInput.optional(),
  description: z.string(),
});
export type MachineInput = z.infer<typeof machineInput>;
