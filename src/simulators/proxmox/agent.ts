import type { WorldGuest } from '../world.js';
import { AGENT_COMMANDS, type AgentCommand } from './agent-commands.js';
import { hostName } from './agent-facts.js';
import { agentFileRoutes } from './agent-files.js';
import { agentError, awake, permitAgent, ready, refusalOf } from './agent-reach.js';
import { OPTIONAL_FLAG, TEXT, type ParamSpecs } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';

const AGENT = '/nodes/{node}/qemu/{vmid}/agent';
const permitAll = permitAgent('VM.GuestAgent.Unrestricted');

/** A call with parameters of its own. */
const withParams = (
  method: Route['method'],
  name: string,
  params: ParamSpecs,
  handle: Route['handle'],
): Route => ({
  method,
  path: `${AGENT}/${name}`,
  op: `qemu.agent.${name}`,
  kind: 'agent',
  params,
  permit: permitAll,
  handle,
});

const callRoutes: readonly Route[] = [
  ...Object.entries(AGENT_COMMANDS).map(([name, command]): Route => ({
    method: command.method,
    path: `${AGENT}/${name}`,
    op: command.op ?? `qemu.agent.${name}`,
    kind: 'agent',
    params: {},
    permit: permitAgent(...command.privileges),
    handle: (call) => run(call, name, command),
  })),
  withParams(
    'POST',
    'exec',
    {
      command: { type: 'array', items: TEXT },
      'input-data': { type: 'string', optional: true, maxLength: 65_536 },
    },
    execute,
  ),
  withParams('GET', 'exec-status', { pid: { type: 'integer' } }, executed),
  withParams(
    'POST',
    'set-user-password',
    {
      crypted: OPTIONAL_FLAG,
      password: { type: 'string', minLength: 5, maxLength: 1_024 },
      username: TEXT,
    },
    setPassword,
  ),
  ...agentFileRoutes,
];

export const agentRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: AGENT,
    op: 'qemu.agent.index',
    kind: 'read',
    params: {},
    handle: () => ({
      data: callRoutes
        .map(({ path }) => path.slice(AGENT.length + 1))
        .sort()
        .map((name) => ({ name })),
    }),
  },
  {
    method: 'POST',
    path: AGENT,
    op: 'qemu.agent',
    kind: 'agent',
    params: { command: { type: 'string', enum: Object.keys(AGENT_COMMANDS) } },
    permit: permitAll,
    handle(call) {
      const name = call.params.need('command');
      return run(call, name, AGENT_COMMANDS[name]!);
    },
  },
  ...callRoutes,
];

/** What the agent refuses is a result like any other here: nobody looks at it. */
async function run(call: PveCall, name: string, command: AgentCommand): Promise<Handled> {
  const guest = await awake(call);
  const desc = refusalOf(guest, name);
  if (desc !== undefined) return { data: { result: { error: { class: 'CommandNotFound', desc } } } };
  const result = await command.answer(call.pve, guest);
  const journal = command.isPower ? { effect: true, incarnation: guest.incarnation } : {};
  return { data: { result }, journal };
}

/** Programs of the simulated guest: it runs `echo`, `hostname` and `true`; nothing else is installed. */
async function execute(call: PveCall): Promise<Handled> {
  const guest = await ready(call, 'exec');
  const [program = '', ...words] = call.params.list('command');
  const output = runProgram(guest, program, words);
  if (output === undefined)
    throw agentError(
      `Guest agent command failed, error was 'Failed to execute child process “${program}” (No such file or directory)'`,
    );
  const pid = (guest.processes.at(-1)?.pid ?? 999) + 1;
  guest.processes.push({ pid, output });
  return { data: { pid } };
}

function runProgram(guest: WorldGuest, program: string, words: readonly string[]): string | undefined {
  const name = program.split('/').at(-1);
  if (name === 'echo') return `${words.join(' ')}\n`;
  if (name === 'hostname') return `${hostName(guest)}\n`;
  return name === 'true' ? '' : undefined;
}

async function executed(call: PveCall): Promise<Handled> {
  const guest = await ready(call, 'exec-status');
  const pid = call.params.number('pid');
  const at = guest.processes.findIndex((process) => process.pid === pid);
  const [process] = at < 0 ? [] : guest.processes.splice(at, 1);
  if (!process) throw agentError(`Invalid parameter 'pid'`);
  const { output } = process;
  return { data: { exited: 1, exitcode: 0, ...(output === '' ? {} : { 'out-data': output }) } };
}

/** Nobody signs in to a simulated guest: there is nothing to see afterwards. */
async function setPassword(call: PveCall): Promise<Handled> {
  await ready(call, 'set-user-password');
  return { data: { result: {} } };
}
