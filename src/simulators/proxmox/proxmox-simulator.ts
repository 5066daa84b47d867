import type { ListenOptions, RunningSimulator, SimulatorContext } from '../context.js';
import { listen, type Listener } from '../http.js';
import type { HoldPoint } from '../hold.js';
import type { WorldGuest } from '../world.js';
import { Broadcast } from './broadcast.js';
import { Conditions } from './conditions.js';
import { FaultActs } from './fault-acts.js';
import { ForeignActors } from './foreign.js';
import { Ha } from './ha.js';
import { ClusterLocks, FileLocks } from './locks.js';
import { Proxying } from './proxying.js';
import type { Pve } from './pve.js';
import { nodeServer } from './server.js';
import { SshNodes, type SshAccess } from './ssh/ssh-nodes.js';
import { TaskEngine } from './task-engine.js';
import { errorReply, PveError } from './wire.js';

/** Of uploads; everything else is small. */
const BODY_LIMIT_BYTES = 67_108_864;

export interface ProxmoxSimulator extends RunningSimulator {
  readonly caPem: string;
  readonly caFile: string;
  readonly fingerprint: string;
  /** By node name. */
  readonly fingerprints: Readonly<Record<string, string>>;
  /** The minimal role of one deployment: writes only through its pool. */
  readonly token: { readonly id: string; readonly secret: string };
  /** All rights (but, being a token, not root). */
  readonly rootToken: { readonly id: string; readonly secret: string };
  /** root@pam, for tickets: the only one who is root. */
  readonly username: string;
  readonly password: string;
  readonly rootPassword: string;
  /** Of the user whose token `token` is. */
  readonly userPassword: string;
  guests(): readonly WorldGuest[];
  guest(vmid: number): WorldGuest | undefined;
  hold(op: string, where?: HoldPoint): void;
  reached(op: string, where?: HoldPoint, count?: number): Promise<void>;
  release(op: string, where?: HoldPoint): void;
  /** How the nodes are reached over SSH. */
  readonly ssh: SshAccess;
  readonly foreign: ForeignActors;
  readonly conditions: Conditions;
}

/**
 * A Proxmox VE 9.1 cluster on real HTTPS: one listener per node, on `port`, `port + 1`, ... (or `ports`), all on one world.
 * Each node has an SSH server too, for the files that the API cannot write.
 * Sign-in with tokens and tickets; the calls of router.ts; anything else is 501 as on the real thing.
 */
export async function startProxmoxSimulator(
  context: SimulatorContext,
  options: ListenOptions & {
    readonly ports?: readonly number[];
    /** Of the first node's SSH server, as `port`. */
    readonly sshPort?: number;
  } = {},
): Promise<ProxmoxSimulator> {
  const { world, holds, authority } = context;
  const certificates = new Map(world.nodes.map(({ name }) => [name, authority.issue(name)]));
  const fingerprints = new Map(
    [...certificates].map(([name, certificate]) => [name, certificate.fingerprint]),
  );
  const pve = {
    context,
    world,
    files: new FileLocks(context),
    locks: new ClusterLocks(context),
    tasks: new TaskEngine(context),
    broadcast: new Broadcast(context),
    proxying: new Proxying(context),
    ha: new Ha(world),
    conditions: new Conditions(world),
    copies: new Map<string, number>(),
    uploads: new Map<string, Buffer>(),
    fingerprints,
  } satisfies Pve;
  pve.ha.attend(pve);
  const foreign = new ForeignActors(pve);
  const acts = new FaultActs(pve, foreign);
  context.faults.actsOf('proxmox', (act, target) => acts.perform(act, target));
  const listeners = new Map<string, Listener>();
  const ssh = new SshNodes(pve);
  const stop = async (): Promise<void> => {
    await Promise.all([ssh.stop(), ...[...listeners.values()].map((listener) => listener.stop())]);
  };
  try {
    for (const [index, { name }] of world.nodes.entries()) {
      const port = options.ports?.[index] ?? (options.port ? options.port + index : 0);
      const handle = nodeServer(pve, name);
      listeners.set(
        name,
        await listen({
          port,
          certificate: certificates.get(name)!,
          bodyLimitBytes: BODY_LIMIT_BYTES,
          keepAliveMs: options.keepAliveMs,
          maxRequestsPerSocket: 100,
          redirectsPlain: true,
          badRequest: errorReply(new PveError(400, 'bad request', { raw: true })),
          handle,
        }),
      );
    }
    await ssh.start(options.sshPort ?? 0);
    await pve.conditions.attend(
      pve,
      {
        async power(node, isOn) {
          await Promise.all([listeners.get(node)?.switch(isOn), ssh.switch(node, isOn)]);
        },
        changeHostKey: (node) => ssh.changeKey(node),
      },
      (act) => acts.perform(act),
    );
  } catch (error) {
    await stop();
    throw error;
  }
  const tokenOf = (id: string): { id: string; secret: string } => ({
    id,
    secret: world.tokens.get(id)?.secret ?? '',
  });
  const passwordOf = (user: string): string => world.users.get(user)?.password ?? '';
  return {
    endpoints: [...listeners.values()].map((listener) => listener.url),
    caPem: authority.caPem,
    caFile: context.caFile,
    fingerprint: fingerprints.get(world.nodes[0]!.name)!,
    fingerprints: Object.fromEntries(fingerprints),
    token: tokenOf(world.tokenId),
    rootToken: tokenOf(world.rootTokenId),
    username: 'root@pam',
    password: passwordOf('root@pam'),
    rootPassword: passwordOf('root@pam'),
    userPassword: passwordOf(world.tokenId.slice(0, world.tokenId.indexOf('!'))),
    guests: () => [...world.guests.values()],
    guest: (vmid) => world.guests.get(vmid),
    hold: (op, where) => holds.hold(op, where),
    reached: (op, where, count) => holds.reached(op, where, count),
    release: (op, where) => holds.release(op, where),
    ssh: ssh.access,
    foreign,
    conditions: pve.conditions,
    stop,
  };
}
