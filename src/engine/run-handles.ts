import { HatcheryError } from '../core/errors.js';
import type { EffectLook } from '../plan/step.js';
import { plainCall } from '../ports/call.js';
import type { BatchStore } from '../ports/batch-store.js';
import type { LoadedRun } from '../ports/run-store.js';
import { machineOf } from './claimed.js';
import { changeRun, type EngineParts } from './engine.js';
import { ownerOf, type Actor } from './intake.js';
import type { RunModel } from './run-model.js';

/** A look at the remote side has to end within this time. */
const LOOK_MS = 30_000;

/**
 * What people do to one run that does not go on by itself. Each is one transaction under the run's row lock, with its audit line.
 * Errors: `not-found`, `not-applicable` with the reason and what to do instead.
 */
export class RunHandles {
  constructor(
    private readonly parts: EngineParts,
    private readonly batches: Pick<BatchStore, 'findRun'>,
  ) {}

  /** Nothing more is made, and what was made is undone. Of a ready machine: deletes it. */
  async cancel(runId: string, actor: Actor): Promise<void> {
    if (!(await this.batches.findRun(runId, ownerOf(actor)))) throw noRun(runId);
    await this.change(runId, (model, { run }) => {
      if (run.state === 'cancelled' || run.state === 'failed')
        throw new HatcheryError(
          'not-applicable',
          `Unable to cancel run ${runId}: it is over (${run.state}), and nothing of it is left`,
          { hint: `Look at it: hatchery run show ${runId}` },
        );
      model.wantGone();
      model.audit({ actor: actor.login, action: 'run.cancel', detail: {} });
    });
  }

  /** Goes on without a parked step. */
  async skip(runId: string, step: string, reason: string, actor: Actor): Promise<void> {
    await this.change(runId, (model) => {
      model.skip(step);
      model.audit({ actor: actor.login, action: 'run.skip', detail: { step, reason } });
    });
  }

  /** Lets go of an effect: it stays outside, and is listed as such. */
  async release(runId: string, effectId: string, reason: string, actor: Actor): Promise<void> {
    await this.change(runId, (model, { effects }) => {
      model.releaseEffect(effectId, { by: actor.login, why: reason });
      model.audit({
        actor: actor.login,
        action: 'run.release',
        detail: { ...nameOf(effects, effectId), reason },
      });
    });
  }

  /**
   * Takes what is outside as the thing that an effect names, when a read proves that it is ours. Gives the proof.
   * Errors besides: `foreign-guest`, `outcome-unknown`, and those of the read.
   */
  async adopt(runId: string, effectId: string, reason: string, actor: Actor): Promise<{ proof: string }> {
    const look = await this.look(runId, effectId);
    if (look.found !== 'ours') throw unproven(runId, effectId, look);
    await this.change(runId, (model, { effects }) => {
      model.adoptEffect(effectId, look.facts ?? {}, { by: actor.login, why: reason });
      model.audit({
        actor: actor.login,
        action: 'run.adopt',
        detail: { ...nameOf(effects, effectId), reason, proof: look.proof },
      });
    });
    return { proof: look.proof };
  }

  private async look(runId: string, effectId: string): Promise<EffectLook> {
    const { parts } = this;
    const at = await this.change(runId, (_model, loaded) => ({
      effect: loaded.effects.find(({ id }) => id === effectId),
      machine: machineOf(parts.deployment, loaded),
    }));
    if (!at.effect)
      throw new HatcheryError(
        'not-found',
        `Unable to adopt effect ${effectId}: run ${runId} holds no such thing outside`,
        { hint: `What it holds: hatchery run show ${runId}` },
      );
    const { kind, version, key, payload } = at.effect;
    const definition = parts.effects.get(`${kind}@${version}`);
    if (!definition)
      throw new HatcheryError(
        'unknown-step',
        `Unable to adopt ${kind} ${key}: this build does not know its version ${version}`,
        { hint: 'Ask an API of the newer build.' },
      );
    const call = plainCall(AbortSignal.timeout(LOOK_MS));
    return definition.look(definition.payload.parse(payload), parts.ports, { machine: at.machine, call });
  }

  private async change<T>(runId: string, work: (model: RunModel, loaded: LoadedRun) => T): Promise<T> {
    const done = await changeRun(this.parts, { runId }, (model, loaded) => ({ value: work(model, loaded) }));
    if (!done) throw noRun(runId);
    return done.value;
  }
}

const noRun = (runId: string): HatcheryError =>
  new HatcheryError('not-found', `Unable to find run ${runId}: there is none of that id among yours`, {
    hint: 'List them: hatchery run list',
  });

const nameOf = (
  effects: readonly { id: string; kind: string; system: string; key: string }[],
  effectId: string,
): object => {
  const { kind, system, key } = effects.find(({ id }) => id === effectId)!;
  return { effect: effectId, kind, system, key };
};

function unproven(
  runId: string,
  effectId: string,
  look: Exclude<EffectLook, { found: 'ours' }>,
): HatcheryError {
  const what = `Unable to adopt effect ${effectId}`;
  if (look.found === 'nothing')
    return new HatcheryError('not-applicable', `${what}: nothing of it is there`, {
      hint: `Let the run look itself: hatchery run retry ${runId}`,
    });
  if (look.found === 'foreign')
    return new HatcheryError('foreign-guest', `${what}: ${look.why}`, {
      hint: `Only what carries our mark is ours. To leave it where it is: hatchery run release ${runId} ${effectId} --reason TEXT`,
    });
  return new HatcheryError('outcome-unknown', `${what}: it cannot be told whose it is now (${look.why})`, {
    hint: 'Try again in a moment.',
  });
}
