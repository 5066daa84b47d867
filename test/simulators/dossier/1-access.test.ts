import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const USER = { id: 'alice@pve', password: 'wonderland' };
const withUser = { users: [{ ...USER, acl: [{ path: '/vms', privileges: ['VM.Audit'] }] }] };
let startedAt = 0;
const signIn = (fields: Record<string, string>) =>
  ({ call: 'POST /access/ticket', form: fields, as: 'nobody' }) as const;
const tokenHeader = (value: string) => ({ authorization: `PVEAPIToken=${value}` });
const ticketOf = async (bench: DossierBench, username = USER.id) =>
  (await bench.data<{ ticket: string }>(signIn({ username, password: USER.password }))).ticket;

replayDossier('section 1: authentication, privileges, TLS', [
  {
    line: 10,
    says: 'any node answers for the cluster and proxies /nodes/{other}',
    send: { call: 'GET /nodes/pve2/qemu', at: 2 },
    expect: { data: [expect.objectContaining({ vmid: 10_003 })] },
  },
  {
    line: 12,
    says: 'a ticket comes with user name, CSRF token and capabilities',
    world: withUser,
    send: signIn({ username: USER.id, password: USER.password }),
    expect: {
      data: expect.objectContaining({
        username: USER.id,
        ticket: expect.any(String),
        CSRFPreventionToken: expect.any(String),
        cap: expect.objectContaining({
          vms: { 'VM.Audit': 1 },
          storage: {},
          nodes: {},
          dc: {},
          access: {},
          sdn: {},
          mapping: {},
        }),
      }),
    },
  },
  {
    line: 12,
    says: 'the realm may be given apart from the user name',
    world: withUser,
    send: signIn({ username: 'alice', realm: 'pve', password: USER.password }),
    expect: { data: expect.objectContaining({ username: USER.id }) },
  },
  {
    line: 12,
    says: 'a user name has at most 64 characters',
    send: signIn({ username: `${'a'.repeat(61)}@pve`, password: 'x' }),
    expect: { errors: { username: 'value may only be 64 characters long' } },
  },
  {
    line: 12,
    says: 'a valid ticket as password renews it',
    world: withUser,
    send: async (bench) => signIn({ username: USER.id, password: await ticketOf(bench) }),
    expect: { data: expect.objectContaining({ username: USER.id, ticket: expect.stringMatching(/^PVE:/) }) },
  },
  {
    line: 13,
    says: 'the cluster name is told only to those with Sys.Audit on /',
    world: { users: [{ ...USER, acl: [{ path: '/', privileges: ['Sys.Audit'] }] }] },
    send: signIn({ username: USER.id, password: USER.password }),
    expect: { data: expect.objectContaining({ clustername: 'simcluster' }) },
  },
  {
    line: 13,
    says: 'the cluster name is not told to others',
    world: withUser,
    send: signIn({ username: USER.id, password: USER.password }),
    expect: { data: expect.not.objectContaining({ clustername: expect.anything() }) },
  },
  {
    line: 14,
    says: 'the ticket has the text PVE:user@realm:HEXTIME::base64sig and the CSRF token HEXTIME:base64hmac',
    world: withUser,
    send: signIn({ username: USER.id, password: USER.password }),
    expect: {
      data: expect.objectContaining({
        ticket: expect.stringMatching(/^PVE:alice@pve:[0-9A-F]{8}::[A-Za-z0-9+/]+={0,2}$/),
        CSRFPreventionToken: expect.stringMatching(/^[0-9A-F]{8}:[A-Za-z0-9+/]{43}$/),
      }),
    },
  },
  {
    line: 15,
    says: 'the cookie signs in, its value URL-encoded',
    world: withUser,
    send: async (bench) => ({
      call: 'GET /version',
      as: 'nobody',
      headers: { cookie: `PVEAuthCookie=${encodeURIComponent(await ticketOf(bench))}` },
    }),
    expect: {},
  },
  {
    line: 15,
    says: 'the ticket is accepted as Authorization header too',
    world: withUser,
    send: async (bench) => ({
      call: 'GET /version',
      as: 'nobody',
      headers: { authorization: `PVEAuthCookie=${await ticketOf(bench)}` },
    }),
    expect: {},
  },
  {
    line: 15,
    says: 'a write with a ticket needs the CSRF token',
    world: withUser,
    send: async (bench) => ({
      call: 'POST /pools',
      form: { poolid: 'p' },
      as: 'nobody',
      headers: { cookie: `PVEAuthCookie=${encodeURIComponent(await ticketOf(bench))}` },
    }),
    expect: { status: 401, bare: 'Permission denied - invalid csrf token' },
  },
  {
    line: 15,
    says: 'a write with ticket and CSRF token passes',
    send: { call: 'POST /pools', form: { poolid: 'p' }, as: 'ticket' },
    expect: { data: null },
  },
  {
    line: 16,
    says: 'an API token needs no CSRF token',
    send: { call: 'POST /pools', form: { poolid: 'p' } },
    expect: { data: null },
  },
  {
    line: 17,
    says: 'PVEAPIToken may be followed by a space',
    send: ({ simulator: { token } }) => ({
      call: 'GET /version',
      as: 'nobody',
      headers: { authorization: `PVEAPIToken ${token.id}=${token.secret}` },
    }),
    expect: {},
  },
  {
    line: 17,
    says: 'a cookie wins over a token',
    send: ({ simulator: { token } }) => ({
      call: 'GET /version',
      as: 'nobody',
      headers: { ...tokenHeader(`${token.id}=${token.secret}`), cookie: 'PVEAuthCookie=PVE:nobody' },
    }),
    expect: { status: 401, bare: 'Authentication failed!' },
  },
  {
    line: 18,
    says: 'POST /access/ticket is not open to tokens',
    send: { call: 'POST /access/ticket', form: { username: 'root@pam', password: 'x' } },
    expect: {
      status: 403,
      error:
        "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.)",
    },
  },
  {
    line: 20,
    says: 'a token with privilege separation has what both it and its user have',
    world: {
      users: [{ ...USER, acl: [{ path: '/vms', privileges: ['VM.Audit', 'VM.PowerMgmt'] }] }],
      tokens: [{ id: 'alice@pve!tok', acl: [{ path: '/vms', privileges: ['VM.PowerMgmt', 'VM.Allocate'] }] }],
    },
    send: { call: 'GET /access/permissions?path=/vms', as: { token: 'alice@pve!tok' } },
    expect: { data: { '/vms': { 'VM.PowerMgmt': 1 } } },
  },
  {
    line: 20,
    says: 'a token without privilege separation has the rights of its user',
    world: {
      users: [{ ...USER, acl: [{ path: '/vms', privileges: ['VM.Audit', 'VM.PowerMgmt'] }] }],
      tokens: [{ id: 'alice@pve!tok', privsep: false }],
    },
    send: { call: 'GET /access/permissions?path=/vms', as: { token: 'alice@pve!tok' } },
    expect: { data: { '/vms': { 'VM.Audit': 1, 'VM.PowerMgmt': 1 } } },
  },
  {
    line: 20,
    says: 'a token of root is not root',
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { skiplock: 1, onboot: 1 } },
    expect: { errors: { skiplock: 'Only root may use this option.' } },
  },
  {
    line: 21,
    says: 'a root@pam ticket is root',
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { skiplock: 1, onboot: 1 }, as: 'ticket' },
    expect: { data: null },
  },
  {
    line: 22,
    says: 'GET /access/domains needs no login',
    send: { call: 'GET /access/domains', as: 'nobody' },
    expect: { data: expect.arrayContaining([expect.objectContaining({ realm: 'pam', type: 'pam' })]) },
  },
  {
    line: 22,
    says: 'GET /access/ticket needs no login',
    send: { call: 'GET /access/ticket', as: 'nobody' },
    expect: { data: null },
  },
  {
    line: 23,
    says: 'without credentials: 401 "No ticket" with an empty body',
    send: { call: 'GET /version', as: 'nobody' },
    expect: { status: 401, bare: 'No ticket' },
  },
  {
    line: 23,
    says: 'a 401 is held back until 3 s',
    send: ({ context }) => {
      startedAt = context.clock.elapsedMs();
      return { call: 'GET /version', as: 'nobody' };
    },
    expect: {
      status: 401,
      bare: 'No ticket',
      after: ({ context }) => expect(context.clock.elapsedMs() - startedAt).toBeGreaterThanOrEqual(2_999),
    },
  },
  {
    line: 24,
    says: 'a broken ticket: "Authentication failed!"',
    send: {
      call: 'GET /version',
      as: 'nobody',
      headers: { cookie: 'PVEAuthCookie=PVE:x@pve:00000000::AAAA' },
    },
    expect: { status: 401, bare: 'Authentication failed!' },
  },
  {
    line: 24,
    says: 'a wrong token secret: "Authentication failed!"',
    send: ({ simulator }) => ({
      call: 'GET /version',
      as: 'nobody',
      headers: tokenHeader(`${simulator.token.id}=00000000-0000-0000-0000-000000000000`),
    }),
    expect: { status: 401, bare: 'Authentication failed!' },
  },
  {
    line: 24,
    says: '8.4: an invalid ticket',
    world: { version: '8.4' },
    send: {
      call: 'GET /version',
      as: 'nobody',
      headers: { cookie: 'PVEAuthCookie=PVE:x@pve:00000000::AAAA' },
    },
    expect: { status: 401, bare: 'permission denied - invalid PVE ticket' },
  },
  {
    line: 24,
    says: '8.4: a token that does not exist',
    world: { version: '8.4', ...withUser },
    send: { call: 'GET /version', as: 'nobody', headers: tokenHeader('alice@pve!xx=1') },
    expect: { status: 401, bare: "no such token 'xx' for user 'alice@pve'" },
  },
  {
    line: 24,
    says: '8.4: a wrong token secret',
    world: { version: '8.4' },
    send: ({ simulator }) => ({
      call: 'GET /version',
      as: 'nobody',
      headers: tokenHeader(`${simulator.token.id}=00000000-0000-0000-0000-000000000000`),
    }),
    expect: { status: 401, bare: 'invalid token value!' },
  },
  {
    line: 24,
    says: '8.4: a user that is disabled',
    world: {
      version: '8.4',
      users: [{ ...USER, enabled: false }],
      tokens: [{ id: 'alice@pve!tok', secret: 's' }],
    },
    send: { call: 'GET /version', as: { token: 'alice@pve!tok' } },
    expect: { status: 401, bare: "user 'alice@pve' is disabled" },
  },
  {
    line: 24,
    says: '8.4: a token that expired',
    world: {
      version: '8.4',
      users: [USER],
      tokens: [{ id: 'alice@pve!tok', secret: 's', expire: 1_000_000 }],
    },
    send: { call: 'GET /version', as: { token: 'alice@pve!tok' } },
    expect: {
      status: 401,
      bare: "token 'tok' access expired",
    },
  },
  {
    line: 24,
    says: 'a bad CSRF token is 401, not 403',
    send: async (bench) => ({
      call: 'POST /pools',
      form: { poolid: 'p' },
      as: 'nobody',
      headers: { ...(await bench.signIn('root@pam')), CSRFPreventionToken: `00000000:${'A'.repeat(43)}` },
    }),
    expect: { status: 401, bare: 'Permission denied - invalid csrf token' },
  },
  {
    line: 26,
    says: 'a wrong password on /access/ticket',
    world: withUser,
    send: signIn({ username: USER.id, password: 'looking-glass' }),
    expect: {
      status: 401,
      error: 'authentication failure',
      json: { data: null, message: 'authentication failure\n' },
    },
  },
  {
    line: 26,
    says: 'an unknown user on /access/ticket',
    send: signIn({ username: 'ghost@pve', password: 'looking-glass' }),
    expect: { status: 401, error: 'authentication failure' },
  },
  {
    line: 27,
    says: 'a 403 names path and privilege, in the body too',
    send: { call: 'POST /nodes/pve1/qemu/100/clone', form: { newid: 10_500 }, as: 'deployment' },
    expect: {
      status: 403,
      error: 'Permission check failed (/vms/100, VM.Clone)',
      json: { data: null, message: 'Permission check failed (/vms/100, VM.Clone)\n' },
    },
  },
  {
    line: 27,
    says: '"any of" lists are joined by |',
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { cores: 4 }, as: 'deployment' },
    expect: {
      status: 403,
      error: /^Permission check failed \(\/vms\/100, VM\.Config\.[A-Za-z]+(\|VM\.Config\.[A-Za-z]+){7}\)$/,
    },
  },
  {
    line: 27,
    says: 'a failed "or" group gives the bare text',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500 }, as: 'deployment' },
    expect: { status: 403, error: 'Permission check failed' },
  },
  {
    line: 28,
    says: 'declared permissions are tested before the parameters: 403 hides a 400',
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { cores: 'many', nothing: 1 }, as: 'deployment' },
    expect: { status: 403, error: /^Permission check failed/ },
  },
  {
    line: 28,
    says: 'declared permissions are tested before proxying',
    send: { call: 'GET /nodes/pve9/status', as: { token: 'eve@pve!tok' } },
    world: { tokens: [{ id: 'eve@pve!tok' }] },
    expect: { status: 403, error: 'Permission check failed (/nodes/pve9, Sys.Audit)' },
  },
  {
    line: 28,
    says: 'create tests its permissions inside, after the parameters',
    send: { call: 'POST /nodes/pve1/qemu', form: { vmid: 10_500, cores: 'many' }, as: 'deployment' },
    expect: { errors: { cores: "type check ('integer') failed - got 'many'" } },
  },
  {
    line: 29,
    says: 'a root-only parameter is a parameter error',
    send: { call: 'DELETE /nodes/pve1/qemu/100?skiplock=1' },
    expect: { errors: { skiplock: 'Only root may use this option.' } },
  },
  {
    line: 30,
    says: "root-only config key 'args'",
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { args: '-x' } },
    expect: { error: "only root can set 'args' config" },
  },
  {
    line: 30,
    says: "root-only config key 'hookscript'",
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { hookscript: 'local:snippets/h.sh' } },
    expect: { error: "only root can set 'hookscript' config" },
  },
  {
    line: 30,
    says: "root-only config key 'affinity'",
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { affinity: '0,5' } },
    expect: { error: "only root can set 'affinity' config" },
  },
  {
    line: 30,
    says: "root-only config key 'lock', to be removed",
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { lock: 'backup' } },
    expect: { error: "only root can set 'lock' config" },
  },
  {
    line: 32,
    says: 'an ACL on a pool covers its members',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/pool/prod', privileges: ['VM.Audit'] }] }] },
    send: { call: 'GET /nodes/pve1/qemu/100/config', as: { token: 'eve@pve!tok' } },
    expect: { data: expect.objectContaining({ name: 'gitlab' }) },
  },
  {
    line: 33,
    says: 'a plain bridge is a vnet of zone localnetwork',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Config.Network', 'VM.Audit'] }] }],
    },
    send: {
      call: 'PUT /nodes/pve1/qemu/100/config',
      form: { net0: 'virtio,bridge=vmbr0' },
      as: { token: 'eve@pve!tok' },
    },
    expect: { status: 403, error: 'Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)' },
  },
  {
    line: 33,
    says: 'with a tag only the path of the tag counts',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Config.Network', 'VM.Audit'] }] }],
    },
    send: {
      call: 'PUT /nodes/pve1/qemu/100/config',
      form: { net0: 'virtio,bridge=vmbr0,tag=30' },
      as: { token: 'eve@pve!tok' },
    },
    expect: { status: 403, error: 'Permission check failed (/sdn/zones/localnetwork/vmbr0/30, SDN.Use)' },
  },
  {
    line: 35,
    says: '9: the agent is asked with VM.GuestAgent.Audit',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.GuestAgent.Audit'] }] }] },
    send: {
      call: 'GET /nodes/pve1/qemu/100/agent/network-get-interfaces',
      as: { token: 'eve@pve!tok' },
    },
    expect: { error: 'No QEMU guest agent configured' },
  },
  {
    line: 35,
    says: '9: exec needs VM.GuestAgent.Unrestricted',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.GuestAgent.Audit'] }] }] },
    send: {
      call: 'POST /nodes/pve1/qemu/100/agent/exec',
      form: { command: ['id'] },
      as: { token: 'eve@pve!tok' },
    },
    expect: { status: 403, error: /^Permission check failed \(\/vms\/100, VM\.GuestAgent\.Unrestricted\)$/ },
  },
  {
    line: 35,
    says: '8: the agent needs VM.Monitor',
    world: {
      version: '8.4',
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Audit'] }] }],
    },
    send: {
      call: 'GET /nodes/pve1/qemu/100/agent/network-get-interfaces',
      as: { token: 'eve@pve!tok' },
    },
    expect: { status: 403, error: 'Permission check failed (/vms/100, VM.Monitor)' },
  },
  {
    line: 39,
    says: 'a clone needs VM.Allocate on the new id or its pool, Datastore.AllocateSpace ...',
    world: {
      tokens: [
        {
          id: 'eve@pve!tok',
          acl: [
            { path: '/vms', privileges: ['VM.Clone', 'VM.Allocate'] },
            { path: '/sdn', privileges: ['SDN.Use'] },
          ],
        },
      ],
    },
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500 }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/storage/ceph, Datastore.AllocateSpace)' },
  },
  {
    line: 39,
    says: '... and SDN.Use on the bridges of the source',
    world: {
      tokens: [
        {
          id: 'eve@pve!tok',
          acl: [
            { path: '/vms', privileges: ['VM.Clone', 'VM.Allocate'] },
            { path: '/storage', privileges: ['Datastore.AllocateSpace'] },
          ],
        },
      ],
    },
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500 }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)' },
  },
  {
    line: 40,
    says: 'create needs the privilege of each key passed',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Allocate'] }] }] },
    send: { call: 'POST /nodes/pve1/qemu', form: { vmid: 10_500, cores: 2 }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/vms/10500, VM.Config.CPU)' },
  },
  {
    line: 40,
    says: 'create with start=1 needs VM.PowerMgmt besides',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Allocate'] }] }] },
    send: { call: 'POST /nodes/pve1/qemu', form: { vmid: 10_500, start: 1 }, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/vms/10500, VM.PowerMgmt)' },
  },
  {
    line: 42,
    says: 'GET /nodes tells the fingerprint of each node',
    send: 'GET /nodes',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({
          node: 'pve2',
          ssl_fingerprint: expect.stringMatching(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/),
        }),
      ]),
    },
  },
  {
    line: 42,
    says: 'certificates/info tells the details',
    send: 'GET /nodes/pve1/certificates/info',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({
          filename: 'pve-ssl.pem',
          san: expect.arrayContaining(['127.0.0.1', 'localhost', 'pve1']),
          issuer: expect.stringContaining('Proxmox Virtual Environment'),
        }),
      ]),
    },
  },
]);
