import { HatcheryError } from '../core/errors.js';
import type { TaskRef, TaskVerdict } from '../ports/hypervisor.js';

/** What a task that did not end well means for its step: the driver's reading of its words; without a verdict the next try looks at the state. */
export function taskFailed(
  what: string,
  task: TaskRef,
  verdict: Exclude<TaskVerdict, { verdict: 'ok' }>,
): HatcheryError {
  const facts = { task: task.id };
  const message = `Unable to ${what}: ${verdict.text}`;
  if (verdict.verdict === 'unknown')
    return new HatcheryError('outcome-unknown', message, { retry: 'later', facts });
  return new HatcheryError(verdict.code ?? 'remote-refused', message, {
    retry: verdict.retry ?? 'never',
    facts,
  });
}
