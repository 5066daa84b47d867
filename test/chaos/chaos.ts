import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { resolveStateFolder } from '../../src/drivers/embedded/state-folder.js';
import { readSchedule, scheduleOf, type Schedule } from '../../src/simulators/schedule.js';
import { runCampaign, type Campaign, type CampaignOptions } from './campaign.js';
import { boundsMissed, percentile, type Reference } from './bounds.js';
import type { GoneOn } from './watch.js';
import { smallestWindow } from './window.js';

const FOLDER = join(import.meta.dirname, 'schedules');
const SCHEDULE_NAMES = readdirSync(FOLDER).map((file) => file.replace(/\.yaml$/, ''));
const UNDISTURBED = scheduleOf({}, 'undisturbed');

const USAGE = `npm run chaos -- [OPTIONS]
  --schedule S     one of: ${SCHEDULE_NAMES.join(', ')}; or a file (kill)
  --seeds N        how many seeds, from --first (1)
  --first N        the first seed (1)
  --blueprint B,B  what the batches are made of, in turn (student-desktop)
  --items N        machines (600)
  --workers N      (8)
  --kills N        instead of as many as the schedule counts (kill: 500)
  --time-scale F   of the simulated systems: 600 undisturbed items take about 1150 s x F (0.55)
  --older DIR      dist folder of another commit's build, for schedules that upgrade
  --undisturbed S,C  seconds and Proxmox calls of an undisturbed run of the same, instead of measuring it first
Exit code 1: not clean, 3: clean, but too little happened to prove anything.
`;

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
/** About what an undisturbed item of a large class takes, in simulated milliseconds: where the times of the undisturbed run itself come from. */
const MS_PER_ITEM = 1_950;

/** Runs one campaign for each seed, prints one JSON line for each, and gives the exit code. */
export async function chaos(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      schedule: { type: 'string', default: 'kill' },
      seeds: { type: 'string', default: '1' },
      first: { type: 'string', default: '1' },
      blueprint: { type: 'string', default: 'student-desktop' },
      items: { type: 'string', default: '600' },
      workers: { type: 'string', default: '8' },
      kills: { type: 'string' },
      older: { type: 'string' },
      'time-scale': { type: 'string', default: '0.55' },
      undisturbed: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    say(USAGE);
    return 0;
  }
  const schedule = scheduleNamed(values.schedule);
  const options: Omit<CampaignOptions, 'seed' | 'makespanMs'> = {
    schedule,
    blueprints: values.blueprint.split(','),
    items: Number(values.items),
    workers: Number(values.workers),
    kills: values.kills === undefined ? undefined : Number(values.kills),
    older: values.older,
    timeScale: Number(values['time-scale']),
    stateFolder: await resolveStateFolder(join(process.cwd(), '.hatchery')),
    say,
  };
  const reference =
    values.undisturbed === undefined ? await undisturbed(options) : referenceFrom(values.undisturbed);
  let code = 0;
  for (let seed = Number(values.first); seed < Number(values.first) + Number(values.seeds); seed += 1) {
    say(`--- ${values.schedule}, seed ${seed}`);
    const campaign = await runCampaign({
      ...options,
      seed: String(seed),
      makespanMs: reference.makespanMs,
    });
    const report = await reportOf(values.schedule, campaign, reference);
    process.stdout.write(`${JSON.stringify(report)}\n`);
    if (report.verdict === 'clean') await campaign.remove();
    if (report.verdict === 'broken') code = 1;
    if (report.verdict === 'void' && code === 0) code = 3;
  }
  return code;
}

/** A shipped one, or any file. Error: `settings-invalid`. */
function scheduleNamed(name: string): Schedule {
  const shipped = join(FOLDER, `${name}.yaml`);
  return readSchedule(existsSync(shipped) ? shipped : name);
}

function referenceFrom(text: string): Reference {
  const [seconds, proxmoxCalls] = text.split(',').map(Number);
  if (!seconds || !proxmoxCalls)
    throw new Error(`Unable to compare with "${text}": write seconds and calls, as 640,5700`);
  return { makespanMs: 1_000 * seconds, proxmoxCalls };
}

