import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type { CheckFinding } from '../../ports/hypervisor.js';
import type {
  ContainerAt,
  ContainerConfigFile,
  FileMode,
  IdRange,
  NodeFile,
  NodeFileRef,
  NodeFiles,
  NodeNeeds,
  RawLine,
} from '../../ports/node-files.js';
import type { Secret } from '../../ports/secrets.js';
import { guarded } from '../findings.js';
import { Helper, type CallMetrics } from './helper.js';
import { addressOf, type SshSettings } from './node-address.js';
import { homesFinding, identityFindings, REPORTS, reportsFinding, workFinding } from './node-findings.js';
import { Sessions } from './sessions.js';

export interface SshNodeFilesOptions {
  readonly cluster: string;
  readonly settings: SshSettings;
  readonly privateKey: Secret;
  /** Text of `bin/hatchery-node`. */
  readonly program: string;
  readonly clock: Clock;
  readonly remoteTimeScale: number;
  readonly metrics?: CallMetrics;
}

const READY_MS = 10_000;
const LEAST_READY_MS = 3_000;
const DIGEST = /^[0-9a-f]{40}$/;

const config = z
  .object({ text: z.base64(), digest: z.string().regex(DIGEST) })
  .transform(({ text, digest }) => ({ text: Buffer.from(text, 'base64').toString('utf8'), digest }));
const file = z
  .object({
    path: z.string(),
    sha256: z.string(),
    mode: z.enum(['private', 'readable', 'runnable', 'guest']).optional().catch(undefined),
  })
  .transform(({ mode, ...rest }) => ({ ...rest, mode }));
const maybe = <T extends z.ZodRawShape>(there: T) =>
  z.discriminatedUnion('found', [
    z.object({ found: z.literal(false) }),
    z.object({ found: z.literal(true), ...there }),
  ]);
const ranges = z.array(z.object({ start: z.number().int(), count: z.number().int() }));

const SHAPES = {
  configRead: maybe({ config }),
  rawLines: z.object({ config }),
  put: z.object({ file }),
  read: maybe({ file, content: z.base64() }),
  snippets: z.object({ names: z.array(z.string()) }),
  reports: z.object({ tails: z.record(z.string(), z.base64()) }),
  remove: z.object({ existed: z.boolean() }),
  ids: z.object({ uid: ranges, gid: ranges }),
  resolve: maybe({ path: z.string(), isDirectory: z.boolean(), mount: z.string() }),
  describe: z.object({
    node: z.string(),
    uid: z.number().int(),
    isProxmox: z.boolean(),
    hasQuorum: z.boolean(),
  }),
};

/**
 * The files of a cluster's nodes over SSH, with `hatchery-node` on each of them doing the work. Nothing that it is sent is ever part of a
 * command: names, paths and contents are JSON on its stdin. Errors and promises: the port.
 * Late writes: raw lines carry the digest of the config that they belong to; a file is put whole, under a name that belongs to one machine or to its own content.
 */
export class SshNodeFiles implements NodeFiles {
  readonly cluster: string;
  readonly #sessions: Sessions;
  readonly #helper: Helper;

