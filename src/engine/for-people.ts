import type { ErrorRecord } from '../core/errors.js';
import type { EffectRow, LoadedRun, StepRow } from '../ports/run-store.js';

const SHOWN = 8;

/**
 * What a person reads when a step waits for one: the cause as it was thrown (its message, its evidence in `facts`), and behind its own hint
 * what of the machine is left outside and the command that goes on.
 */
export function forPeople(
  cause: ErrorRecord,
  at: Pick<LoadedRun, 'run' | 'effects'>,
  step: StepRow,
): ErrorRecord {
  const left = at.effects.toSorted((a, b) => b.seq - a.seq).map(spoken);
  const retry = `hatchery run retry ${at.run.id}`;
  const hint = [
    sentence(cause.hint),
    left.length === 0 ? 'Nothing of it is left outside.' : `Left outside: ${shown(left)}.`,
    cause.hint?.includes(retry) === true ? undefined : `When it is mended: ${retry}`,
  ];
  return {
    code: cause.code,
    message: cause.message,
    hint: hint.filter((part) => part !== undefined).join(' '),
    facts: { ...cause.facts, step: step.key, left, ...(cause.hint !== undefined && { advice: cause.hint }) },
  };
}

/** The cause behind such a text: what is said of others that would meet the same. */
export function causeOf({ code, message, facts = {} }: ErrorRecord): ErrorRecord {
  const { step: _step, left: _left, advice, ...own } = facts;
  return { code, message, facts: own, ...(typeof advice === 'string' && { hint: advice }) };
}

/** Made, or only meant to be: what is not confirmed may be there. */
const spoken = ({ kind, key, system, state }: EffectRow): string =>
  `${kind} ${key} of ${system}${state === 'intended' ? ' (perhaps)' : ''}`;

const shown = (left: readonly string[]): string =>
  left.length <= SHOWN
    ? left.join(', ')
    : `${left.slice(0, SHOWN).join(', ')} and ${left.length - SHOWN} more`;

const sentence = (hint: string | undefined): string | undefined =>
  hint === undefined || /[.!?]$/.test(hint) ? hint : `${hint}.`;
