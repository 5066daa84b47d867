import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuacamoleModel } from '../../src/simulators/guacamole/guacamole-model.js';
import type { WorldGuacamoleConnection, WorldGuacamoleUser } from '../../src/simulators/world.js';
import { addBlueprint } from '../support/blueprint-variants.js';
import { newName, StepWorld, type TestMachine } from '../support/step-world.js';

const BLUEPRINT = 'student-desktop';
const OTHER = 'directory-desktop';
let world: StepWorld;

beforeAll(async () => {
  world = await StepWorld.start({
    prepare: (site) => addBlueprint(site, OTHER, { blueprint: ['signIn: prompt', 'signIn: directory'] }),
  });
});
afterAll(async () => world?.close());

async function ready(blueprint: string, logins: readonly string[]): Promise<TestMachine[]> {
  const machines = await world.createBatch(blueprint, logins);
  for (const machine of machines) await world.open(machine);
  await world.runsAre('done', machines);
  return machines;
}

async function deleted(...machines: readonly TestMachine[]): Promise<void> {
  for (const machine of machines) await world.assembly.intake.deleteMachine(machine.id, world.admin);
  await world.runsAre('cancelled', machines);
}

const outside = () => world.site.simulators.world.guacamole;
const user = (login: string): WorldGuacamoleUser | undefined => outside().users.get(login);
const connection = (machine: TestMachine): WorldGuacamoleConnection | undefined =>
  [...outside().connections.values()].find(({ name }) => name === machine.name);
const groupOf = (machine: TestMachine): string[] =>
  [...outside().groups].filter(([, { name }]) => name.startsWith(`${machine.batch} #`)).map(([id]) => id);
const mayUse = (login: string): string[] =>
  [...(user(login)?.permissions.keys() ?? [])].filter((on) => on.startsWith('connection/'));

// Side by side: each has people and batches of its own.
describe.concurrent('register-desktop', () => {
  it('uses an account that somebody else made as it is, and takes back only its own permissions', async () => {
    const login = newName('s');
    const gateway = new GuacamoleModel(outside());
    gateway.addUser({
      username: login,
      password: randomUUID(),
      attributes: { 'guac-full-name': 'Known before', 'guac-organizational-role': 'teacher' },
    });
    const room = [...outside().connections].find(([, { name }]) => name === 'Salle 204')![0];
    gateway.permissionsOf(login).grant('connection', room, ['READ']);
    const before = structuredClone(user(login)!);
    const [machine] = await ready(BLUEPRINT, [login]);
    const { permissions, ...account } = user(login)!;
    expect(account).toEqual({ password: before.password, attributes: before.attributes });
    expect(mayUse(login)).toHaveLength(2);
    expect([...permissions.keys()]).toEqual(expect.arrayContaining([...before.permissions.keys()]));

    await deleted(machine!);
    expect(user(login)).toEqual(before);
  });

  it('keeps the group of a batch until its last machine is deleted', async () => {
    const [first, second] = await ready(BLUEPRINT, [newName('s'), newName('s')]);
    await deleted(first!);
    expect(user(first!.login)).toBeUndefined();
    expect(connection(first!)).toBeUndefined();
    expect(groupOf(first!)).toHaveLength(1);
    expect(connection(second!)).toBeDefined();
    await deleted(second!);
    expect(groupOf(second!)).toEqual([]);
    expect(user(second!.login)).toBeUndefined();
  });

  it('keeps the account of a person until the last of their machines is deleted', async () => {
    const login = newName('s');
    const [[first], [second]] = [await ready(BLUEPRINT, [login]), await ready(OTHER, [login])];
    const { password } = user(login)!;
    expect(mayUse(login)).toHaveLength(2);
    await deleted(first!);
    expect(user(login)?.password).toBe(password);
    expect(mayUse(login)).toHaveLength(1);
    expect(connection(second!)).toBeDefined();
    await deleted(second!);
    expect(user(login)).toBeUndefined();
  });

  it('leaves no group and no account when the last machines of both go at the same time', async () => {
    const login = newName('s');
    const pupils = await ready(BLUEPRINT, [login, newName('s'), newName('s')]);
    const [other] = await ready(OTHER, [login]);
    await deleted(...pupils, other!);
    expect(groupOf(pupils[0]!)).toEqual([]);
    expect(groupOf(other!)).toEqual([]);
    for (const machine of [...pupils, other!]) expect(user(machine.login)).toBeUndefined();
  });

  it('waits for a person when somebody put a connection of their own into the group', async () => {
    const [machine] = await ready(BLUEPRINT, [newName('s')]);
    const gateway = new GuacamoleModel(outside());
    const foreign = gateway.addConnection({
      name: 'Demo of Alice',
      parentIdentifier: groupOf(machine!)[0]!,
      protocol: 'ssh',
      parameters: {},
    });
    await world.assembly.intake.deleteMachine(machine!.id, world.admin);
    await world.stepIs('undo-parked', machine!, 'desktop');
    expect(outside().connections.has(foreign)).toBe(true);
    expect(connection(machine!)).toBeUndefined();
    gateway.removeConnection(foreign);
    await world.assembly.intake.retryRun(machine!.runId, world.admin);
    await world.runsAre('cancelled', [machine!]);
    expect(groupOf(machine!)).toEqual([]);
  });
});

