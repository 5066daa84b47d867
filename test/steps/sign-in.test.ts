import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hashedPassword } from '../../src/simulators/proxmox/qemu-config-write.js';
import { addBlueprint } from '../support/blueprint-variants.js';
import { StepWorld, type TestMachine } from '../support/step-world.js';
import { ownRedis, type OwnStore } from '../support/stores.js';

const SIGN_INS = ['prompt', 'directory', 'generated'] as const;
const said: string[] = [];
let world: StepWorld;
let store: OwnStore;
let monitor: Redis;
const onRedis: string[] = [];

beforeAll(async () => {
  const log = (facts: object, sentence: string): void => {
    said.push(sentence, asLogged(facts));
  };
  // Nobody else speaks to it while the monitor begins: ioredis takes what comes too early for an answer.
  store = await ownRedis();
  const redis = new Redis(store.url);
  monitor = await redis.monitor();
  redis.disconnect();
  monitor.on('monitor', (_time: string, command: readonly string[]) => onRedis.push(command.join(' ')));
  world = await StepWorld.start({
    build: { options: (whole) => ({ ...whole, redisUrl: store.url }) },
    prepare: async (site) => {
      for (const signIn of SIGN_INS)
        await addBlueprint(site, signIn, { blueprint: ['signIn: prompt', `signIn: ${signIn}`] });
    },
    log: { debug: log, info: log, warn: log, error: log },
  });
});
afterAll(async () => {
  monitor?.disconnect();
  await world?.close();
  await store?.remove();
});

/** With what an error hides from JSON. */
function asLogged(facts: object): string {
  const whole = (_key: string, value: unknown): unknown =>
    value instanceof Error
      ? { ...value, message: value.message, stack: value.stack, cause: value.cause }
      : value;
  return JSON.stringify(facts, whole);
}

async function ready(blueprint: string): Promise<TestMachine> {
  const machine = await world.create(blueprint);
  await world.open(machine);
  await world.runsAre('done', [machine]);
  return machine;
}

async function outside(machine: TestMachine): Promise<{
  parameters: Record<string, string>;
  accountPassword: string;
  config: Record<string, string>;
}> {
  const { proxmox, world: things } = world.site.simulators;
  const connection = [...things.guacamole.connections.values()].find(({ name }) => name === machine.name)!;
  return {
    parameters: connection.parameters,
    accountPassword: things.guacamole.users.get(machine.login)!.password,
    config: proxmox.guest(await world.vmid(machine))!.config,
  };
}

async function everyRow(): Promise<string> {
  const tables = await world.query<{ name: string }>(
    `select table_name as name from information_schema.tables where table_schema = 'public'`,
  );
  const rows: string[] = [];
  for (const { name } of tables)
    for (const { row } of await world.query<{ row: string }>(
      `select row_to_json(t)::text as row from "${name}" t`,
    ))
      rows.push(row);
  return rows.join('\n');
}

it.concurrent('prompt: the gateway asks, and knows nothing', async () => {
  const machine = await ready('prompt');
  const { parameters, config } = await outside(machine);
  expect(parameters).not.toHaveProperty('username');
  expect(parameters).not.toHaveProperty('password');
  expect(config).toMatchObject({ ciuser: 'student' });
  expect(config).not.toHaveProperty('cipassword');
  await world.remove([machine]);
});

it.concurrent(
  'directory: the gateway passes on what the person signed in with; the account’s own password is nobody’s',
  async () => {
    const [one, two] = [await ready('directory'), await ready('directory')];
    const first = await outside(one);
    expect(first.parameters).toMatchObject({
      username: '${GUAC_USERNAME}',
      password: '${GUAC_PASSWORD}',
      hostname: expect.stringMatching(/^10\./) as string,
      port: '3389',
    });
    expect(first.config).not.toHaveProperty('cipassword');
    expect(first.accountPassword.length).toBeGreaterThanOrEqual(24);
    expect(first.accountPassword).not.toBe((await outside(two)).accountPassword);
    await world.remove([one, two]);
  },
);

it('generated: one password opens account and machine, is shown once, and is nowhere in rows, queue, events or logs', async () => {
  const { faults } = world.site.simulators.context;
  // Errors on the way say as much as they ever do.
  faults.add({
    id: 'refused',
    match: { op: 'qemu.config.put', nth: 1 },
    effect: 'status',
    value: { status: 500, message: 'no luck today' },
  });
  for (const op of ['qemu.config.put', 'guacamole.user.create'])
    faults.add({ id: `lost ${op}`, match: { op, nth: 2 }, when: 'after', effect: 'reset' });
  faults.add({ id: 'busy', match: { op: 'guacamole.user.create', nth: 1 }, effect: 'reset' });
  const machine = await world.create('generated');
  await world.open(machine);
  await world.runsAre('parked', [machine]);
  await world.assembly.intake.retryRun(machine.runId, world.admin);
  await world.runsAre('done', [machine]);
  const [shown] = await world.assembly.intake.credentials(machine.batch, world.admin);
  await expect(world.assembly.intake.credentials(machine.batch, world.admin)).rejects.toMatchObject({
    code: 'not-applicable',
  });
  expect(shown).toMatchObject({ login: machine.login, machine: machine.name, user: 'student' });
  const { password } = shown!;
  const { parameters, accountPassword, config } = await outside(machine);
  expect(parameters).toMatchObject({ username: 'student', password: '${GUAC_PASSWORD}' });
  expect(accountPassword).toBe(password);
  expect(config).toMatchObject({ ciuser: 'student', cipassword: hashedPassword(password) });

  const rows = await everyRow();
  expect(rows).toContain(machine.login);
  expect(rows).not.toContain(password);
  expect(onRedis.join('\n')).toContain('lock:guest');
  expect(onRedis.join('\n')).not.toContain(password);
  expect(said.join('\n')).toContain('no luck today');
  expect(said.join('\n')).not.toContain(password);
  await world.remove([machine]);
  const { secrets } = await world.one<{ secrets: number }>('select count(*)::int as secrets from secrets');
  expect(secrets).toBe(0);
});
