import { expect } from 'vitest';
import { replayDossier } from '../../support/dossier-table.js';

const NOT_DEFINED = 'property is not defined in schema and the schema does not allow additional properties';
const CONFIG = 'PUT /nodes/pve1/qemu/100/config';
const KEY = `ssh-ed25519 ${Buffer.concat([
  Buffer.from([0, 0, 0, 11]),
  Buffer.from('ssh-ed25519'),
  Buffer.from([0, 0, 0, 32]),
  Buffer.alloc(32, 7),
]).toString('base64')} a@b`;
const config = (form: Record<string, string | number>) => ({ call: CONFIG, form });
const fault = (status: number, message: string) => ({
  id: 'fault',
  match: { op: 'version' },
  effect: 'status' as const,
  value: { status, message },
});

replayDossier('section 2: envelope, errors, encoding', [
  {
    line: 45,
    says: 'success is 200, data and these headers',
    send: 'GET /version',
    expect: {
      json: { data: expect.anything() },
      headers: { 'content-type': 'application/json;charset=UTF-8', server: 'pve-api-daemon/3.0' },
    },
  },
  {
    line: 45,
    says: 'paged lists have their total in the envelope',
    given: (bench) => bench.clone(),
    send: 'GET /nodes/pve1/tasks?limit=1',
    expect: { json: { total: 1, data: [expect.objectContaining({ type: 'qmclone' })] } },
  },
  {
    line: 45,
    says: 'gzip if asked and above 1 KiB',
    send: { call: 'GET /cluster/resources', headers: { 'accept-encoding': 'gzip' } },
    expect: { headers: { 'content-encoding': 'gzip' } },
  },
  {
    line: 45,
    says: 'no gzip below 1 KiB',
    send: { call: 'GET /version', headers: { 'accept-encoding': 'gzip' } },
    expect: { after: (_, reply) => expect(reply.headers['content-encoding']).toBeUndefined() },
  },
  {
    line: 46,
    says: 'a failure has data null, errors and message',
    send: 'GET /cluster/nextid?vmid=100',
    expect: {
      errors: { vmid: 'VM 100 already exists' },
      json: { data: null, message: 'Parameter verification failed.\n' },
    },
  },
  {
    line: 46,
    says: 'message is there since 8.4',
    world: { version: '8.4' },
    send: 'GET /nodes/pve1/qemu/555/config',
    expect: { error: "Configuration file 'nodes/pve1/qemu-server/555.conf' does not exist" },
  },
  {
    line: 49,
    says: 'a reply from 400 up closes the connection',
    send: 'GET /nodes/pve1/qemu/555/config',
    expect: { status: 500, headers: { connection: 'close' } },
  },
  {
    line: 51,
    says: 'a missing parameter',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: {} },
    expect: { errors: { newid: 'property is missing and it is not optional' } },
  },
  {
    line: 51,
    says: 'an unknown parameter',
    send: config({ colour: 'red' }),
    expect: { errors: { colour: NOT_DEFINED } },
  },
  {
    line: 51,
    says: 'a number of an indexed key that does not exist',
    send: config({ net32: 'virtio' }),
    expect: { errors: { net32: NOT_DEFINED } },
  },
  {
    line: 52,
    says: 'an integer that is none',
    send: config({ cores: 'x' }),
    expect: { errors: { cores: "type check ('integer') failed - got 'x'" } },
  },
  {
    line: 52,
    says: 'below the minimum',
    send: config({ cores: 0 }),
    expect: { errors: { cores: 'value must have a minimum value of 1' } },
  },
  {
    line: 52,
    says: 'above the maximum',
    send: config({ cpulimit: 129 }),
    expect: { errors: { cpulimit: 'value must have a maximum value of 128' } },
  },
  {
    line: 52,
    says: 'against the pattern',
    send: { call: 'PUT /nodes/pve1/qemu/100/resize', form: { disk: 'scsi0', size: 'big' } },
    expect: { errors: { size: 'value does not match the regex pattern' } },
  },
  {
    line: 53,
    says: 'too long',
    send: config({ digest: 'a'.repeat(41) }),
    expect: { errors: { digest: 'value may only be 40 characters long' } },
  },
  {
    line: 53,
    says: 'outside the enumeration',
    send: config({ bios: 'coreboot' }),
    expect: { errors: { bios: "value 'coreboot' does not have a value in the enumeration 'seabios, ovmf'" } },
  },
  {
    line: 53,
    says: 'a bad format ends with a newline',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500, name: 'a b' } },
    expect: { errors: { name: 'invalid format - value does not look like a valid DNS name\n' } },
  },
  {
    line: 53,
    says: 'a parameter that another one requires',
    send: config({ onboot: 1, force: 1 }),
    expect: { errors: { delete: "missing property required by 'force'" } },
  },
  {
    line: 54,
    says: 'a parameter that contradicts the path',
    send: config({ vmid: 101, onboot: 1 }),
    expect: { errors: { vmid: 'duplicate parameter (already defined in URI) with conflicting values!' } },
  },
  {
    line: 54,
    says: 'all failing parameters are reported together',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { full: 'yes', colour: 'red' } },
    expect: {
      errors: {
        newid: 'property is missing and it is not optional',
        full: "type check ('boolean') failed - got 'yes'",
        colour: NOT_DEFINED,
      },
    },
  },
  {
    line: 54,
    says: 'not found is 500: a guest',
    send: 'GET /nodes/pve1/qemu/10003/config',
    expect: { error: "Configuration file 'nodes/pve1/qemu-server/10003.conf' does not exist" },
  },
  {
    line: 55,
    says: 'a storage that does not exist',
    send: 'GET /nodes/pve1/storage/nowhere/content',
    expect: { error: "storage 'nowhere' does not exist" },
  },
  {
    line: 55,
    says: 'a storage that the node does not have',
    world: {
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 100 },
        { id: 'ssd', type: 'lvmthin', shared: false, sizeGiB: 100, nodes: ['pve2'] },
      ],
    },
    send: 'GET /nodes/pve1/storage/ssd/content',
    expect: { error: "storage 'ssd' is not available on node 'pve1'" },
  },
  {
    line: 56,
    says: 'a storage that is disabled',
    world: {
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 100 },
        { id: 'old', type: 'nfs', shared: true, sizeGiB: 100, isDisabled: true },
      ],
    },
    send: 'GET /nodes/pve1/storage/old/content',
    expect: { error: "storage 'old' is disabled" },
  },
  {
    line: 56,
    says: 'a target node that does not exist',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500, target: 'pve9' } },
    expect: { error: "no such cluster node 'pve9'" },
  },
  {
    line: 56,
    says: 'a pool that does not exist',
    send: 'GET /pools/nowhere',
    expect: { error: "pool 'nowhere' does not exist" },
  },
  {
    line: 56,
    says: 'a pool that does not exist, on clone',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500, pool: 'nowhere' } },
    expect: { status: 403, error: "Permission check failed (pool 'nowhere' does not exist)" },
  },
  {
    line: 56,
    says: 'a pool that does not exist, on create',
    send: { call: 'POST /nodes/pve1/qemu', form: { vmid: 10_500, pool: 'nowhere' } },
    expect: { status: 403, error: "Permission check failed (pool 'nowhere' does not exist)" },
  },
  {
    line: 56,
    says: 'without quorum: a config write',
    given: ({ simulator }) => simulator.conditions.loseQuorum(),
    send: config({ onboot: 1 }),
    expect: { error: /cluster not ready - no quorum\?/ },
  },
  {
    line: 56,
    says: 'without quorum: a pool',
    given: ({ simulator }) => simulator.conditions.loseQuorum(),
    send: { call: 'POST /pools', form: { poolid: 'p' } },
    expect: { error: /cluster not ready - no quorum\?/ },
  },
  {
    line: 57,
    says: 'an unknown node in the path',
    send: 'GET /nodes/pve9/qemu',
    expect: {
      error:
        "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known",
    },
  },
  {
    line: 57,
    says: 'an unknown path is 501, JSON',
    send: 'GET /foo',
    expect: { status: 501, error: "Method 'GET /foo' not implemented" },
  },
  {
    line: 57,
    says: 'an unknown method of a known path is 501, JSON',
    send: 'DELETE /version',
    expect: { status: 501, error: "Method 'DELETE /version' not implemented" },
  },
  {
    line: 58,
    says: 'a body above 512 KiB is 501, raw',
    send: { call: CONFIG, body: `description=${'x'.repeat(524_289)}` },
    expect: { status: 501, raw: 'for data too large' },
  },
  {
    line: 58,
    says: 'DELETE must not have a body',
    send: { call: 'DELETE /nodes/pve1/qemu/100', form: { purge: 1 } },
    expect: { status: 501, raw: "Unexpected content for method 'DELETE'" },
  },
  {
    line: 58,
    says: 'GET must not have a body',
    send: { call: 'GET /cluster/resources', form: { type: 'vm' } },
    expect: { status: 501, raw: "Unexpected content for method 'GET'" },
  },
  {
    line: 58,
    says: 'chunked bodies are 501, raw',
    send: { call: CONFIG, body: 'onboot=1', headers: { 'transfer-encoding': 'chunked' } },
    expect: { status: 501, raw: 'chunked transfer encoding not supported' },
  },
  {
    line: 59,
    says: 'other content types are 506',
    send: { call: CONFIG, body: 'onboot: 1', headers: { 'content-type': 'text/yaml' } },
    expect: {
      status: 506,
      after: (_, reply) => {
        expect(reply.text).toBe(reply.reason);
        expect(reply.headers['content-type']).toBeUndefined();
      },
    },
  },
  {
    line: 61,
    says: 'a node that is off: 595, empty body',
    given: ({ simulator }) => simulator.conditions.powerOff('pve2'),
    send: 'GET /nodes/pve2/status',
    expect: { status: 595, bare: 'No route to host' },
  },
  {
    line: 61,
    says: 'the target gives no answer for 30 s: 596, empty body',
    given: ({ world }) => {
      for (let vmid = 100_000; vmid < 120_000; vmid += 1)
        world.volumes.set(`ceph:vm-${vmid}-disk-0`, {
          volid: `ceph:vm-${vmid}-disk-0`,
          storage: 'ceph',
          node: undefined,
          vmid,
          sizeGiB: 1,
          usedGiB: 0,
          parent: undefined,
        });
    },
    send: 'GET /nodes/pve2/storage/ceph/content',
    expect: { status: 596, bare: 'Connection timed out' },
  },
  {
    line: 62,
    says: '597: the body was cut',
    given: ({ context }) => context.faults.add(fault(597, 'unexpected end of file')),
    send: 'GET /version',
    expect: { status: 597, bare: 'unexpected end of file' },
  },
  {
    line: 62,
    says: '599 of http-server before 5.1.2',
    given: ({ context }) => context.faults.add(fault(599, 'Too many redirections')),
    send: 'GET /version',
    expect: { status: 599, bare: 'Too many redirections' },
  },
  {
    line: 66,
    says: 'JSON bodies work',
    send: {
      call: CONFIG,
      body: JSON.stringify({ description: 'a;b&c', onboot: 1 }),
      headers: { 'content-type': 'application/json' },
    },
    expect: {
      data: null,
      after: ({ simulator }) => expect(simulator.guest(100)!.config).toMatchObject({ description: 'a;b&c' }),
    },
  },
  {
    line: 68,
    says: 'true and false of JSON work since 8.0',
    send: {
      call: CONFIG,
      body: JSON.stringify({ onboot: true }),
      headers: { 'content-type': 'application/json' },
    },
    expect: {
      data: null,
      after: ({ simulator }) => expect(simulator.guest(100)!.config).toMatchObject({ onboot: '1' }),
    },
  },
  {
    line: 66,
    says: 'query parameters override those of the body',
    send: { call: `${CONFIG}?description=query`, form: { description: 'body' } },
    expect: {
      data: null,
      after: ({ simulator }) => expect(simulator.guest(100)!.config).toMatchObject({ description: 'query' }),
    },
  },
  {
    line: 66,
    says: 'forms are split at ; too, and + is a space',
    send: { call: CONFIG, body: 'description=a+b;onboot=1' },
    expect: {
      data: null,
      after: ({ simulator }) =>
        expect(simulator.guest(100)!.config).toMatchObject({ description: 'a b', onboot: '1' }),
    },
  },
  {
    line: 66,
    says: '; is kept when it is encoded',
    send: { call: CONFIG, body: 'tags=a%3Bb' },
    expect: {
      data: null,
      after: ({ simulator }) => expect(simulator.guest(100)!.config).toMatchObject({ tags: 'a;b' }),
    },
  },
  {
    line: 67,
    says: 'repeated keys of a -list format are joined',
    given: ({ simulator }) => simulator.foreign.edit(100, { onboot: '1', ostype: 'l26' }),
    send: { call: CONFIG, form: { delete: ['onboot', 'ostype'] } },
    expect: {
      data: null,
      after: ({ simulator }) =>
        expect(Object.keys(simulator.guest(100)!.config)).not.toEqual(expect.arrayContaining(['onboot'])),
    },
  },
  {
    line: 67,
    says: 'a single value is wrapped when the schema says array',
    given: async (bench) => {
      bench.simulator.foreign.edit(100, { agent: '1' });
      await bench.task('POST /nodes/pve1/qemu/100/status/stop');
      await bench.task('POST /nodes/pve1/qemu/100/status/start');
      for (;;) {
        const reply = await bench.send('POST /nodes/pve1/qemu/100/agent/ping');
        if (reply.status === 200) return;
        expect(reply.reason).toBe('QEMU guest agent is not running');
      }
    },
    send: { call: 'POST /nodes/pve1/qemu/100/agent/exec', form: { command: 'hostname' } },
    expect: { data: { pid: expect.any(Number) } },
  },
  {
    line: 68,
    says: 'booleans of a form are exactly 0 and 1',
    send: config({ onboot: 'true' }),
    expect: { errors: { onboot: "type check ('boolean') failed - got 'true'" } },
  },
  {
    line: 71,
    says: 'raw SSH keys',
    send: config({ sshkeys: KEY }),
    expect: { errors: { sshkeys: `invalid format - invalid urlencoded string: ${KEY}\n` } },
  },
  {
    line: 71,
    says: 'SSH keys with + for a space',
    send: config({ sshkeys: encodeURIComponent(KEY).replaceAll('%20', '+') }),
    expect: { errors: { sshkeys: expect.stringMatching(/^invalid format - invalid urlencoded string: /) } },
  },
  {
    line: 71,
    says: 'a key that ssh-keygen cannot read',
    send: config({ sshkeys: encodeURIComponent('ssh-ed25519 AAAA') }),
    expect: { error: 'SSH public key validation error' },
  },
  {
    line: 72,
    says: 'config GET gives SSH keys still encoded',
    given: (bench) => bench.data(config({ sshkeys: encodeURIComponent(KEY) })),
    send: 'GET /nodes/pve1/qemu/100/config',
    expect: { data: expect.objectContaining({ sshkeys: encodeURIComponent(KEY) }) },
  },
]);
