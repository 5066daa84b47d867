import { createServer, type Server as NetServer, type Socket } from 'node:net';
import ssh2, { type AuthContext, type Connection, type ServerChannel } from 'ssh2';
import { Interrupted } from '../../clock.js';
import type { SimAnswer } from '../../http.js';
import { perform, type Outcome } from '../../operation.js';
import type { Pve } from '../pve.js';
import { answerLine, HelperRefusal, readRequests, refusalOf, type HelperRequest } from './helper-request.js';
import { runHelper } from './node-helper.js';
import { shellWords } from './shell-words.js';

/** As OpenSSH has them: sessions of a connection, connections that are signing in. */
const MAX_SESSIONS = 10;
const MAX_STARTUPS = 10;
/** In the params of a request that came with others before it. */
const SAME_CONVERSATION = 'sameConversation';
export const COMMAND_MS = { median: 90, p95: 300 };
const HELPER = /^# hatchery-node v2\b/m;

/** Who may sign in, as root, and is in the journal under the name of the deployment's token: it is one and the same writer. */
const CLIENT = 'hatchery';

/** What a client needs. */
export interface SshAccess {
  readonly user: 'root';
  readonly privateKey: string;
  /** By node: `127.0.0.1:2201`. */
  readonly addresses: Readonly<Record<string, string>>;
  /** By node: `ssh-ed25519 AAAA...`. */
  readonly hostKeys: Readonly<Record<string, string>>;
}

interface KeyPair {
  readonly private: string;
  readonly public: string;
}

/** The SSH servers of the nodes, each on a port of its own, on the same world as the API. */
export class SshNodes {
  readonly #listeners = new Map<string, Listener>();

  constructor(private readonly pve: Pve) {}

  /** On `port`, `port + 1`, ...; 0 = free ones. */
  async start(port: number): Promise<void> {
    for (const [index, { name }] of this.pve.world.nodes.entries()) {
      const listener = new Listener(this.pve, name, () => keyOf(this.pve, name), clientKey(this.pve));
      this.#listeners.set(name, listener);
      await listener.open(port === 0 ? 0 : port + index);
    }
  }

