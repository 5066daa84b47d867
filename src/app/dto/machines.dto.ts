import { z } from 'zod';
import { MACHINE_STATES } from '../../core/states.js';
import type { MachineEntity } from '../../drivers/postgres/entities/machine.entity.js';
import { expected, type ExpectedView } from './expected.dto.js';
import { pageOf, pageQuery } from './page.dto.js';
import { failureView } from './failure.js';
import { Failure } from './problem.dto.js';

export const MachineView = z
  .object({
    id: z.uuid(),
    name: z.string(),
    batch: z.object({ id: z.uuid(), name: z.string() }),
    row: z.number().int(),
    login: z.string(),
    lastName: z.string(),
    firstName: z.string(),
    email: z.string().nullable(),
    group: z.string().nullable(),
    cluster: z.string(),
    node: z.string(),
    vmid: z.number().int(),
    mac: z.string(),
    address: z.string().nullable(),
    link: z.string().nullable(),
    state: z.enum(MACHINE_STATES),
    error: Failure.nullable(),
    ...expected,
    createdAt: z.iso.datetime(),
    readyAt: z.iso.datetime().nullable(),
    deletedAt: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Machine' });
export type MachineView = z.infer<typeof MachineView>;
export const MachinePage = pageOf(MachineView).meta({ id: 'MachinePage' });

/** What a guest says of itself; whether it is true is judged later. */
export const PhoneHomeRequest = z
  .strictObject({
    token: z.string().max(100),
    addresses: z.array(z.strictObject({ mac: z.string().max(60), address: z.string().max(60) })).max(100),
  })
  .meta({
    id: 'PhoneHomeRequest',
    example: {
      token: 'the serial number of the machine',
      addresses: [{ mac: '02:00:00:aa:bb:cc', address: '10.20.0.11' }],
    },
  });

export const ListMachinesQuery = z.strictObject({ ...pageQuery, state: z.enum(MACHINE_STATES).optional() });

export const machineView = (machine: MachineEntity, expectedOf: ExpectedView): MachineView => ({
  id: machine.id,
  name: machine.name,
  batch: { id: machine.batch.id, name: machine.batch.name },
  row: machine.row,
  login: machine.login,
  lastName: machine.lastName,
  firstName: machine.firstName,
  email: machine.email,
  group: machine.groupName,
  cluster: machine.cluster,
  node: machine.node,
  vmid: machine.vmid,
  mac: machine.mac,
  address: machine.address,
  link: machine.link,
  state: machine.state,
  error: failureView(machine.error),
  ...expectedOf,
  createdAt: machine.createdAt.toISOString(),
  readyAt: machine.readyAt?.toISOString() ?? null,
  deletedAt: machine.deletedAt?.toISOString() ?? null,
});
