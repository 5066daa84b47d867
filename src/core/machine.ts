import { z } from 'zod';
import { onNodeInput } from './lxc/on-node.js';

/** What a run gets as its one input `machine`: everything the steps need, decided at accept and never changed after. */
export const machineInput = z.strictObject({
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
    .strictObject({
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
  archive: z.strictObject({ volume: z.string() }).optional(),
  clone: z.enum(['linked', 'full']).optional(),
  /** Where its disk lies. */
  storage: z.string(),
  /** Of `storage`; machines that were accepted by an older build go by their template's. */
  storageShared: z.boolean().optional(),
  size: z.strictObject({ cores: z.number().int(), memoryMiB: z.number().int(), diskGiB: z.number().int() }),
  network: z.strictObject({
    bridge: z.string(),
    vlan: z.number().int().optional(),
    dhcp: z.string().optional(),
  }),
  user: z.strictObject({ name: z.string(), sshKeys: z.array(z.string()) }),
  container: z.strictObject({ swapMiB: z.number().int(), nesting: z.boolean() }).optional(),
  owner: z.strictObject({
    login: z.string(),
    lastName: z.string(),
    firstName: z.string(),
    email: z.string().optional(),
    group: z.string().optional(),
  }),
  access: z
    .strictObject({
      service: z.string(),
      protocol: z.enum(['rdp', 'ssh', 'vnc']),
      port: z.number().int(),
      signIn: z.enum(['prompt', 'directory', 'generated']),
      group: z.string(),
    })
    .optional(),
  /** Of containers: what is done on their node, beyond the cluster's API. */
  onNode: onNodeInput.optional(),
  description: z.string(),
});
export type MachineInput = z.infer<typeof machineInput>;