  get access(): SshAccess {
    const nodes = [...this.#listeners];
    return {
      user: 'root',
      privateKey: clientKey(this.pve).private,
      addresses: Object.fromEntries(nodes.map(([name, { port }]) => [name, `127.0.0.1:${port}`])),
      hostKeys: Object.fromEntries(nodes.map(([name]) => [name, keyOf(this.pve, name).public])),
    };
  }

  /** The node goes off, or comes back under the same port. */
  async switch(node: string, isOn: boolean): Promise<void> {
    const listener = this.#listeners.get(node);
    if (isOn) await listener?.open(listener.port);
    else await listener?.close();
  }

  /** The node was installed anew: it has another host key from now on. */
  async changeKey(node: string): Promise<void> {
    this.pve.world.sshKeys.set(node, newKey());
    await this.switch(node, false);
    await this.switch(node, true);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#listeners.values()].map((listener) => listener.close()));
    for (const { broken } of this.#listeners.values()) if (broken.length > 0) throw broken[0];
  }
}

/** One key of some hundreds that ssh2 makes is one that it cannot read itself. */
const newKey = (): KeyPair => {
  const { private: secret, public: shown } = ssh2.utils.generateKeyPairSync('ed25519');
  return ssh2.utils.parseKey(secret) instanceof Error ? newKey() : { private: secret, public: shown.trim() };
};

function keyOf({ world }: Pve, name: string): KeyPair {
  const known = world.sshKeys.get(name) ?? newKey();
  world.sshKeys.set(name, known);
  return known;
}

const clientKey = (pve: Pve): KeyPair => keyOf(pve, CLIENT);

class Listener {
  readonly broken: unknown[] = [];
  readonly #sockets = new Set<Socket>();
  #server: NetServer | undefined;
  #startups = 0;
  port = 0;

  constructor(
    private readonly pve: Pve,
    private readonly node: string,
    private readonly hostKey: () => KeyPair,
    private readonly client: KeyPair,
  ) {}

  async open(port: number): Promise<void> {
    const ssh = new ssh2.Server({ hostKeys: [this.hostKey().private] });
    let arriving: Socket;
    ssh.on('connection', (connection) => this.#serve(connection, arriving));
    this.#server = createServer((socket) => {
      if (this.#startups >= MAX_STARTUPS) return socket.destroy();
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      arriving = socket;
      ssh.injectSocket(socket);
    });
    await new Promise<void>((resolve, reject) => {
      this.#server!.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    this.port = (this.#server.address() as { port: number }).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => (this.#server ? this.#server.close(() => resolve()) : resolve()));
    this.#server = undefined;
  }

  #serve(connection: Connection, socket: Socket): void {
    let isSigningIn = true;
    let sessions = 0;
    this.#startups += 1;
    const signedIn = (): void => {
      if (isSigningIn) this.#startups -= 1;
      isSigningIn = false;
    };
    connection.on('error', () => undefined); // of the client: it may go away as it likes
    connection.on('close', signedIn);
    connection.on('ready', signedIn);
    connection.on('authentication', (attempt) => {
      if (isAllowed(attempt, this.client)) attempt.accept();
      else attempt.reject(['publickey']);
    });
    connection.on('session', (accept, reject) => {
      if (sessions >= MAX_SESSIONS) return reject();
      sessions += 1;
      const session = accept();
      session.on('close', () => (sessions -= 1));
      session.on('exec', (grant, _refuse, { command }) => {
        const channel = grant();
        const input: Buffer[] = [];
        channel.on('data', (chunk: Buffer) => input.push(chunk));
        channel.once('end', () => {
          this.#run(command, Buffer.concat(input), channel, socket).catch((error: unknown) => {
            if (!(error instanceof Interrupted)) this.broken.push(error);
            socket.destroy();
          });
        });
      });
    });
  }

  async #run(command: string, input: Buffer, channel: ServerChannel, socket: Socket): Promise<void> {
    const words = shellWords(command) ?? [];
    const [program = '', option, text = ''] = words;
    if (program !== 'perl' || option !== '-e' || !HELPER.test(text)) {
      const { journal, world } = this.pve.context;
      journal.record({
        sim: 'proxmox',
        event: 'request',
        actor: world.tokenId,
        op: 'ssh.command',
        cluster: world.cluster,
        node: this.node,
        effect: false,
        status: 127,
        answered: true,
        params: { command: command.slice(0, 200) },
      });
      channel.stderr.write(`bash: line 1: ${program}: command not found\n`);
      channel.exit(127);
      channel.end();
      return;
    }
    let heard: (isDelivered: boolean) => void = () => undefined;
    const delivered = new Promise<boolean>((resolve) => (heard = resolve));
    const answer = await this.#answer(input, delivered);
    deliver(answer, channel, socket, heard);
  }