  constructor(options: SshNodeFilesOptions) {
    const { cluster, settings, privateKey, program, clock, remoteTimeScale, metrics } = options;
    this.cluster = cluster;
    this.#sessions = new Sessions((node) => ({
      node,
      address: addressOf(settings, node),
      user: settings.user,
      privateKey,
      hostKey: settings.hostKeys[node],
      readyMs: Math.max(LEAST_READY_MS, READY_MS * remoteTimeScale),
    }));
    this.#helper = new Helper({
      sessions: this.#sessions,
      program,
      remoteTimeScale,
      metrics,
      now: () => clock.monotonicMs(),
    });
  }

  async readContainerConfig(at: ContainerAt, call: Call): Promise<ContainerConfigFile | undefined> {
    const answer = await this.#helper.ask(
      SHAPES.configRead,
      {
        node: at.node,
        what: `read the config of container ${at.vmid}`,
        isWrite: false,
        request: { op: 'config.read', vmid: at.vmid },
      },
      call,
    );
    return answer.found ? answer.config : undefined;
  }

  async replaceRawLines(
    at: ContainerAt,
    { digest, lines }: { readonly digest: string; readonly lines: readonly RawLine[] },
    call: Call,
  ): Promise<ContainerConfigFile> {
    const answer = await this.#helper.ask(
      SHAPES.rawLines,
      {
        node: at.node,
        what: `write the raw lines of container ${at.vmid}`,
        isWrite: true,
        request: { op: 'config.raw-lines', vmid: at.vmid, digest, lines },
      },
      call,
    );
    return answer.config;
  }

  async putFile(
    ref: NodeFileRef,
    {
      bytes,
      mode,
      keeps = false,
    }: { readonly bytes: Buffer; readonly mode: FileMode; readonly keeps?: boolean },
    call: Call,
  ): Promise<NodeFile> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const content = bytes.toString('base64');
    const request = { op: 'file.put', ...placeOf(ref), mode, keeps, sha256, content };
    const answer = await this.#helper.ask(
      SHAPES.put,
      { node: ref.node, what: `put ${ref.name}`, isWrite: true, request },
      call,
    );
    return answer.file;
  }

  async readFile(ref: NodeFileRef, call: Call): Promise<(NodeFile & { readonly bytes: Buffer }) | undefined> {
    const request = { op: 'file.read', ...placeOf(ref) };
    const answer = await this.#helper.ask(
      SHAPES.read,
      { node: ref.node, what: `read ${ref.name}`, isWrite: false, request },
      call,
    );
    return answer.found ? { ...answer.file, bytes: Buffer.from(answer.content, 'base64') } : undefined;
  }

  async listSnippets(node: string, storage: string, call: Call): Promise<ReadonlySet<string>> {
    const { names } = await this.#helper.ask(
      SHAPES.snippets,
      { node, what: 'list the snippets', isWrite: false, request: { op: 'snippets.list', storage } },
      call,
    );
    return new Set(names);
  }

  async readReports(
    node: string,
    names: readonly string[],
    call: Call,
  ): Promise<ReadonlyMap<string, string>> {
    const { tails } = await this.#helper.ask(
      SHAPES.reports,
      { node, what: 'read reports', isWrite: false, request: { op: 'reports.read', names } },
      call,
    );
    return new Map(
      Object.entries(tails).map(([name, tail]) => [name, Buffer.from(tail, 'base64').toString('utf8')]),
    );
  }

  async removeFile(ref: NodeFileRef, call: Call): Promise<{ existed: boolean }> {
    const request = { op: 'file.remove', ...placeOf(ref) };
    const { existed } = await this.#helper.ask(
      SHAPES.remove,
      { node: ref.node, what: `remove ${ref.name}`, isWrite: true, request },
      call,
    );
    return { existed };
  }

  async idRanges(node: string, call: Call): Promise<{ uid: readonly IdRange[]; gid: readonly IdRange[] }> {
    const { uid, gid } = await this.#helper.ask(
      SHAPES.ids,
      { node, what: 'read the identity ranges', isWrite: false, request: { op: 'id-ranges' } },
      call,
    );
    return { uid, gid };
  }

  async resolvePath(
    node: string,
    path: string,
    call: Call,
  ): Promise<{ path: string; isDirectory: boolean; mount: string } | undefined> {
    const answer = await this.#helper.ask(
      SHAPES.resolve,
      { node, what: `look at ${path}`, isWrite: false, request: { op: 'path.resolve', path } },
      call,
    );
    if (!answer.found) return undefined;
    const { path: resolved, isDirectory, mount } = answer;
    return { path: resolved, isDirectory, mount };
  }

  async check(nodes: readonly string[], needs: NodeNeeds, call: Call): Promise<readonly CheckFinding[]> {
    const found = await Promise.all(
      nodes.map((node) => guarded(`SSH to ${node}`, call.signal, () => this.#checkNode(node, needs, call))),
    );
    return found.flat();
  }

  /** Drops every connection. */
  close(): void {
    this.#sessions.closeAll();
  }

  async #checkNode(node: string, needs: NodeNeeds, call: Call): Promise<readonly CheckFinding[]> {
    const homes = Object.entries(needs.homes);
    const [told, mappable, reports, ...resolved] = await Promise.all([
      this.#helper.ask(
        SHAPES.describe,
        { node, what: 'look around', isWrite: false, request: { op: 'describe' } },
        call,
      ),
      this.idRanges(node, call),
      this.resolvePath(node, REPORTS, call),
      ...homes.map(([, root]) => this.resolvePath(node, root, call)),
    ]);
    const works = workFinding(node, this.cluster, told);
    if (!works.ok) return [works];
    return [
      works,
      ...identityFindings(node, needs, mappable),
      ...homes.map(([name, root], at) => homesFinding(node, name, root, resolved[at])),
      ...(needs.reports ? [reportsFinding(node, reports)] : []),
    ];
  }
}

/** A place as the helper knows it: its name, and for snippets the storage. */
function placeOf({ place, name }: NodeFileRef): { place: string; storage?: string; name: string } {
  return place.in === 'snippets'
    ? { place: 'snippets', storage: place.storage, name }
    : { place: place.in, name };
}
