import { HatcheryError } from '../core/errors.js';
import { guardedCall, type Attempt } from './claimed.js';
import { StaleHolder } from './stale-holder.js';
import { underSignal } from './under-signal.js';
import { durationMs, type UndoRun } from '../plan/step.js';
import type { EffectRow } from '../ports/run-store.js';

/**
 * Undoes what one step made, newest effect first. Each effect is closed in Postgres before the next one is touched, so a crash repeats at
 * most one undo, and an undo finds nothing the second time. A shared effect is only let go of while others hold it.
 */
export async function undoEffects(attempt: Attempt): Promise<void> {
  const { parts, claimed, term } = attempt;
  const { held } = claimed;
  const at = { step: claimed.step.key, runId: claimed.runId };
  for (const effect of claimed.effects.toSorted((a, b) => b.seq - a.seq)) {
    const definition = parts.effects.get(`${effect.kind}@${effect.version}`);
    if (!definition)
      throw new HatcheryError(
        'unknown-step',
        `Unable to undo ${effect.kind} ${effect.key}: this build does not know its version ${effect.version}`,
        {
          retry: 'after-fix',
          hint: `Start a worker of the newer build, then: hatchery run retry ${claimed.runId}`,
        },
      );
    const payload: unknown = definition.payload.parse(effect.payload);
    if (effect.shared) {
      const answer = await parts.store.letGo(held, effect.id);
      if (answer.stale) throw new StaleHolder();
      if (!answer.undo) continue;
    }
    await parts.locks.with(
      definition.locks(payload),
      { why: `undo of ${effect.kind} ${effect.key}`, waitMs: parts.times.lockWaitMs, signal: term },
      async (locked) => {
        await parts.checkpoints.reach('K8', at);
        await underSignal([term, locked], durationMs(definition.timeout), async (signal) => {
          const run = undoRun(attempt, effect, signal);
          if (attempt.seat) await attempt.seat.join({ input: payload, run });
          else await definition.undo(payload, parts.ports, run);
        });
        await parts.checkpoints.reach('K8', at);
      },
    );
    if (!(await parts.store.effectUndone(held, effect.id))) throw new StaleHolder();
  }
}

function undoRun(attempt: Attempt, effect: EffectRow, signal: AbortSignal): UndoRun {
  const { parts, claimed } = attempt;
  return {
    runId: claimed.runId,
    machine: claimed.machine,
    call: guardedCall(attempt, signal),
    confirmed: effect.state === 'confirmed',
    intendedAtMs: effect.intendedAtMs,
    remote: Object.fromEntries(Object.entries(claimed.step.remote).map(([key, note]) => [key, note.value])),
    noteVmid: async (note) => {
      if (!(await parts.store.noteVmid(claimed.held, note))) throw new StaleHolder();
    },
  };
}