  /** What the program prints; where a request meets a fault of the connection, that is what becomes of all of them. */
  async #answer(input: Buffer, delivered: Promise<boolean>): Promise<SimAnswer> {
    let requests: (HelperRequest | HelperRefusal)[];
    try {
      requests = readRequests(input);
    } catch (error) {
      if (!(error instanceof HelperRefusal)) throw error;
      const told = await this.#answerOne(error, input, delivered, true);
      return replied(told) ? { ...told, body: answerLine(refusalOf(error)) } : told;
    }
    const answers: unknown[] = [];
    for (const [at, request] of requests.entries()) {
      const told = await this.#answerOne(request, input, delivered, at === 0);
      if (!replied(told)) return told;
      answers.push(JSON.parse(String(told.body)));
    }
    return { status: 0, body: answerLine({ ok: true, answers }) };
  }

  /** One request, as every request of a simulator; the program is started for the first. */
  async #answerOne(
    request: HelperRequest | HelperRefusal,
    input: Buffer,
    delivered: Promise<boolean>,
    isFirst: boolean,
  ): Promise<SimAnswer> {
    const { pve, node } = this;
    const { context, world } = pve;
    const isRefused = request instanceof HelperRefusal;
    const operation = {
      sim: 'proxmox',
      op: `ssh.${isRefused ? 'malformed' : request.op}`,
      actor: world.tokenId,
      cluster: world.cluster,
      node,
      ...(!isRefused && 'vmid' in request && { vmid: request.vmid }),
      params: { ...(!isRefused && paramsOf(request)), ...(!isFirst && { [SAME_CONVERSATION]: true }) },
    };
    return perform(
      context,
      operation,
      delivered,
      async (faults): Promise<Outcome> => {
        // Cut in the middle of what was sent: the program gets no whole request.
        const cut = faults.at('during', 'truncate');
        if (cut && Number(cut.value) < input.length) throw new Interrupted('the connection was cut');
        const draw = context.random.stream('ssh', node);
        if (isFirst) await context.clock.sleep(draw.logNormal(COMMAND_MS.median, COMMAND_MS.p95));
        if (pve.conditions.isOff(node)) throw new Interrupted(`node ${node} is off`);
        try {
          if (isRefused) throw request;
          const { answer, journal } = await runHelper({ pve, node, actor: operation.actor }, request);
          return {
            reply: { status: 0, body: JSON.stringify({ ok: true, ...answer }) },
            journal: { ...journal, params: { ...operation.params, ...journal?.params } },
          };
        } catch (error) {
          if (!(error instanceof HelperRefusal)) throw error;
          return {
            reply: { status: 0, body: JSON.stringify(refusalOf(error)) },
            journal: { params: { ...operation.params, error: error.message } },
          };
        }
      },
      (status, message) => ({ status, reason: message }),
    );
  }
}

/** Neither a fault of the connection nor of the program. */
const replied = (answer: SimAnswer): answer is Extract<SimAnswer, object> =>
  typeof answer === 'object' && answer.status === 0 && answer.cutAfterBytes === undefined;

const isAllowed = (attempt: AuthContext, client: KeyPair): boolean => {
  if (attempt.method !== 'publickey' || attempt.username !== 'root') return false;
  const known = ssh2.utils.parseKey(client.public);
  if (known instanceof Error) throw known;
  if (!attempt.key.data.equals(known.getPublicSSH())) return false;
  // Without a signature the client only asks whether it is worth signing.
  if (attempt.signature === undefined || attempt.blob === undefined) return true;
  return known.verify(attempt.blob, attempt.signature, attempt.hashAlgo) === true;
};

/** Not what files hold: that is told by their hash. */
function paramsOf(request: HelperRequest): Record<string, unknown> {
  const { op: _, ...params } = request;
  return Object.fromEntries(
    Object.entries(params).filter(([key]) => !['content', 'vmid', 'node'].includes(key)),
  );
}

/** Gives the answer, or does to the connection what a fault says. */
function deliver(
  answer: SimAnswer,
  channel: ServerChannel,
  socket: Socket,
  heard: (isDelivered: boolean) => void,
): void {
  if (answer === 'silence') return heard(false);
  if (answer === 'reset' || answer === 'drop') {
    heard(false);
    if (answer === 'reset') socket.resetAndDestroy();
    else socket.destroy();
    return;
  }
  const { status, reason, body = '', cutAfterBytes } = answer;
  if (socket.destroyed) return heard(false);
  if (cutAfterBytes !== undefined) {
    channel.write(Buffer.from(body).subarray(0, cutAfterBytes), () => socket.destroy());
    return heard(false);
  }
  heard(true);
  if (reason !== undefined) channel.stderr.write(`${reason}\n`);
  channel.write(body);
  channel.exit(status);
  channel.end();
}
