import { expect, it } from 'vitest';
import type { Hypervisor } from '../ports/hypervisor.js';
import type { EngineParts } from './engine.js';
import { StrayFinder } from './strays.js';

it('reads every guest in turn, also behind those that stay and one that cannot be read', async () => {
  const vmids = Array.from({ length: 45 }, (_, index) => 100 + index);
  const read: number[] = [];
  const hypervisor = {
    cluster: 'main',
    inventory: async () => ({ guests: vmids.map((vmid) => ({ vmid, kind: 'qemu', pool: 'ours' })) }),
    readMark: async (vmid: number) => {
      read.push(vmid);
      if (vmid === 105) throw new Error('this one cannot be read');
    },
  } as unknown as Hypervisor;
  const parts = { store: { countedVmids: async () => new Set([101]) } } as unknown as EngineParts;
  const finder = new StrayFinder(parts, hypervisor, {
    pool: 'ours',
    from: 100,
    to: 143,
    effectOf: () => {
      throw new Error('none of them is ours');
    },
  });
  const signal = new AbortController().signal;
  await expect(finder.reopen(signal)).rejects.toThrow('cannot be read');
  await finder.reopen(signal);
  await finder.reopen(signal);
  expect(new Set(read)).toEqual(new Set(vmids.filter((vmid) => vmid !== 101 && vmid !== 144)));
});
