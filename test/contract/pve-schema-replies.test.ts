import { afterAll, beforeAll, expect, it } from 'vitest';
import { DossierBench, type Sent } from '../support/dossier-table.js';
import { PveSchema, type SchemaProperty } from '../support/pve-schema.js';

/** Properties that the real answers have though the schema does not list them (of either version). */
const REAL: Readonly<Record<string, readonly string[]>> = {
  // The schema names only the UPID; the rest is what a UPID says, and the verdict.
  'GET /cluster/tasks': [
    ...['node', 'pid', 'pstart', 'starttime', 'type', 'id', 'user', 'tokenid', 'endtime', 'status', 'saved'],
  ],
  // The user of a token's task is told in two parts.
  'GET /nodes/{node}/tasks': ['tokenid'],
  'GET /nodes/{node}/tasks/{upid}/status': ['tokenid'],
  // Rows of nodes are made by the same code as those of cluster/resources, rows of guests as those of pvestatd.
  'GET /nodes': ['id', 'type', 'disk', 'maxdisk', 'cgroup-mode'],
  'GET /nodes/{node}/qemu': ['disk'],
  'GET /nodes/{node}/qemu/{vmid}/status/current': ['disk'],
  'GET /nodes/{node}/lxc': ['type', 'pid'],
  'GET /nodes/{node}/lxc/{vmid}/status/current': ['type', 'pid'],
  'GET /nodes/{node}/lxc/{vmid}/snapshot': ['digest', 'running'],
  'GET /cluster/resources': ['sdn', 'shared'],
  'GET /nodes/{node}/status.cpuinfo': ['hvm', 'mhz'],
  'GET /nodes/{node}/storage/{storage}/content': ['content'],
  // The config file is shown as it is; `current` is no snapshot but the guest.
  'GET /nodes/{node}/qemu/{vmid}/config': ['meta', 'parent'],
  'GET /nodes/{node}/qemu/{vmid}/snapshot': ['digest', 'running'],
  'GET /cluster/ha/resources': ['type', 'state', 'max_restart', 'max_relocate', 'failback', 'digest'],
  'POST /access/ticket': ['cap'],
};

const GUEST = '/nodes/pve1/qemu/10500';
const CALLS: readonly (string | Sent)[] = [
  'GET /version',
  'GET /access/permissions',
  'GET /access/users',
  'GET /access/acl',
  'GET /access/roles',
  { call: 'GET /access/domains', as: 'nobody' },
  'GET /access/users/eve@pve/token',
  'GET /cluster/status',
  'GET /cluster/resources',
  'GET /cluster/nextid',
  { call: 'GET /cluster/tasks', as: 'ticket' },
  'GET /nodes',
  'GET /nodes/pve1/status',
  'GET /nodes/pve1/certificates/info',
  'GET /nodes/pve1/tasks?source=all',
  'GET /nodes/pve1/storage',
  'GET /nodes/pve1/storage/ceph/content',
  'GET /nodes/pve1/qemu',
  'GET /nodes/pve2/lxc',
  'GET /nodes/pve2/lxc/101/config',
  'GET /nodes/pve2/lxc/101/pending',
  'GET /nodes/pve2/lxc/101/interfaces',
  'GET /nodes/pve2/lxc/101/snapshot',
  'GET /nodes/pve2/lxc/101/status/current',
  'GET /nodes/pve1/lxc/9100/config',
  `GET ${GUEST}/config`,
  'GET /nodes/pve1/qemu/9000/config',
  `GET ${GUEST}/pending`,
  `GET ${GUEST}/snapshot`,
  `GET ${GUEST}/status/current`,
  'GET /nodes/pve1/qemu/9000/status/current',
  `GET ${GUEST}/cloudinit`,
  `GET ${GUEST}/cloudinit/dump?type=user`,
  'GET /pools',
  'GET /pools?poolid=hatchery-demo',
  'GET /pools/hatchery-demo',
  'GET /cluster/ha/resources',
  'GET /cluster/ha/status/current',
];

PveSchema.compare('the answers of the simulator', (schema, version) => {
  let bench: DossierBench;
  let upid: string;

  beforeAll(async () => {
    bench = await DossierBench.start({
      timeScale: 0.005,
      world: {
        version,
        ha: ['vm:104'],
        tokens: [{ id: 'eve@pve!tok', acl: [] }],
      },
    });
    await bench.clone(10_500, { pool: 'hatchery-demo' });
    await bench.task({
      call: `POST ${GUEST}/snapshot`,
      form: { snapname: 'before' },
    });
    upid = await bench.data<string>(`POST ${GUEST}/status/start`);
    await bench.follow(upid);
    await bench.data({
      call: `PUT ${GUEST}/config`,
      form: { cores: 8, tags: 'a;b', cipassword: 'secret' },
    });
  });
  afterAll(() => bench.stop());

  const compare = async (sent: string | Sent): Promise<void> => {
    const { call } = typeof sent === 'string' ? { call: sent } : sent;
    const [method = '', url = ''] = call.split(' ');
    const place = schema.locate(url.split('?')[0]!)!.path;
    const { returns } = schema.call(method, place)!;
    const data = await bench.data<unknown>(sent);
    expect(problemsOf(`${method} ${place}`, returns, data)).toEqual([]);
  };

  for (const sent of CALLS)
    it(`have the same form: ${typeof sent === 'string' ? sent : sent.call}`, () => compare(sent));

  it.each(['status', 'log'])('have the same form: the %s of a task', (what) =>
    compare(`GET /nodes/pve1/tasks/${encodeURIComponent(upid)}/${what}`),
  );

  it('have the same form: POST /access/ticket', () =>
    compare({
      call: 'POST /access/ticket',
      form: {
        username: 'root@pam',
        password: bench.world.users.get('root@pam')!.password!,
      },
      as: 'nobody',
    }));
});

/** Properties that the schema does not know, required ones that are missing, and values of another type. */
function problemsOf(place: string, schema: SchemaProperty | undefined, data: unknown): string[] {
  if (!schema) return [];
  if (schema.type === 'array') {
    if (!Array.isArray(data)) return [`${place}: no array`];
    return [...new Set(data.flatMap((item: unknown) => problemsOf(place, schema.items, item)))];
  }
  if (schema.type === 'object' || schema.properties) {
    if (typeof data !== 'object' || data === null) return [`${place}: no object`];
    const { properties } = schema;
    if (!properties || Object.keys(properties).length === 0) return [];
    const required = Object.entries(properties).filter(([, { optional }]) => !optional);
    const missing = required.flatMap(([name]) => (name in data ? [] : [`${place}: ${name} is missing`]));
    const wrong = Object.entries(data).flatMap(([name, value]) => {
      const property = properties[name] ?? properties[name.replace(/[0-9]+$/, '[n]')];
      if (property) return problemsOf(`${place}.${name}`, property, value);
      const isReal = REAL[place]?.includes(name) || schema['additionalProperties'] === 1;
      return isReal ? [] : [`${place}: ${name} is not in the schema`];
    });
    return [...missing, ...wrong];
  }
  return isOfType(schema.type, data) ? [] : [`${place}: ${JSON.stringify(data)} is no ${schema.type}`];
}

/** Perl does not tell numbers from text. */
function isOfType(type: string, data: unknown): boolean {
  const text = String(data as string | number);
  if (type === 'boolean') return /^[01]$/.test(text);
  if (type === 'integer') return /^-?\d+$/.test(text);
  if (type === 'number') return /^-?\d+(\.\d+)?(e-?\d+)?$/.test(text);
  return type === 'null' ? data === null : typeof data === 'string' || typeof data === 'number';
}
