import { Interrupted } from '../clock.js';
import type { ListenOptions, RunningSimulator, SimulatorContext } from '../context.js';
import { listen, type SimAnswer, type SimReply, type SimRequest } from '../http.js';
import { perform, type Outcome } from '../operation.js';
import { readCommandLine } from './command-line.js';
import { DhcpServer, type Filter } from './dhcp-server.js';
import { ScriptRunner } from './script-runner.js';
import { Shells, type Shell, type ShellCommand } from './shells.js';
import {
  ANSWERS,
  attribute,
  child,
  children,
  durationMs,
  FAULTS,
  faultEnvelope,
  readRequest,
  text,
  WsmanFault,
  type Node,
  type ShellRequest,
} from './soap.js';
import { WinrmActs } from './winrm-acts.js';
import { WinrmAuth } from './winrm-auth.js';

const COMPUTER = 'DHCP1';
const MESSAGE_MS = { median: 12, p95: 40 };
const SOAP_TYPE = 'application/soap+xml;charset=UTF-8';

export interface WinrmOptions extends ListenOptions {
  /** Default 30, as Windows has it. */
  readonly maxShellsPerUser?: number;
  /** Commands that were started and not signalled. Default 1500. */
  readonly maxOperationsPerUser?: number;
}

export interface WinrmSimulator extends RunningSimulator {
  /** Without `/wsman`. */
  readonly endpoint: string;
  readonly caPem: string;
  readonly fingerprint: string;
  readonly username: string;
  readonly password: string;
  /** Both lists; MAC as Windows writes it. */
  filters(): Filter[];
  openShells(): number;
}

/** A Windows DHCP server behind WinRM over HTTPS: WS-Management shells that know the driver's constant scripts. */
export async function startWinrmSimulator(
  context: SimulatorContext,
  options: WinrmOptions = {},
): Promise<WinrmSimulator> {
  const { account } = context.world.dhcp;
  const certificate = context.authority.issue('winrm');
  const shells = new Shells(options.maxShellsPerUser ?? 30, options.maxOperationsPerUser ?? 1500, () =>
    context.clock.elapsedMs(),
  );
  const acts = new WinrmActs(context, shells, COMPUTER, `${account.domain}\\${account.username}`);
  context.faults.actsOf('winrm', (act, target) => acts.perform(act, target));
  const service = new WinrmService(context, shells, new WinrmAuth(account, COMPUTER, certificate));
  const listener = await listen({
    port: options.port,
    certificate,
    bodyLimitBytes: 512_000,
    keepAliveMs: options.keepAliveMs ?? 60_000,
    handle: (request, delivered) => service.handle(request, delivered),
  });
  const dhcp = new DhcpServer(context.world.dhcp, COMPUTER, () => undefined);
  return {
    endpoints: [listener.url],
    endpoint: listener.url,
    caPem: context.authority.caPem,
    fingerprint: certificate.fingerprint,
    username: account.username,
    password: account.password,
    filters: () => [...dhcp.filters('Allow'), ...dhcp.filters('Deny')],
    openShells: () => shells.countOf(),
    async stop() {
      shells.closeAll();
      await listener.stop();
      service.throwIfBroken();
    },
  };
}

class WinrmService {
  readonly #runner: ScriptRunner;
  readonly #broken: unknown[] = [];

  constructor(
    private readonly context: SimulatorContext,
    private readonly shells: Shells,
    private readonly auth: WinrmAuth,
  ) {
    this.#runner = new ScriptRunner(context, COMPUTER);
  }

