import { describe, expect, it } from 'vitest';
import { Redactor } from './redact.js';
import { shapeOf } from './shape.js';

describe('the shape of an answer', () => {
  it('has every key with its types, and nothing of the values', () => {
    const shape = shapeOf([
      { vmid: 100, name: 'mail', maxmem: '2048', status: 'running' },
      { vmid: '101', name: 'web', status: 'secret word' },
    ]);
    expect(shape).toEqual([
      { at: '', types: ['array'], isOptional: false },
      { at: '[]', types: ['object'], isOptional: false },
      { at: '[].maxmem', types: ['digits'], isOptional: true },
      { at: '[].name', types: ['string'], isOptional: false },
      { at: '[].status', types: ['string'], isOptional: false, words: ['running'] },
      { at: '[].vmid', types: ['digits', 'integer'], isOptional: false },
    ]);
  });

  it('does not take the names of things for keys', () => {
    const shape = shapeOf({ '/vms/100': { 'VM.Audit': 1 }, scsi0: 'x', scsi1: 'y', 'a b': null });
    expect(shape.map(({ at }) => at)).toEqual(['', '.*', '.*.VM.Audit', '.scsi*']);
  });
});

describe('a text of the remote side', () => {
  const redactor = new Redactor({ node: ['pve1', 'pve'], guest: ['mail'], storage: ['local-lvm'] });

  it.each([
    [
      "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
      "Configuration file 'nodes/<node>/qemu-server/<n>.conf' does not exist",
    ],
    [
      "storage 'local-lvm' is not available on node 'pve'",
      "storage '<storage>' is not available on node '<node>'",
    ],
    ['no such task UPID:pve1:0000FFFF:000F4240:6553F100:qmstart:105:ada@pve:', 'no such task <upid>'],
    ['mail (10.0.0.12:8006) of ada@pve, email', '<guest> (<address>) of <user>, email'],
    ['aa:bb:cc:dd:ee:ff 0190aaaa-0000-7000-8000-000000000001', '<hex> <uuid>'],
  ])('loses what belongs to the site: %s', (text, redacted) => {
    expect(redactor.text(text)).toBe(redacted);
  });
});