/** As a person puts a connection of their own into the batch's group. */
const putConnection = (machine: TestMachine): string =>
  new GuacamoleModel(outside()).addConnection({
    name: machine.name,
    parentIdentifier: groupOf(machine)[0]!,
    protocol: 'ssh',
    parameters: { hostname: 'elsewhere', port: '22', 'private-key': 'theirs' },
  });

const idOf = (machine: TestMachine): string =>
  [...outside().connections].find(([, { name }]) => name === machine.name)![0];

/** Records of before connections carried a mark. */
async function asBeforeMarks(machine: TestMachine): Promise<void> {
  delete connection(machine)!.parameters['hatchery-mark'];
  await world.assembly.database.query(
    `update effects set version = 1 from steps s
      where s.id = effects.step_id and s.run_id = $1 and effects.kind in ('desktop-connection', 'desktop-permission')`,
    [machine.runId],
  );
}

describe.concurrent('a connection of the same name in the batch’s group', () => {
  it('that somebody else made is not taken over, and stays when the machine is deleted', async () => {
    const [first, second] = await world.createBatch(BLUEPRINT, [newName('s'), newName('s')]);
    await world.open(first!);
    await world.runsAre('done', [first!]);
    const theirs = putConnection(second!);
    const before = structuredClone(outside().connections.get(theirs));
    await world.open(second!);
    await world.stepIs('parked', second!, 'desktop');
    expect(mayUse(second!.login)).toEqual([]);
    await deleted(second!);
    expect(outside().connections.get(theirs)).toEqual(before);
    expect(user(second!.login)).toBeUndefined();
  });

  it('that came in the place of ours waits for a person when the machine is deleted', async () => {
    const [machine] = await ready(BLUEPRINT, [newName('s')]);
    const gateway = new GuacamoleModel(outside());
    gateway.removeConnection(idOf(machine!));
    const theirs = putConnection(machine!);
    gateway.permissionsOf(machine!.login).grant('connection', theirs, ['READ']);
    await world.assembly.intake.deleteMachine(machine!.id, world.admin);
    await world.stepIs('undo-parked', machine!, 'desktop');
    expect(outside().connections.has(theirs)).toBe(true);
    expect(mayUse(machine!.login)).toEqual([`connection/${theirs}`]);
  });

  it('made before connections carried a mark is removed as what we wrote, and kept as anything else', async () => {
    const [old, edited] = await ready(BLUEPRINT, [newName('s'), newName('s')]);
    for (const machine of [old!, edited!]) await asBeforeMarks(machine);
    connection(edited!)!.parameters['private-key'] = 'theirs';
    await deleted(old!);
    expect(connection(old!)).toBeUndefined();
    await world.assembly.intake.deleteMachine(edited!.id, world.admin);
    await world.stepIs('undo-parked', edited!, 'desktop');
    expect(connection(edited!)).toBeDefined();
  });
});

describe('register-desktop, with the gateway held', () => {
  it('makes account and group again for a machine that comes while the last holder lets go', async () => {
    const login = newName('s');
    const [first] = await ready(BLUEPRINT, [login]);
    const { holds } = world.site.simulators.context;
    const second = await world.create(OTHER, login);
    await world.open(second, ['reserve', 'allow-mac', 'clone', 'configure', 'resize', 'start', 'address']);
    await world.kept(second, 'desktop');
    holds.hold('guacamole.user.delete', 'before');
    await world.assembly.intake.deleteMachine(first!.id, world.admin);
    await holds.reached('guacamole.user.delete', 'before');
    await world.open(second);
    await world.until('the second machine waits for the account', async () => {
      const { error } = await world.one<{ error: { message?: string } | null }>(
        `select error from steps where run_id = $1 and key = 'desktop'`,
        [second.runId],
      );
      return error?.message?.includes(`desktop-user ${login}`) === true;
    });
    holds.release('guacamole.user.delete', 'before');
    await world.runsAre('cancelled', [first!]);
    await world.runsAre('done', [second]);
    expect(mayUse(login)).toHaveLength(1);
    await deleted(second);
    expect(user(login)).toBeUndefined();
  });
});
