import { z } from 'zod';
import { snippetsSchema } from './cloud-init/snippets.js';
import { clusterContainersSchema, containerOnNodeShape } from './lxc/container-definition.js';
import { readSshKey } from './roster/ssh-key.js';
import { slug } from './slug.js';

/** What a site writes in `clusters/`, `services/` and `blueprints/` (YAML). Literal secrets are refused: `{ file: ... }` or `{ env: ... }`. */

export const secretSource = z.union([
  z.strictObject({ file: z.string().min(1) }),
  z.strictObject({ env: z.string().min(1) }),
]);
export type SecretSource = z.infer<typeof secretSource>;

const fingerprint = z
  .string()
  .regex(
    /^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$/,
    'write a SHA-256 fingerprint: 32 pairs of hex digits, with colons',
  );
export const trustSchema = z.union([
  z.strictObject({ caFile: z.string().min(1) }),
  z.strictObject({ fingerprints: z.record(z.string(), fingerprint) }),
  z.strictObject({ fingerprint }),
  z.strictObject({ system: z.literal(true) }),
]);
export type Trust = z.infer<typeof trustSchema>;

const days = z.string().regex(/^[0-9]+[smhd]$/, 'write a number and a unit, e.g. 7d');
const limit = z.number().int().min(1).max(1000);

const storageName = z.string().regex(/^[A-Za-z][A-Za-z0-9._-]{0,99}$/, 'write the name of a storage');

const hostKey = z
  .string()
  .regex(
    /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{60,}={0,2}( [^\r\n]*)?$/,
    'write a public host key, one line of /etc/ssh/ssh_host_ed25519_key.pub on the node',
  );
const sshAddress = z
  .string()
  .regex(
    /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?$/,
    'write a host, host:port or [address of version 6]:port',
  );

/** How the nodes are worked on where the API cannot: raw lines of containers, snippets, hooks. */
const sshShape = z.strictObject({
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'write a user name')
    .default('root'),
  port: z.number().int().min(1).max(65_535).default(22),
  /** In OpenSSH's own form, without a passphrase. */
  privateKey: secretSource,
  /** By node. One that is not here is never spoken to: nothing is trusted on first use. */
  hostKeys: z.record(z.string(), hostKey),
  /** By node; left out = it answers under its own name. */
  addresses: z.record(z.string(), sshAddress).default({}),
});

/** Off, and loud when on: a mistake of this deployment could then reach guests of others, and only marks protect them. */
const mayWriteOutsidePool = z.boolean().default(false);

const clusterShape = z.strictObject({
  name: slug,
  kind: z.literal('proxmox'),
  endpoints: z
    .array(z.url({ protocol: /^https$/, error: 'write https://host:8006, without /api2/json' }))
    .min(1),
  trust: trustSchema,
  token: z
    .strictObject({
      id: z.string().regex(/^[^@!\s]+@[^@!\s]+![^@!\s]+$/, 'write user@realm!token'),
      secret: secretSource,
      mayWriteOutsidePool,
    })
    .optional(),
  /** Instead of a token, where a site gives out none: signs in with a password and gets a ticket. */
  account: z
    .strictObject({
      username: z.string().regex(/^[^@!\s]+@[^@!\s]+$/, 'write user@realm'),
      password: secretSource,
      mayWriteOutsidePool,
    })
    .optional(),
  pool: z.string().min(1),
  vmids: z
    .strictObject({
      from: z.number().int().min(100),
      to: z.number().int().max(999_999_999),
      quarantine: days.default('7d'),
    })
    .refine((range) => range.from <= range.to, 'write a range whose end is not below its start'),
  limits: z
    .strictObject({
      clonesPerStorage: limit.default(5),
      clonesPerNode: limit.default(8),
      /** Containers that are unpacked from an archive. */
      createsPerStorage: limit.default(15),
      createsPerNode: limit.default(5),
      startsPerNode: limit.default(6),
      destroysPerCluster: limit.default(8),
      /** Machines that begin at the same time. */
      lookupsPerCluster: limit.default(6),
      writesPerNode: limit.max(3).default(3),
    })
    .prefault({}),
  nodes: z.strictObject({ exclude: z.array(z.string()).default([]) }).prefault({}),
  /** Hook scripts that templates may carry, as volume ids (`local:snippets/hook.sh`): they run as root on a node and come along with every clone. */
  hookScripts: z.array(z.string()).default([]),
  /** Where the nodes hold our vendor data (`local:snippets/hatchery.yaml`): guests that get it phone home. Left out = their agents are asked. */
  vendorData: z
    .string()
    .regex(
      /^[A-Za-z][A-Za-z0-9._-]*:snippets\/[A-Za-z0-9][A-Za-z0-9._-]*$/,
      'write the volume of a snippet, e.g. local:snippets/hatchery.yaml',
    )
    .optional(),
  /** Which storage takes the cloud-init files of machines (content `snippets`). Shared by the nodes, or of the same name on each. */
  snippetStorage: storageName.optional(),
  ssh: sshShape.optional(),
  containers: clusterContainersSchema.prefault({}),
});
export const clusterSchema = clusterShape.refine(
  ({ token, account }) => (token === undefined) !== (account === undefined),
  { path: ['token'], error: 'write either token or account, and not both' },
);
export type ClusterDefinition = z.infer<typeof clusterSchema>;

