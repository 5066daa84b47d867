import { expect } from 'vitest';
import { replayDossier } from '../../support/dossier-table.js';

replayDossier('section 6: pools and access', [
  {
    line: 207,
    says: 'a new pool',
    send: { call: 'POST /pools', form: { poolid: 'p', comment: 'mine' } },
    expect: {
      data: null,
      after: async ({ data }) =>
        expect(await data('GET /pools')).toContainEqual({ poolid: 'p', comment: 'mine' }),
    },
  },
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
    line: 207,
    says: 'a pool with members is not deleted',
    world: {
      guests: [{ vmid: 105, node: 'pve1', kind: 'qemu', owner: 'alice', pool: 'p' }],
    },
    send: 'DELETE /pools/p',
    expect: { error: "delete pool failed: pool 'p' is not empty (contains VM 105)" },
  },
  {
    line: 207,
    says: 'an empty pool is deleted',
    world: { pools: ['p'] },
    send: 'DELETE /pools?poolid=p',
    expect: { data: null, after: ({ world }) => expect(world.pools.has('p')).toBe(false) },
  },
  {
    line: 208,
    says: 'members need VM.Allocate, which the lock reports as its own failure',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/pool', privileges: ['Pool.Allocate'] }] }],
    },
    send: { call: 'PUT /pools', form: { poolid: 'prod', vms: 104 }, as: { token: 'eve@pve!tok' } },
    expect: {
      error: 'update pools failed: 403 Permission check failed (/vms/104, Permissions.Modify|VM.Allocate)',
    },
  },
  {
    line: 208,
    says: 'a pool needs Pool.Allocate',
    world: { tokens: [{ id: 'eve@pve!tok' }] },
    send: { call: 'PUT /pools', form: { poolid: 'prod', comment: 'x' }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/pool/prod, Pool.Allocate)' },
  },
  {
    line: 209,
    says: 'nested pools',
    given: async ({ data }) => {
      await data({ call: 'POST /pools', form: { poolid: 'a' } });
      await data({ call: 'POST /pools', form: { poolid: 'a/b' } });
    },
    send: { call: 'POST /pools', form: { poolid: 'a/b/c' } },
    expect: { data: null },
  },
  {
    line: 292,
    says: '8.4 has PUT /pools with allow-move too',
    world: { version: '8.4' },
    send: { call: 'PUT /pools', form: { poolid: 'hatchery-demo', vms: 100, 'allow-move': 1 } },
    expect: { data: null },
  },
  {
    line: 216,
    says: 'a new user',
    send: { call: 'POST /access/users', form: { userid: 'carol@pve', comment: 'c' } },
    expect: {
      data: null,
      after: async ({ data }) =>
        expect(await data('GET /access/users')).toContainEqual(
          expect.objectContaining({ userid: 'carol@pve', enable: 1, comment: 'c' }),
        ),
    },
  },
  {
    line: 216,
    says: 'an ACL entry',
    given: ({ data }) => data({ call: 'POST /access/users', form: { userid: 'carol@pve' } }),
    send: {
      call: 'PUT /access/acl',
      form: { path: '/vms', roles: 'PVEVMAdmin', users: 'carol@pve' },
    },
    expect: {
      data: null,
      after: async ({ data }) =>
        expect(await data('GET /access/acl')).toContainEqual(
          expect.objectContaining({
            path: '/vms',
            roleid: 'PVEVMAdmin',
            ugid: 'carol@pve',
            type: 'user',
            propagate: 1,
          }),
        ),
    },
  },
  {
    line: 216,
    says: 'a new token, whose value is shown once',
    given: ({ data }) => data({ call: 'POST /access/users', form: { userid: 'carol@pve' } }),
    send: { call: 'POST /access/users/carol@pve/token/ci', form: { privsep: 0 } },
    expect: {
      data: {
        'full-tokenid': 'carol@pve!ci',
        info: expect.objectContaining({ privsep: expect.toSatisfy((v: unknown) => Number(v) === 0) }),
        value: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
      },
    },
  },
  {
    line: 217,
    says: 'a token that exists',
    world: { tokens: [{ id: 'carol@pve!ci' }] },
    send: { call: 'POST /access/users/carol@pve/token/ci', form: {} },
    expect: { errors: { tokenid: 'Token already exists.' } },
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
