import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkJournal } from '../../src/simulators/journal/check.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { FaultWorld } from '../support/fault-world.js';
import type { TestMachine } from '../support/step-world.js';

/* The DHCP server and the desktop gateway: rows E01-E04, E06 and Q28. Judged by the journal; each test says what it may not leave behind. */

describe('the other systems', () => {
  let at: FaultWorld;
  beforeAll(async () => {
    at = await FaultWorld.start();
  });
  afterAll(async () => at.close());

  const filterOf = ({ mac }: TestMachine): (string | undefined)[] => {
    const { filters } = at.world.site.simulators.winrm;
    return filters()
      .filter((filter) => filter.mac.toLowerCase().replaceAll('-', ':') === mac.toLowerCase())
      .map(({ description }) => description);
  };
  const lines = (op: string, machine: TestMachine): JournalLine[] =>
    at.lines({ op, effect: true }).filter(({ resource }) => resource === machine.mac.toLowerCase());

  /** Its filter, its connection and its permission are there once, and nothing is left when it is gone. */
  async function expectWholeThenGone(machine: TestMachine): Promise<void> {
    expect(filterOf(machine)).toEqual([expect.stringContaining(machine.id)]);
    expect(lines('dhcp.allow', machine)).toHaveLength(1);
    const { guacamole } = at.world.site.simulators;
    const own = [...guacamole.connections()].filter(([, { name }]) => name === machine.name);
    expect(own).toHaveLength(1);
    expect(guacamole.permissions(machine.login)).toMatchObject({
      connectionPermissions: { [own[0]![0]]: ['READ'] },
    });
    await at.remove(machine);
    expect(filterOf(machine)).toEqual([]);
    expect([...guacamole.connections().values()].map(({ name }) => name)).not.toContain(machine.name);
    expect(guacamole.users()).not.toContain(machine.login);
  }

  it('E01: no free shell is waited for, and no shell of ours stays open', async () => {
    await at.with('E01-shell-quota', async () => {
      const machine = await at.ready();
      await expectWholeThenGone(machine);
    });
    await at.world.until(
      'the taken shells are closed',
      () => at.world.site.simulators.winrm.openShells() <= 1,
    );
  });

  it('E02: a command that did nothing, died or was not heard is found out by reading, and done once', async () => {
    await at.with('E02-command-swallowed', async () => {
      await expectWholeThenGone(await at.ready());
    });
  });

  it('E03: an error on the stream is one whatever the exit code, and what was done is found', async () => {
    await at.with('E03-error-with-exit-0', async () => {
      await expectWholeThenGone(await at.ready());
    });
  });

  it('E04: the filter of somebody else stops the machine, is named, and stays', async () => {
    await at.with('E04-filter-taken', async () => {
      const machine = await at.world.create('student-desktop');
      await at.world.open(machine);
      const error = await at.parked(machine);
      expect(error.message).toContain('printer of room 12');
      expect(error.hint).toContain('Remove-DhcpServerv4Filter');
      await at.giveUp(machine);
      expect(filterOf(machine)).toEqual(['printer of room 12']);
      expect(at.lines({ op: 'dhcp.remove', effect: true })).toEqual([]);
    });
  });

  it('E06: dead tokens, lost answers and writes that were not kept end in one connection with its permission', async () => {
    await at.with('E06-guacamole-forgets', async () => {
      const first = await at.ready();
      const second = await at.ready();
      await expectWholeThenGone(first);
      await expectWholeThenGone(second);
    });
  });

  it('Q28: an undo of which every request fails once is done all the same', async () => {
    const machine = await at.ready();
    await at.with('Q28-undo-fails-once', () => at.remove(machine));
  });

  it('Q28: an undo that cannot be done says what is left and goes on from there when a person says so', async () => {
    const machine = await at.ready();
    await at.with('Q28-undo-refused', async () => {
      await at.world.assembly.intake.deleteBatch(machine.batch, at.world.admin);
      const error = await at.parked(machine);
      expect(error.hint).toContain(`hatchery run retry ${machine.runId}`);
      const left = await at.world.query<{ kind: string }>(
        `select e.kind from effects e join steps s on s.id = e.step_id where s.run_id = $1 and e.state <> 'undone' order by e.kind`,
        [machine.runId],
      );
      expect(left.map(({ kind }) => kind)).toEqual([
        'desktop-connection',
        'desktop-group',
        'desktop-user',
        'dhcp-filter',
        'guest',
      ]);
    });
    await at.retry(machine);
    await at.world.runsAre('cancelled', [machine]);
  });

  it('leave nothing behind, and nobody wrote to what is not ours', async () => {
    const verdict = await checkJournal(at.world.site.simulators.context.journal.file, {
      expectNothingLeft: true,
    });
    expect(verdict).toMatchObject({ findings: [], left: 0, foreignWrites: 0 });
  });
});
