import { expect } from 'vitest';
import { replayDossier } from '../../support/dossier-table.js';

replayDossier('section 6: pools and access', [
  {
    line: 207,
    says: 'a VM that is a member already',
    send: { call: 'PUT /pools', form: { poolid: 'prod', vms: 100 } },
    expect: { error: 'update pools failed: VM 100 is already a pool member' },
  },
  {
    line: 208,
    says: 'a VM of another pool',
    send: { call: 'PUT /pools', form: { poolid: 'hatchery-demo', vms: 100 } },
    expect: {
      error: "update pools failed: VM 100 belongs already to pool 'prod' and 'allow-move' is not set",
    },
  },
  {
    line: 207,
    says: 'allow-move moves it',
    send: { call: 'PUT /pools', form: { poolid: 'hatchery-demo', vms: 100, 'allow-move': 1 } },
    expect: {
      data: null,
      after: ({ world }) =>
        expect([
          world.pools.get('prod')!.members.has(100),
          world.pools.get('hatchery-demo')!.members.has(100),
        ]).toEqual([false, true]),
    },
  },
  {
    line: 207,
    says: 'delete=1 removes members',
    send: { call: 'PUT /pools', form: { poolid: 'prod', vms: 100, delete: 1 } },
    expect: {
      data: null,
      after: ({ world }) => expect(world.pools.get('prod')!.members.has(100)).toBe(false),
    },
  },
  {
    line: 207,
    says: 'PUT /pools/{poolid} still works',
    send: { call: 'PUT /pools/prod', form: { comment: 'new' } },
    expect: { data: null, after: ({ world }) => expect(world.pools.get('prod')!.comment).toBe('new') },
  },
  {
    line: 208,
    says: 'members need VM.Allocate',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/pool', privileges: ['Pool.Allocate'] }] }],
    },
    send: { call: 'PUT /pools', form: { poolid: 'prod', vms: 104 }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/vms/104, VM.Allocate)' },
  },
  {
    line: 208,
    says: 'a pool needs Pool.Allocate',
    world: { tokens: [{ id: 'eve@pve!tok' }] },
    send: { call: 'PUT /pools', form: { poolid: 'prod', comment: 'x' }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/pool/prod, Pool.Allocate)' },
  },
  {
    line: 292,
    says: '8.4 has PUT /pools with allow-move too',
    world: { version: '8.4' },
    send: { call: 'PUT /pools', form: { poolid: 'hatchery-demo', vms: 100, 'allow-move': 1 } },
    expect: { data: null },
  },
  {
    line: 288,
    says: '9: a role may not name VM.Monitor',
    world: { tokens: [{ id: 'eve@pve!tok' }] },
    send: { call: 'GET /access/permissions', as: 'root' },
    expect: {
      after: (_, reply) =>
        expect((reply.json.data as Record<string, object>)['/vms']).not.toHaveProperty('VM.Monitor'),
    },
  },
  {
    line: 288,
    says: '8: VM.Monitor is a privilege',
    world: { version: '8.4' },
    send: 'GET /access/permissions',
    expect: {
      after: (_, reply) => {
        const rights = (reply.json.data as Record<string, object>)['/vms'];
        expect(rights).toHaveProperty('VM.Monitor');
        expect(rights).not.toHaveProperty('VM.GuestAgent.Audit');
      },
    },
  },
]);
