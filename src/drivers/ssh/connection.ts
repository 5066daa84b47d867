import { Client, type ClientChannel } from 'ssh2';
import { HatcheryError, type ErrorMore } from '../../core/errors.js';
import type { Secret } from '../../ports/secrets.js';
import { fingerprintOf, pinnedHostKey } from './host-key.js';
import type { NodeAddress } from './node-address.js';

export interface ConnectionSettings {
  readonly node: string;
  readonly address: NodeAddress;
  readonly user: string;
  readonly privateKey: Secret;
  /** Left out = nobody wrote one down: no connection. */
  readonly hostKey: string | undefined;
  readonly readyMs: number;
}

export interface CommandOutput {
  /** `undefined` = a signal ended it. */
  readonly exitCode: number | undefined;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

interface RunOptions {
  /** Asked for when the command waits for it, right before it leaves; what it throws ends the command unsent. */
  readonly input: () => Buffer;
  readonly signal: AbortSignal;
  readonly limitMs: number;
}

/** The conversation broke off: `wasSent` = the command may have got its input. */
export class ConversationLost extends Error {
  override readonly name = 'ConversationLost';
  constructor(
    message: string,
    readonly wasSent: boolean,
  ) {
    super(message);
  }
}

const KEEP_ALIVE_MS = 10_000;
const KEEP_ALIVES = 3;
/** A whole file of 1 MiB in base64, and something around it. */
const LARGEST_OUTPUT = 2 ** 21;

/**
 * One connection to one node, whose host key is the pinned one. Errors: `host-key-changed`, `permission-missing` (both after-fix), `cluster-unreachable` with
 * `facts.reason` `node-unreachable`; of a command: `ConversationLost`.
 */
export class SshConnection {
  #isOpen = true;

  private constructor(private readonly client: Client) {
    // An error may still come when it has long been open: without a listener it would end the process.
    client.on('error', () => (this.#isOpen = false));
    client.on('close', () => (this.#isOpen = false));
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  static open(settings: ConnectionSettings): Promise<SshConnection> {
    const { node, address, user, privateKey, readyMs } = settings;
    const pinned = pinnedHostKey(hostKeyOf(settings));
    const client = new Client();
    let presented: string | undefined;
    return new Promise((resolve, reject) => {
      client.once('ready', () => {
        client.setNoDelay(true);
        resolve(new SshConnection(client));
      });
      client.on('error', (error: Error & { level?: string }) => {
        client.destroy();
        if (presented !== undefined || /no matching host key/i.test(error.message))
          reject(hostKeyChanged(node, pinned.fingerprint, presented));
        else if (error.level === 'client-authentication') reject(keyRefused(settings));
        else reject(unreachable(settings, error.message));
      });
      client.once('close', () => reject(unreachable(settings, 'it closed the connection')));
      try {
        client.connect({
          ...address,
          username: user,
          privateKey: `${privateKey.reveal()}\n`,
          authHandler: ['publickey'],
          algorithms: { serverHostKey: [...pinned.algorithms] as never },
          hostVerifier: (key: Buffer) => {
            if (pinned.isSame(key)) return true;
            presented = fingerprintOf(key);
            return false;
          },
          readyTimeout: readyMs,
          keepaliveInterval: KEEP_ALIVE_MS,
          keepaliveCountMax: KEEP_ALIVES,
        });
      } catch (error) {
        // Only the key can be wrong before anything is sent.
        reject(
          new HatcheryError(
            'permission-missing',
            `Unable to work on node ${node}: the private key of ssh cannot be read (${(error as Error).message})`,
            { retry: 'after-fix', hint: 'make one without a passphrase: ssh-keygen -t ed25519 -N ""' },
          ),
        );
      }
    });
  }

  /**
   * Runs a command line with `input` on its stdin. Ends with the command, with the connection, with `signal` (rejects with its reason) or after `limitMs`.
   */
  run(line: string, { input, signal, limitMs }: RunOptions): Promise<CommandOutput> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      let channel: ClientChannel | undefined;
      let wasSent = false;
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', stop);
        this.client.removeListener('close', lost);
        settle();
      };
      const fail = (error: unknown): void => {
        channel?.close();
        end(() => reject(error as Error));
      };
      const broke = (why: string): void => fail(new ConversationLost(why, wasSent));
      const stop = (): void => fail(signal.reason);
      const lost = (): void => broke('the connection broke');
      const timer = setTimeout(() => {
        broke(`no answer within ${limitMs / 1000} s`);
        // It may hang for good, and the next command must not wait for it.
        this.close();
      }, limitMs);
      signal.addEventListener('abort', stop, { once: true });
      this.client.once('close', lost);
      this.client.exec(line, (error, opened) => {
        if (error) return broke(error.message);
        channel = opened;
        const stdout: Buffer[] = [];
        const stderr: Buffer[] = [];
        let size = 0;
        const keep = (into: Buffer[]) => (chunk: Buffer) => {
          size += chunk.length;
          if (size > LARGEST_OUTPUT) return broke('its answer has no end');
          into.push(chunk);
        };
        let exitCode: number | undefined;
        opened.on('exit', (code: number | null) => (exitCode = code ?? undefined));
        opened.on('data', keep(stdout));
        opened.stderr.on('data', keep(stderr));
        opened.on('error', (broken: Error) => broke(broken.message));
        opened.on('close', () => {
          if (!this.#isOpen && exitCode === undefined) return lost();
          end(() => resolve({ exitCode, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) }));
        });
        let bytes: Buffer;
        try {
          bytes = input();
        } catch (refused) {
          return fail(refused);
        }
        wasSent = true;
        opened.end(bytes);
      });
    });
  }

  close(): void {
    this.#isOpen = false;
    this.client.destroy();
  }
}

function hostKeyOf({ node, hostKey }: ConnectionSettings): string {
  if (hostKey !== undefined) return hostKey;
  throw new HatcheryError(
    'host-key-changed',
    `Unable to work on node ${node}: nobody wrote its host key down`,
    {
      retry: 'after-fix',
      hint: `write it into hostKeys of the cluster's file; on the node's console: cat /etc/ssh/ssh_host_ed25519_key.pub`,
      facts: { node },
    },
  );
}

function hostKeyChanged(node: string, expected: string, presented: string | undefined): HatcheryError {
  return new HatcheryError(
    'host-key-changed',
    `Unable to work on node ${node}: it shows ${presented ?? 'a host key of another kind'} and not ${expected}`,
    {
      retry: 'after-fix',
      hint: `ask who installed it anew; on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, then correct hostKeys of the cluster's file`,
      facts: { node, expected, ...(presented !== undefined && { presented }) },
    },
  );
}

function keyRefused({ node, user }: ConnectionSettings): HatcheryError {
  return new HatcheryError(
    'permission-missing',
    `Unable to work on node ${node}: it refuses our key for ${user}`,
    {
      retry: 'after-fix',
      hint: `put the public key into the authorized_keys of ${user} on ${node}`,
      facts: { node },
    },
  );
}

function unreachable({ node, address: { host, port } }: ConnectionSettings, why: string): HatcheryError {
  return nodeUnreachable(node, `no SSH at ${host} port ${port} (${why})`);
}

/** Nothing was done there. */
export function nodeUnreachable(node: string, why: string, more: ErrorMore = {}): HatcheryError {
  return new HatcheryError('cluster-unreachable', `Unable to work on node ${node}: ${why}`, {
    retry: 'later',
    facts: { reason: 'node-unreachable', node },
    ...more,
  });
}
