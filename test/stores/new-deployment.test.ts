import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureDeployment } from '../../src/drivers/postgres/migrations.js';
import { newDeployment } from '../../src/drivers/postgres/new-deployment.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let bench: Assembled;
beforeAll(async () => {
  site = await simulatedSite();
  bench = await assembled(site);
});
afterAll(async () => {
  await bench?.close();
  await site?.stop();
});

it('a copied database gets an identity of its own and forgets the machines of the original, whose guests it then never touches', async () => {
  const { databaseUrl } = bench.options;
  const original = await ensureDeployment(databaseUrl, 'prod');
  await expect(newDeployment(databaseUrl, 'prod')).rejects.toMatchObject({ code: 'not-applicable' });
  await bench.assembly.intake.create(
    { name: 'l3', blueprint: 'student-desktop', rows: people(3), skipExisting: false },
    bench.teacher,
    undefined,
  );
  const before = site.simulators.proxmox.guests().length;

  const { deployment, forgotten } = await newDeployment(databaseUrl, 'lab');
  expect(forgotten).toBe(3);
  expect(deployment.id).not.toBe(original.id);
  await expect(ensureDeployment(databaseUrl, 'prod')).rejects.toMatchObject({
    hint: expect.stringContaining('hatchery admin new-deployment') as string,
  });
  expect(await ensureDeployment(databaseUrl, 'lab')).toEqual(deployment);

  bench.assembly.caretaker.start();
  const worker = await bench.assembly.startWorker(4);
  await bench.assembly.intake.create(
    { name: 'l3', blueprint: 'student-desktop', rows: people(1), skipExisting: false },
    bench.teacher,
    undefined,
  );
  await bench.until(`select count(*) = 1 as ok from machines where state = 'ready'`);
  expect(site.simulators.proxmox.guests().length).toBe(before + 1);
  await expect(newDeployment(databaseUrl, 'other')).rejects.toMatchObject({
    code: 'not-applicable',
    message: expect.stringContaining('1 live worker') as string,
  });
  await worker.stop();
  await bench.assembly.caretaker.stop();
});