/** Whom a cluster takes us for. */
export interface ClusterIdentity {
  /** `user@realm!token` or `user@realm`, as it stands in the UPIDs of our tasks. */
  readonly id: string;
  readonly mayWriteOutsidePool: boolean;
}

export function clusterIdentity({ token, account }: ClusterDefinition): ClusterIdentity {
  if (token) return { id: token.id, mayWriteOutsidePool: token.mayWriteOutsidePool };
  // The schema lets nothing through that has neither.
  const { username, mayWriteOutsidePool: mayWrite } = account!;
  return { id: username, mayWriteOutsidePool: mayWrite };
}

export const serviceSchema = z.strictObject({
  name: slug,
  kind: z.enum(['windows-dhcp', 'guacamole']),
  endpoint: z.url({ protocol: /^https?$/ }),
  trust: trustSchema.optional(),
  username: z.string().min(1),
  password: secretSource,
  /** WinRM shells open at once (server quota: 30 a user by default). */
  maxShells: z.number().int().min(1).max(25).default(5),
});
export type ServiceDefinition = z.infer<typeof serviceSchema>;

/** The account with which new containers join a domain: they speak to it, we do not. */
const domainSchema = z.strictObject({
  name: slug,
  kind: z.literal('active-directory'),
  realm: z
    .string()
    .regex(
      /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$/,
      'write the DNS name of the domain',
    ),
  username: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9._@-]{0,255}$/, 'write the name of an account without blanks'),
  password: secretSource,
});
export type DomainDefinition = z.infer<typeof domainSchema>;

/** What a file in `services/` may be. */
export const serviceFileSchema = z.discriminatedUnion('kind', [serviceSchema, domainSchema]);

export const sizeSchema = z.strictObject({
  cores: z.number().int().min(1).max(512),
  memoryMiB: z.number().int().min(64).max(4_194_304),
  diskGiB: z.number().int().min(1).max(65_536),
});
export type Size = z.infer<typeof sizeSchema>;

/** Read apart like a key of a roster: options before its type, or a second line, would let more in than one person. */
const publicKey = z.string().transform((text, ctx) => {
  const key = readSshKey(text.trim());
  if ('line' in key) return key.line;
  ctx.addIssue({ code: 'custom', message: `write one public key, as in a .pub file. ${key.why}` });
  return z.NEVER;
});

const keySources = z.array(z.enum(['roster', 'site'])).default(['roster', 'site']);

/** Of containers, which are always unprivileged. */
export const containerSchema = z.strictObject({
  swapMiB: z.number().int().min(0).max(1_048_576).default(512),
  /** Container runtimes and newer systemd need it. */
  nesting: z.boolean().default(true),
  /** Who may sign in as root. Only containers from an archive get keys: a clone keeps what its template has. */
  sshKeys: keySources,
  ...containerOnNodeShape,
});

