import { HatcheryError } from '../core/errors.js';
import { readHookReport, type HookReport } from '../core/lxc/hook-report.js';
import { nextLookMs } from '../core/look-times.js';
import {
  StepWait,
  aloneAsGroup,
  defineStep,
  type Coalesce,
  type GroupMember,
  type StepPorts,
} from '../plan/step.js';
import { hookFile } from './hook-files.js';
import { noOutput, onMachine, type OnMachine } from './machine-step.js';

/** One conversation with a node tells how far all of its containers are. */
const coalesce: Coalesce<OnMachine, object> = {
  key: ({ machine }) => `first-boot:${machine.cluster}/${machine.node}`,
  // Whoever is due a moment later comes along.
  windowMs: 5_000,
  max: 100,
  async actMany(members, ports, call) {
    const nodes = new Map<string, GroupMember<OnMachine>[]>();
    for (const member of members) {
      const { node } = member.run.machine;
      nodes.set(node, [...(nodes.get(node) ?? []), member]);
    }
    const files = ports.nodeFiles(members[0]!.input.machine.cluster);
    const outcomes = new Map<GroupMember<OnMachine>, object | StepWait | HatcheryError>();
    for (const [node, here] of nodes) {
      // One that has just been started has nothing to tell.
      const names = here.filter(({ run }) => run.attempt > 1).flatMap(reportNames);
      const texts =
        names.length === 0 ? new Map<string, string>() : await files.readReports(node, names, call);
      for (const member of here) {
        const reports = reportNames(member).map((name) => readHookReport(texts.get(name) ?? ''));
        outcomes.set(member, await outcomeOf(member, reports, ports));
      }
    }
    return members.map((member) => outcomes.get(member)!);
  },
};

/** Our own start hook and the registered ones that report tell how far they are; the machine is not ready before they are done. */
export const waitFirstBoot = defineStep<OnMachine, object>({
  id: 'wait-first-boot',
  version: 1,
  only: { kind: 'lxc' },
  summary: 'Wait until the first boot of the container is over',
  input: onMachine,
  output: noOutput,
  locks: () => [],
  effects: () => [],
  timeout: '2m',
  deadline: '2h',
  retry: { attempts: 20, first: '2s', max: '30s' },
  lateWrites: 'Writes nothing outside.',
  expired: ({ machine }) =>
    new HatcheryError(
      'hook-failed',
      `Unable to go on with ${machine.name}: its first boot did not end in time`,
      {
        retry: 'after-fix',
        hint: 'Look into it on its node (pct enter): /var/log/hatchery-first-boot.log. Then retry its run.',
      },
    ),
  coalesce,
  ...aloneAsGroup(coalesce),
});

function reportNames({ input: { machine }, run }: GroupMember<OnMachine>): string[] {
  const hooks = machine.onNode?.hooks.filter(({ reports }) => reports) ?? [];
  return hooks.map((hook) => hookFile(run.machine.node, 'reports', machine.id, hook).name);
}

async function outcomeOf(
  { input: { machine }, run }: GroupMember<OnMachine>,
  reports: readonly HookReport[],
  { durations, remoteTimeScale }: StepPorts,
): Promise<object | StepWait | HatcheryError> {
  const failed = reports.find((report) => report.state === 'failed');
  if (failed)
    return new HatcheryError(
      'hook-failed',
      `Unable to go on with ${machine.name}: its first boot failed: ${failed.why}`,
      {
        retry: 'after-fix',
        hint: `Look into it on ${run.machine.node}: pct exec ${run.machine.vmid} -- tail /var/log/hatchery-first-boot.log. Mend the cause, then: pct reboot ${run.machine.vmid}, and: hatchery run retry ${run.runId}`,
      },
    );
  const percents = reports.map((report) =>
    report.state === 'done' ? 100 : report.state === 'working' ? report.percent : 0,
  );
  if (reports.every((report) => report.state === 'done')) return {};
  run.progress(Math.min(...percents));
  const working = reports.find((report) => report.state === 'working');
  const known = await durations.of(machine.cluster, machine.blueprint ?? '', run.stepKey);
  const afterMs = nextLookMs(known?.came.came, run.attempt, remoteTimeScale);
  return new StepWait(afterMs, working ? working.what : 'the container boots');
}
