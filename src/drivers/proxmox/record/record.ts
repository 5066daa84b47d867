import type { ClusterRecording } from '../../../core/cluster-recording.js';
import { clusterIdentity } from '../../../core/definitions.js';
import { readAs, type Cluster } from '../cluster.js';
import type { RawAnswer } from '../http.js';
import { withQuery, type Params } from '../form.js';
import type { ClusterMap, ClusterReads } from '../inventory.js';
import { envelope, taskRows } from '../wire.js';
import { Redactor } from './redact.js';
import { shapeOf } from './shape.js';

const READS = 5;

interface Probe {
  /** The call as the manual writes it. */
  readonly call: string;
  readonly path: string;
  readonly query?: Params;
  /** Once only, for what a busy cluster feels. */
  readonly isCostly?: boolean;
}

/** Reads only, a few at a time one after the other: nothing on the cluster changes, and nothing of it but shapes, times and texts is kept. */
export async function recordCluster(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<ClusterRecording> {
  const map = await reads.map(0, signal);
  const node = map.nodes.find(({ online }) => online)?.name ?? map.nodes[0]!.name;
  const calls: ClusterRecording['calls'][number][] = [];
  for (const probe of await probesFor(cluster, map, node, signal))
    calls.push(await measured(cluster, probe, signal));
  const redactor = redactorFor(cluster, map);
  const refusals: ClusterRecording['refusals'][number][] = [];
  for (const [name, probe] of refusalsFor(map, node)) {
    const answer = await cluster.http.readRaw(withQuery(probe.path, probe.query), signal);
    refusals.push(refused(name, probe.call, answer, redactor));
  }
  return {
    format: 1,
    kind: cluster.definition.kind,
    releases: [await reads.release(signal)],
    timeScale: cluster.remoteTimeScale,
    counts: { nodes: map.nodes.length, guests: map.guests.length },
    calls,
    refusals,
  };
}

async function probesFor(
  cluster: Cluster,
  map: ClusterMap,
  node: string,
  signal: AbortSignal,
): Promise<readonly Probe[]> {
  const at = (path: string, more: Partial<Probe> = {}): Probe => ({ call: `GET ${path}`, path, ...more });
  const on = (rest: string, more: Partial<Probe> = {}): Probe => ({
    call: `GET /nodes/{node}${rest}`,
    path: `/nodes/${node}${rest}`,
    ...more,
  });
  const { pool } = cluster.definition;
  const storage = map.storages.find((one) => one.shared || one.node === node)?.id;
  const guestAt = (isTemplate: boolean) =>
    map.guests.find(
      ({ kind, template, pool: of }) =>
        kind === 'qemu' && template === isTemplate && (isTemplate || of === pool),
    );
  const guests = [guestAt(true), guestAt(false)].flatMap((guest) => {
    if (guest === undefined) return [];
    const kind = guest.template ? 'template' : 'vmid';
    return ['/config', '/status/current'].map((rest) => ({
      call: `GET /nodes/{node}/qemu/{${kind}}${rest}`,
      path: `/nodes/${guest.node}/qemu/${guest.vmid}${rest}`,
    }));
  });
  const tasks = await aTask(cluster, node, signal);
  return [
    ...['/version', '/cluster/status', '/cluster/resources', '/cluster/nextid', '/cluster/tasks'].map(
      (path) => at(path),
    ),
    ...['/nodes', '/pools', '/access/permissions'].map((path) => at(path)),
    at('/pools', { call: 'GET /pools?poolid={pool}', query: { poolid: pool } }),
    ...['/status', '/time', '/certificates/info', '/storage', '/qemu', '/lxc'].map((rest) => on(rest)),
    on('/tasks', { query: { source: 'all', limit: 50 } }),
    ...(tasks === undefined
      ? []
      : ['/status', '/log'].map((rest) => ({
          call: `GET /nodes/{node}/tasks/{upid}${rest}`,
          path: `/nodes/${node}/tasks/${encodeURIComponent(tasks)}${rest}`,
        }))),
    ...guests,
    ...(storage === undefined
      ? []
      : [
          {
            call: 'GET /nodes/{node}/storage/{storage}/content',
            path: `/nodes/${node}/storage/${storage}/content`,
            query: { content: 'images' },
            isCostly: true,
          },
        ]),
  ];
}

async function aTask(cluster: Cluster, node: string, signal: AbortSignal): Promise<string | undefined> {
  const request = { op: 'record', what: `list the tasks of ${node}`, path: `/nodes/${node}/tasks` };
  return (await readAs(cluster, taskRows, request, signal))[0]?.upid;
}

async function measured(
  cluster: Cluster,
  { call, path, query, isCostly }: Probe,
  signal: AbortSignal,
): Promise<ClusterRecording['calls'][number]> {
  const times: number[] = [];
  let answer: RawAnswer | undefined;
  while (times.length < (isCostly ? 1 : READS)) {
    const startedMs = cluster.clock.monotonicMs();
    answer = await cluster.http.readRaw(withQuery(path, query), signal);
    times.push(cluster.clock.monotonicMs() - startedMs);
  }
  times.sort((a, b) => a - b);
  const rank = (share: number): number => Math.round(times[Math.ceil(share * times.length) - 1]! * 10) / 10;
  return {
    call,
    status: answer!.status,
    shape: shapeOf(envelope(answer!.body)?.data),
    timing: { reads: times.length, medianMs: rank(0.5), p95Ms: rank(0.95) },
  };
}

/** Mistakes that a server refuses before it does anything. */
function refusalsFor(map: ClusterMap, node: string): [string, Probe][] {
  const nowhere = 'hatchery-nowhere';
  const on = `/nodes/${node}`;
  const upid = `UPID:${node}:0000FFFF:000F4240:60000000:qmstart:999999999:hatchery@pve:`;
  const taken = map.guests[0]?.vmid;
  const template = map.guests.find((guest) => guest.template && guest.kind === 'qemu');
  return [
    ['unknown path', { call: 'GET /{path}', path: `/${nowhere}` }],
    ['unknown guest', { call: 'GET /nodes/{node}/qemu/{vmid}/config', path: `${on}/qemu/999999999/config` }],
    [
      'unknown guest, status',
      { call: 'GET /nodes/{node}/qemu/{vmid}/status/current', path: `${on}/qemu/999999999/status/current` },
    ],
    ['unknown node', { call: 'GET /nodes/{node}/status', path: `/nodes/${nowhere}/status` }],
    [
      'malformed task',
      { call: 'GET /nodes/{node}/tasks/{upid}/status', path: `${on}/tasks/UPID:nonsense/status` },
    ],
    [
      'unknown task',
      {
        call: 'GET /nodes/{node}/tasks/{upid}/status',
        path: `${on}/tasks/${encodeURIComponent(upid)}/status`,
      },
    ],
    [
      'unknown storage',
      { call: 'GET /nodes/{node}/storage/{storage}/content', path: `${on}/storage/${nowhere}/content` },
    ],
    ['unknown pool', { call: 'GET /pools', path: '/pools', query: { poolid: nowhere } }],
    [
      'value not listed',
      { call: 'GET /cluster/resources', path: '/cluster/resources', query: { type: 'nonsense' } },
    ],
    [
      'unknown parameter',
      { call: 'GET /cluster/resources', path: '/cluster/resources', query: { nonsense: 1 } },
    ],
    ['not a number', { call: 'GET /nodes/{node}/tasks', path: `${on}/tasks`, query: { limit: 'x' } }],
    ['number too small', { call: 'GET /cluster/nextid', path: '/cluster/nextid', query: { vmid: 1 } }],
    ...(taken === undefined
      ? []
      : [
          [
            'VMID taken',
            { call: 'GET /cluster/nextid', path: '/cluster/nextid', query: { vmid: taken } },
          ] as [string, Probe],
        ]),
    ...(template === undefined
      ? []
      : [
          [
            'agent of a guest that does not run',
            {
              call: 'GET /nodes/{node}/qemu/{vmid}/agent/network-get-interfaces',
              path: `/nodes/${template.node}/qemu/${template.vmid}/agent/network-get-interfaces`,
            },
          ] as [string, Probe],
        ]),
  ];
}

function refused(
  name: string,
  call: string,
  { status, reasonPhrase, body, headers }: RawAnswer,
  redactor: Redactor,
): ClusterRecording['refusals'][number] {
  let json: { message?: unknown; errors?: unknown } | undefined;
  try {
    json = JSON.parse(body) as typeof json;
  } catch {
    json = undefined;
  }
  const errors = typeof json?.errors === 'object' && json.errors !== null ? Object.entries(json.errors) : [];
  return {
    case: name,
    call,
    status,
    reason: redactor.text(reasonPhrase),
    body: body === '' ? 'empty' : json === undefined ? 'text' : 'json',
    message: redactor.text(
      json === undefined ? body.slice(0, 300) : typeof json.message === 'string' ? json.message : '',
    ),
    errors: Object.fromEntries(errors.map(([key, text]) => [key, redactor.text(String(text))])),
    contentType: headers['content-type'] ?? '',
    connection: headers.connection ?? '',
  };
}

function redactorFor({ definition }: Cluster, map: ClusterMap): Redactor {
  const { id } = clusterIdentity(definition);
  return new Redactor({
    node: map.nodes.map(({ name }) => name),
    guest: map.guests.flatMap(({ name }) => name ?? []),
    storage: map.storages.map((storage) => storage.id),
    pool: [definition.pool, ...map.guests.flatMap(({ pool }) => pool ?? [])],
    user: [id, id.split('!')[0]!],
    host: definition.endpoints.map((endpoint) => new URL(endpoint).hostname),
  });
}