async function undisturbed(options: Omit<CampaignOptions, 'seed' | 'makespanMs'>): Promise<Reference> {
  say('--- undisturbed');
  const makespanMs = MS_PER_ITEM * options.items * options.timeScale;
  const campaign = await runCampaign({
    ...options,
    seed: 'undisturbed',
    schedule: UNDISTURBED,
    makespanMs,
  });
  const { figures, verdict, complaints } = campaign;
  if (!verdict.ok || complaints.length > 0)
    throw new Error(
      `Unable to compare: the undisturbed run is not clean, see ${campaign.folder}\n${JSON.stringify(verdict)}`,
    );
  await campaign.remove();
  say(`undisturbed: ${round(figures.makespanMs / 1000)} s, ${figures.proxmoxCalls} calls`);
  return { makespanMs: figures.makespanMs, proxmoxCalls: figures.proxmoxCalls };
}

async function reportOf(schedule: string, campaign: Campaign, reference: Reference) {
  const { options, verdict, figures, complaints, folder } = campaign;
  const wrong = [...complaints, ...boundsMissed(schedule, figures, reference)];
  const isClean = verdict.ok && wrong.length === 0;
  const report = {
    schedule,
    seed: options.seed,
    blueprints: options.blueprints,
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
    verdict: !isClean ? 'broken' : verdict.void.length > 0 ? 'void' : 'clean',
    items: figures.items,
    states: figures.states,
    shareReady: round(figures.shareReady, 4),
    makespanSeconds: round(figures.makespanMs / 1000),
    proxmoxCallsPerItem: round(figures.proxmoxCalls / figures.items),
    makespanRatio: round(figures.makespanMs / reference.makespanMs),
    callsRatio: round(figures.proxmoxCalls / reference.proxmoxCalls),
    afterLastActionSeconds: round(figures.afterLastActionMs / 1000),
    kills: figures.kills,
    killsLanded: figures.killsLanded,
    replacedSeconds: spreadOf(figures.replacedMs),
    goesOnSeconds: spreadOf(figures.goneOn.map(({ ms }) => ms)),
    goesOnSecondsOf: byStep(figures.goneOn),
    restarts: figures.restarts.map(({ runs, ms }) => ({ runs, seconds: round(ms / 1000) })),
    collisions: verdict.collisions,
    foreignWrites: verdict.foreignWrites,
    left: verdict.leftItems.length,
    faults: verdict.counts.faults,
    foreignActions: verdict.counts.foreignActions,
    findings: verdict.findings,
    missing: verdict.missing,
    wrong,
    void: verdict.void,
    window: await smallestWindow(campaign),
    ...(isClean ? {} : { folder }),
  };
  if (!isClean) {
    say(`seed ${options.seed} of ${schedule} at ${report.commit} is not clean; everything is in ${folder}`);
    for (const { rule, line, detail } of verdict.findings) say(`  ${rule} (line ${line}): ${detail}`);
    for (const { machine, vmid, what } of verdict.missing)
      say(`  missing: ${machine} (VMID ${vmid}) has no ${what}`);
    for (const sentence of wrong) say(`  ${sentence}`);
    for (const line of report.window) say(`  ${line}`);
  }
  return report;
}

function byStep(goneOn: readonly GoneOn[]): Readonly<Record<string, ReturnType<typeof spreadOf>>> {
  const steps = new Map<string, number[]>();
  for (const { step, ms } of goneOn) steps.set(step, [...(steps.get(step) ?? []), ms]);
  return Object.fromEntries([...steps].map(([step, all]) => [step, spreadOf(all)]));
}

const spreadOf = (ms: readonly number[]) => ({
  count: ms.length,
  p50: round(percentile(ms, 0.5) / 1000),
  p95: round(percentile(ms, 0.95) / 1000),
  max: round(percentile(ms, 1) / 1000),
});