export const blueprintSchema = z
  .strictObject({
    name: slug,
    version: z.number().int().min(1),
    title: z.strictObject({ en: z.string().min(1), fr: z.string().min(1) }),
    kind: z.enum(['qemu', 'lxc']),
    source: z.union(
      [
        z.strictObject({
          templates: z.array(z.string().min(1)).min(1),
          clone: z.enum(['linked', 'full']),
          storage: storageName.optional(),
        }),
        /** Containers only: unpacked anew for each, on `storage`. Without a version (`debian-12-standard`) it is the newest that the nodes have. */
        z.strictObject({
          archive: z
            .string()
            .regex(
              /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/,
              'write the name of a container archive, e.g. debian-12-standard',
            ),
          storage: storageName,
        }),
      ],
      { error: 'write templates and clone, or archive and storage' },
    ),
    sizes: z.object({ default: z.string() }).catchall(z.union([sizeSchema, z.string()])),
    nameFrom: z
      .string()
      .regex(/\{login\}/, 'write a pattern that holds {login}')
      .default('vm-{login}'),
    network: z.strictObject({
      bridge: z.string().regex(/^[a-zA-Z][a-zA-Z0-9_.]{0,14}$/, 'write a bridge name such as vmbr0'),
      vlan: z.number().int().min(1).max(4094).optional(),
      dhcp: slug.optional(),
    }),
    /** Of virtual machines. */
    cloudInit: z
      .strictObject({
        user: z.string().regex(/^(\{login\}|[a-z_][a-z0-9_-]{0,31})$/, 'write a user name or {login}'),
        sshKeys: keySources,
        /** Put on the nodes over SSH, in the place of what the cluster would make of user and network, and besides it. */
        snippets: snippetsSchema.optional(),
      })
      .optional(),
    container: containerSchema.optional(),
    /** Public keys of the site, one per line, for `sshKeys: [site]`. */
    siteSshKeys: z.array(publicKey).default([]),
    access: z
      .strictObject({
        service: slug,
        protocol: z.enum(['rdp', 'ssh', 'vnc']),
        port: z.number().int().min(1).max(65_535),
        signIn: z.enum(['prompt', 'directory', 'generated']).default('prompt'),
      })
      .optional(),
    workflow: slug,
    clusters: z.array(slug).min(1),
    /** Where its machines may be: `only` pins them to nodes, `exclude` keeps them off some. Left out = any node that the cluster does not exclude. */
    nodes: z
      .strictObject({
        only: z.array(z.string().min(1)).min(1).optional(),
        exclude: z.array(z.string().min(1)).default([]),
      })
      .optional(),
  })
  .superRefine((blueprint, ctx) => {
    for (const [path, message] of kindProblems(blueprint)) ctx.addIssue({ code: 'custom', path, message });
    const chosen = blueprint.sizes[blueprint.sizes.default];
    if (blueprint.sizes.default === 'default' || typeof chosen !== 'object')
      ctx.addIssue({
        code: 'custom',
        path: ['sizes', 'default'],
        message: 'write the name of one of the sizes',
      });
    for (const [name, size] of Object.entries(blueprint.sizes))
      if (name !== 'default' && typeof size !== 'object')
        ctx.addIssue({
          code: 'custom',
          path: ['sizes', name],
          message: 'write cores, memoryMiB and diskGiB',
        });
  });
export type Blueprint = z.infer<typeof blueprintSchema>;

/** What does not go together with the kind of machine. */
function kindProblems({
  kind,
  source,
  cloudInit,
  container,
  access,
}: {
  readonly kind: 'qemu' | 'lxc';
  readonly source: object;
  readonly cloudInit?: { readonly snippets?: { readonly user?: object | undefined } | undefined } | undefined;
  readonly container?: object | undefined;
  readonly access?: { readonly signIn: string } | undefined;
}): [path: string[], message: string][] {
  const problems: [string[], string][] = [];
  const isContainer = kind === 'lxc';
  if (isContainer ? cloudInit : container)
    problems.push([
      [isContainer ? 'cloudInit' : 'container'],
      isContainer
        ? 'containers have no cloud-init: write container instead'
        : 'write cloudInit instead: container is for kind lxc',
    ]);
  if (!isContainer && cloudInit === undefined)
    problems.push([['cloudInit'], 'write the first user and its keys']);
  if (!isContainer && 'archive' in source)
    problems.push([['source'], 'write templates and clone: only containers are made from an archive']);
  if (cloudInit?.snippets?.user && access?.signIn === 'generated')
    problems.push([
      ['cloudInit', 'snippets', 'user'],
      'write vendor instead: user data of your own takes the place of what sets the generated password',
    ]);
  if (isContainer && 'templates' in source && access?.signIn === 'generated')
    problems.push([
      ['access', 'signIn'],
      'write prompt or directory: a cloned container keeps the accounts of its template',
    ]);
  return problems;
}

/** The size that a blueprint gives when nobody chooses one. */
export function defaultSize(blueprint: Blueprint): Size {
  return sizeSchema.parse(blueprint.sizes[blueprint.sizes.default]);
}