  throwIfBroken(): void {
    if (this.#broken.length > 0) throw this.#broken[0];
  }

  async handle(request: SimRequest, delivered: Promise<boolean>): Promise<SimAnswer> {
    if (request.path !== '/wsman') return { status: 404 };
    if (request.method !== 'POST') return { status: 405 };
    if (request.tooLarge) return { status: 413 };
    const verdict = this.auth.signIn(request);
    if ('reply' in verdict)
      return this.#perform('winrm.auth', 'anonymous', {}, delivered, undefined, () =>
        Promise.resolve({ reply: verdict.reply }),
      );
    // Clients that negotiate first send an empty message to sign the connection in.
    if (request.body.length === 0) return { status: 200 };
    if (!/^application\/soap\+xml/i.test(request.headers['content-type'] ?? '')) return { status: 415 };
    let soap: ShellRequest;
    try {
      soap = readRequest(request.body.toString('utf8'));
    } catch (error) {
      if (error instanceof WsmanFault) return faultReply(error, undefined);
      throw error;
    }
    const params = soap.action === 'command' ? scriptOf(soap) : {};
    return this.#perform(
      `winrm.${soap.action}`,
      verdict.actor,
      params,
      delivered,
      soap.messageId,
      async () => {
        const draw = this.context.random.stream('winrm.message');
        await this.context.clock.sleep(draw.logNormal(MESSAGE_MS.median, MESSAGE_MS.p95));
        try {
          return await this.#act(soap, verdict.actor);
        } catch (error) {
          if (error instanceof WsmanFault) return { reply: faultReply(error, soap.messageId) };
          throw error;
        }
      },
    );
  }

  #perform(
    op: string,
    actor: string,
    params: Record<string, unknown>,
    delivered: Promise<boolean>,
    messageId: string | undefined,
    act: () => Promise<Outcome>,
  ): Promise<SimAnswer> {
    return perform(this.context, { sim: 'winrm', op, actor, params }, delivered, act, (status, message) =>
      status === 500
        ? faultReply(new WsmanFault(2150858752, 'w:InternalError', message), messageId)
        : { status },
    );
  }

  async #act(request: ShellRequest, actor: string): Promise<Outcome> {
    const { action, messageId } = request;
    if (action === 'create') {
      const shell = this.shells.open(actor, idleMsOf(request.body));
      return ok(ANSWERS.create(messageId, shell.id, actor), shell);
    }
    const shell = this.shells.get(request.shellId, actor);
    return this.shells.asked(shell, () => this.#ask(shell, action, request, actor));
  }

  async #ask(
    shell: Shell,
    action: Exclude<ShellRequest['action'], 'create'>,
    request: ShellRequest,
    actor: string,
  ): Promise<Outcome> {
    const { messageId } = request;
    switch (action) {
      case 'command': {
        const command = this.#start(shell, request, actor);
        return ok(ANSWERS.command(messageId, command.id), shell);
      }
      case 'send': {
        for (const stream of children(child(request.body, 'Send'), 'Stream'))
          commandOf(shell, attribute(stream, 'CommandId')).write(
            Buffer.from(text(stream), 'base64'),
            attribute(stream, 'End')?.toLowerCase() === 'true',
          );
        return ok(ANSWERS.send(messageId), shell);
      }
      case 'receive': {
        const command = commandOf(shell, idIn(request.body, 'Receive', 'DesiredStream'));
        const output = await command.receive(request.operationTimeoutMs, this.context.clock.signal);
        return ok(ANSWERS.receive(messageId, command.id, output), shell);
      }
      case 'signal': {
        const id = attribute(child(request.body, 'Signal') ?? {}, 'CommandId');
        commandOf(shell, id).terminate();
        shell.commands.delete(id ?? '');
        return ok(ANSWERS.signal(messageId), shell);
      }
      case 'delete':
        this.shells.close(shell);
        return ok(ANSWERS.delete(messageId), shell);
    }
  }

  #start(shell: Shell, request: ShellRequest, actor: string): ShellCommand {
    const command = this.shells.start(shell);
    const skipsCmd = request.options.get('WINRS_SKIP_CMD_SHELL')?.toUpperCase() === 'TRUE';
    this.#runner.run(command, commandLineOf(request), skipsCmd, actor).catch((error: unknown) => {
      if (!(error instanceof Interrupted)) this.#broken.push(error);
    });
    return command;
  }
}

function idleMsOf(body: Node): number | undefined {
  const said = text(child(child(body, 'Shell'), 'IdleTimeOut'));
  return said === '' ? undefined : durationMs(said);
}

function commandLineOf(request: ShellRequest): string {
  const line = child(request.body, 'CommandLine');
  return [text(child(line, 'Command')), ...children(line, 'Arguments').map(text)].join(' ');
}

function scriptOf(request: ShellRequest): Record<string, unknown> {
  const line = readCommandLine(commandLineOf(request), true);
  return line.kind === 'script'
    ? { script: line.name ?? 'unknown', digest: line.digest }
    : { script: 'unknown' };
}

function idIn(body: Node, outer: string, inner: string): string | undefined {
  return attribute(child(child(body, outer), inner) ?? {}, 'CommandId');
}

function commandOf(shell: Shell, id: string | undefined): ShellCommand {
  const command = shell.commands.get(id ?? '');
  if (command === undefined) throw FAULTS.invalidParameter('the command id is not known in this shell');
  return command;
}

function ok(body: string, shell: Shell): Outcome {
  return {
    reply: { status: 200, headers: { 'content-type': SOAP_TYPE }, body },
    journal: { resource: shell.id },
  };
}

function faultReply(fault: WsmanFault, relatesTo: string | undefined): SimReply {
  return {
    status: 500,
    headers: { 'content-type': SOAP_TYPE },
    body: faultEnvelope(fault, relatesTo, COMPUTER),
  };
}
