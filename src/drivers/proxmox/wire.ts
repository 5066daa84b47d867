import { z } from 'zod';

/** The answers of the API are loosely typed Perl: numbers may be strings, booleans are 0, 1 or absent. Everything is read through here. */

const number = z.union([z.number(), z.string().regex(/^-?\d+(\.\d+)?$/)]).transform(Number);
const integer = number.refine(Number.isSafeInteger, 'not a whole number');
const flag = z
  .union([z.boolean(), z.literal([0, 1, '0', '1', '', null])])
  .optional()
  .transform((value) => value === true || value === 1 || value === '1');
const text = z.union([z.string(), z.number()]).transform(String);
/** Node names become parts of paths: nothing but a host label is taken for one. */
const nodeName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]*$/);
const vmid = integer.refine((value) => value >= 100, 'not a VMID');

/** `{data, total?}`; `total` only on paged lists. */
export interface Envelope {
  readonly data: unknown;
  readonly total: number | undefined;
}

const envelopeShape = z.looseObject({ data: z.unknown(), total: number.optional() });

/** `undefined` when the text is not an envelope of the API. */
export function envelope(body: string): Envelope | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return undefined;
  }
  const parsed = envelopeShape.safeParse(value);
  if (!parsed.success || !('data' in (value as object))) return undefined;
  return { data: parsed.data.data, total: parsed.data.total };
}

const guestRow = z.object({
  type: z.enum(['qemu', 'lxc']),
  vmid,
  node: nodeName,
  name: z.string().optional(),
  status: z.string().optional(),
  template: flag,
  pool: z.string().optional(),
  lock: z.string().optional(),
  maxmem: number.default(0),
  maxcpu: number.default(0),
});

const nodeRow = z.object({
  node: nodeName,
  status: z.string().optional(),
  maxcpu: number.default(0),
  maxmem: number.default(0),
  mem: number.default(0),
});

const storageRow = z.object({
  storage: z.string().min(1),
  node: nodeName,
  shared: flag,
  maxdisk: number.default(0),
  disk: number.default(0),
});

export const ticket = z.looseObject({
  ticket: z.string(),
  CSRFPreventionToken: z.string().default(''),
  NeedTFA: flag,
});

/** `GET /cluster/resources` by kind. A row of a kind that we do not know is left alone; one of a kind that we know must be readable. */
export const resources = z.preprocess(
  byKind,
  z.object({ guests: z.array(guestRow), nodes: z.array(nodeRow), storages: z.array(storageRow) }),
);

function byKind(data: unknown): unknown {
  const rows = z.array(z.looseObject({ type: z.string() })).safeParse(data).data;
  return {
    guests: rows?.filter((row) => row.type === 'qemu' || row.type === 'lxc'),
    nodes: rows?.filter((row) => row.type === 'node'),
    storages: rows?.filter((row) => row.type === 'storage'),
  };
}

export type GuestRow = z.infer<typeof guestRow>;
export type NodeRow = z.infer<typeof nodeRow>;
export type StorageRow = z.infer<typeof storageRow>;

export const clusterStatus = z.array(
  z.looseObject({ type: z.string(), name: z.string().optional(), quorate: flag, online: flag }),
);

export const taskRows = z.array(
  z.looseObject({ upid: z.string(), status: z.string().optional(), endtime: number.optional() }),
);
export type TaskRow = z.infer<typeof taskRows>[number];

export const taskStatus = z.looseObject({ status: z.string().optional(), exitstatus: z.string().optional() });

export const logLines = z.array(z.looseObject({ n: integer, t: z.string().nullable().optional() }));

/** What the configs of both kinds say. */
const guestConfig = {
  digest: z.string(),
  description: text.optional(),
  lock: z.string().optional(),
  template: flag,
  protection: flag,
  cores: integer.optional(),
  memory: number.optional(),
  net0: z.string().optional(),
  hookscript: z.string().optional(),
};

/** Of a guest of either kind, to see whose it is. */
export const markedConfig = z.looseObject(guestConfig);

export const vmConfig = z.looseObject({
  ...guestConfig,
  name: text.optional(),
  sockets: integer.optional(),
  balloon: number.optional(),
  agent: text.optional(),
  smbios1: z.string().optional(),
  cicustom: z.string().optional(),
  ciuser: text.optional(),
  sshkeys: z.string().optional(),
  ipconfig0: z.string().optional(),
  boot: z.string().optional(),
  bootdisk: z.string().optional(),
});
export type VmConfig = z.infer<typeof vmConfig>;

export const containerConfig = z.looseObject({
  ...guestConfig,
  hostname: text.optional(),
  swap: number.optional(),
  rootfs: z.string().optional(),
  features: z.string().optional(),
  unprivileged: flag,
  /** The lines of its file that the API does not know, key and value. */
  lxc: z.array(z.tuple([z.string(), z.string()])).optional(),
});
export type ContainerConfig = z.infer<typeof containerConfig>;

export const guestStatus = z.looseObject({ status: z.string() });
export const nextId = vmid;
export const upidOrNull = z.union([z.string().startsWith('UPID:'), z.null()]);
export const upid = z.string().startsWith('UPID:');
export const version = z.looseObject({ version: z.string() });
/** `pve-manager/9.1.4/51c1ae1f`. */
export const nodeStatus = z.looseObject({ pveversion: z.string() });
export const nodeTime = z.looseObject({ time: integer });
export const certificates = z.array(
  z.looseObject({
    filename: z.string().optional(),
    fingerprint: z.string().optional(),
    issuer: z.string().optional(),
    notafter: integer.optional(),
  }),
);
export const nodeStorages = z.array(
  z.looseObject({
    storage: z.string().min(1),
    content: z.string().default(''),
    active: flag,
    enabled: flag,
    shared: flag,
    total: number.default(0),
    avail: number.default(0),
  }),
);
export type NodeStorage = z.infer<typeof nodeStorages>[number];
export const volumes = z.array(z.looseObject({ volid: z.string(), vmid: vmid.optional() }));
export const archiveVolumes = z.array(
  z.looseObject({ volid: z.string().regex(/^[^:\s]+:vztmpl\/[^/\s]+$/) }),
);
export const permissions = z.record(z.string(), z.record(z.string(), z.unknown()));

export const pools = z.array(
  z.looseObject({
    poolid: z.string(),
    members: z.array(z.looseObject({ vmid: vmid.optional() })).optional(),
  }),
);

export const agentInterfaces = z.object({
  result: z.array(
    z.looseObject({
      name: z.string().optional(),
      'hardware-address': z.string().optional(),
      'ip-addresses': z.array(z.looseObject({ 'ip-address': z.string() })).optional(),
    }),
  ),
});
export type AgentInterface = z.infer<typeof agentInterfaces>['result'][number];

/** As the node sees them; `hwaddr`, `inet` and `inet6` alone before 8.3, nothing while the container is off. */
export const containerInterfaces = z
  .array(
    z.looseObject({
      name: z.string().optional(),
      'hardware-address': z.string().optional(),
      hwaddr: z.string().optional(),
      inet: z.string().optional(),
      inet6: z.string().optional(),
      'ip-addresses': z.array(z.looseObject({ 'ip-address': z.string().optional() })).optional(),
    }),
  )
  .nullable();
