import { HatcheryError } from '../core/errors.js';
import type { AnyEffect, AnyStep, GroupMember, StepPorts, StepRun, UndoRun } from '../plan/step.js';
import type { Call } from '../ports/call.js';
import { claimStep, finishAttempt, newAttempt } from './attempt.js';
import type { Attempt, Claimed } from './claimed.js';
import type { EngineParts } from './engine.js';
import type { Hands } from './hands.js';
import type { WorkerLease } from './lease.js';
import { Meeting } from './meeting.js';
import { StaleHolder } from './stale-holder.js';

/** Each claim is a transaction of its own; the heartbeat needs a connection too. */
const CLAIMS_AT_ONCE = 4;

type ActMember = GroupMember<unknown>;
type UndoMember = GroupMember<unknown, UndoRun>;

/**
 * The attempts of one group: whoever claimed the leader claims what gathers under the same key, each under its own epoch. Everything about them
 * is as in any attempt (locks, intents, time-outs, outcomes), but that they come together to act.
 */
export async function runGroup(
  parts: EngineParts,
  lease: WorkerLease,
  leader: Claimed,
  hands: Hands,
): Promise<void> {
  const attempts = [newAttempt(parts, lease, leader), ...(await claimGathered(parts, lease, leader, hands))];
  const meeting = meetingOf(parts, leader, attempts.length);
  await Promise.all(
    attempts.map(async (attempt) => {
      const seat = meeting.seat();
      try {
        await finishAttempt({ ...attempt, seat });
      } finally {
        seat.leave();
        if (attempt.claimed !== leader) hands.drop(attempt.claimed.held.stepId);
      }
    }),
  );
}

/** Nobody waits for one that cannot be claimed: it gathers on, or is found left behind. */
async function claimGathered(
  parts: EngineParts,
  lease: WorkerLease,
  leader: Claimed,
  hands: Hands,
): Promise<Attempt[]> {
  const groupKey = leader.step.groupKey!;
  const attempts: Attempt[] = [];
  try {
    const waiting = [
      ...(await parts.groups.gathered({ id: leader.step.id, groupKey }, maxOf(parts, leader) - 1)),
    ];
    const claimNext = async (): Promise<void> => {
      for (let stepId = waiting.shift(); stepId !== undefined; stepId = waiting.shift()) {
        hands.take(stepId);
        const claimed = await claimStep(parts, lease, stepId, { isAlone: false, groupKey }).catch(
          (error: unknown) => {
            parts.log.warn({ step: stepId, err: error }, 'a step was not claimed with its group');
          },
        );
        if (claimed === undefined || 'refused' in claimed) hands.drop(stepId);
        else attempts.push(newAttempt(parts, lease, claimed));
      }
    };
    await Promise.all(Array.from({ length: CLAIMS_AT_ONCE }, claimNext));
  } catch (error) {
    parts.log.warn(
      { group: groupKey, err: error },
      'the steps of a group could not be read: its leader goes alone',
    );
  }
  return attempts;
}

function maxOf(parts: EngineParts, leader: Claimed): number {
  return (leader.kind === 'undo' ? effectOf(parts, leader) : stepOf(parts, leader)).coalesce!.max;
}

const stepOf = (parts: EngineParts, { step }: Claimed): AnyStep => parts.steps.get(step.uses)!;
const effectOf = (parts: EngineParts, { effects: [effect] }: Claimed): AnyEffect =>
  parts.effects.get(`${effect!.kind}@${effect!.version}`)!;

function meetingOf(parts: EngineParts, leader: Claimed, seats: number): Meeting<unknown, unknown> {
  if (leader.kind === 'undo') {
    const { undoMany } = effectOf(parts, leader).coalesce!;
    return new Meeting<unknown, unknown>(seats, (members, call) =>
      orEachAlone(members as UndoMember[], call, (some) => undoMany(some, parts.ports, call)),
    );
  }
  const coalesce = stepOf(parts, leader).coalesce!;
  return new Meeting<unknown, unknown>(seats, (members, call) =>
    orEachAlone(members as ActMember[], call, (some) => findThenAct(coalesce, some, parts.ports, call)),
  );
}

/**
 * What is thrown without a code is a fault of ours over one of the members, and the others must not fail for it: each is then done by itself, and
 * found first, for the group's request may have arrived.
 */
async function orEachAlone<M extends GroupMember<unknown, object>>(
  members: readonly M[],
  call: Call,
  act: (members: readonly M[]) => Promise<readonly unknown[]>,
): Promise<readonly unknown[]> {
  try {
    return await act(members);
  } catch (error) {
    const isOfOne = !(error instanceof HatcheryError) && !(error instanceof StaleHolder);
    if (!isOfOne || members.length === 1 || call.signal.aborted) throw error;
  }
  const outcomes: unknown[] = [];
  for (const { input, run } of members)
    outcomes.push(
      await act([{ input, run: { ...run, hasEarlierIntent: true } } as M]).then(
        ([outcome]) => outcome,
        (error: unknown) => error,
      ),
    );
  return outcomes;
}

/** One read answers for all whose request may have arrived before; only what it does not find is sent. */
async function findThenAct(
  { findMany, actMany }: NonNullable<AnyStep['coalesce']>,
  members: readonly ActMember[],
  ports: StepPorts,
  call: Call,
): Promise<readonly unknown[]> {
  const earlier = members.filter(({ run }) => run.hasEarlierIntent);
  const found: readonly unknown[] =
    earlier.length === 0 ? [] : ((await findMany?.(earlier, ports, call)) ?? []);
  const outcomes = new Map<StepRun, unknown>();
  for (const [index, { run }] of earlier.entries())
    if (found[index] !== undefined) outcomes.set(run, found[index]);
  const missing = members.filter(({ run }) => !outcomes.has(run));
  const made: readonly unknown[] = missing.length === 0 ? [] : await actMany(missing, ports, call);
  for (const [index, { run }] of missing.entries()) outcomes.set(run, made[index]);
  return members.map(({ run }) => outcomes.get(run));
}
