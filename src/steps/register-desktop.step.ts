import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import type { MachineInput } from '../core/machine.js';
import type { MarkIdentity } from '../core/mark.js';
import type { EffectIntent } from '../plan/step.js';
import { defineStep } from '../plan/step.js';
import { machineInput } from '../core/machine.js';

interface Input {
  readonly machine: MachineInput;
  readonly address: string;
}

const VERSION = 1;
/** Since connections carry our mark. */
const MARKED = 2;

/** The batch's group and the person's account are shared with other machines; the connection and its permission are this machine's own. */
export const registerDesktop = defineStep<Input, { connection: string; link: string }>({
  id: 'register-desktop',
  version: 1,
  summary: 'Make the machine reachable through the desktop gateway',
  input: z.strictObject({ machine: machineInput, address: z.string().min(1) }),
  output: z.strictObject({ connection: z.string(), link: z.string() }),
  locks: ({ machine }) => {
    const { service, group } = accessOf(machine);
    return [`desktop:${service}/connection/${group}/${machine.name}`];
  },
  effects: ({ machine }) => {
    const { service, group } = accessOf(machine);
    const login = machine.owner.login;
    const own = { version: VERSION, system: service };
    return [
      { ...own, kind: 'desktop-group', key: group, shared: true, payload: { service, group } },
      { ...own, kind: 'desktop-user', key: login, shared: true, payload: { service, login } },
      {
        ...own,
        version: MARKED,
        kind: 'desktop-connection',
        key: `${group}/${machine.name}`,
        payload: { service, group, name: machine.name },
      },
      {
        ...own,
        version: MARKED,
        kind: 'desktop-permission',
        key: `${group}/${machine.name}/${login}`,
        payload: { service, group, name: machine.name, login },
      },
    ] satisfies EffectIntent[];
  },
  timeout: '3m',
  retry: { attempts: 8, first: '1s', max: '30s' },
  lateWrites:
    'Names are unique under the batch’s group: a late create is refused as a duplicate, a late permission is one we hold already.',
  async act({ machine, address }, ports, run) {
    const access = accessOf(machine);
    const gateway = ports.desktopGateway(access.service);
    const password =
      access.signIn === 'generated'
        ? (await ports.secrets.reveal(await ports.secrets.ensurePassword(machine.id))).reveal()
        : undefined;
    const group = await gateway.ensureGroup({ name: access.group }, run.call);
    await gateway.ensureUser(
      {
        login: machine.owner.login,
        fullName: `${machine.owner.firstName} ${machine.owner.lastName}`.trim(),
        email: machine.owner.email,
        password,
        mark: userMark(run.machine.identity.deployment),
      },
      run.call,
    );
    const connection = await gateway.ensureConnection(
      {
        groupId: group.id,
        name: machine.name,
        protocol: access.protocol,
        hostname: address,
        port: access.port,
        parameters: signInParameters(machine),
        mark: connectionMark(run.machine.identity),
      },
      run.call,
    );
    const { login } = machine.owner;
    await gateway.grant(login, connection.id, group.id, run.call);
    // A permission is on a connection, so this proves both.
    if (!(await gateway.hasPermission(login, connection.id, group.id, run.call)))
      throw new HatcheryError(
        'remote-refused',
        `Unable to let ${login} use ${machine.name} in ${access.service}: it said yes, but reading back shows no permission`,
        { retry: 'later' },
      );
    const link = gateway.link(connection.id);
    run.learn({ link });
    return { connection: connection.id, link };
  },
});

/** Proves that an account of the gateway is ours to remove. */
export const userMark = (deployment: string): string => `hatchery ${deployment}`;

/** Proves that a connection of the gateway is this machine's. */
export const connectionMark = ({ deployment, machine }: MarkIdentity): string =>
  `hatchery ${deployment} ${machine}`;

function accessOf(machine: MachineInput): NonNullable<MachineInput['access']> {
  if (machine.access === undefined)
    throw new HatcheryError('internal', `Unable to register ${machine.name}: its blueprint has no access`, {
      hint: 'Put "if: ${{ inputs.machine.access }}" on the step.',
    });
  return machine.access;
}

/** prompt: nothing, so the gateway asks; directory and generated: the gateway passes on what the person signed in with. */
function signInParameters(machine: MachineInput): Record<string, string> {
  const { signIn, protocol } = accessOf(machine);
  const common: Record<string, string> =
    protocol === 'rdp' ? { 'ignore-cert': 'true', 'resize-method': 'display-update' } : {};
  if (signIn === 'prompt') return common;
  if (signIn === 'generated') return { ...common, username: machine.user.name, password: '${GUAC_PASSWORD}' };
  return { ...common, username: '${GUAC_USERNAME}', password: '${GUAC_PASSWORD}' };
}
