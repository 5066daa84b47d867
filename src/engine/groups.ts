import type { AnyEffect, AnyStep, Registry } from '../plan/step.js';
import type { StepRow } from '../ports/run-store.js';
import type { GroupRule } from '../ports/step-groups.js';

/*
 * Names of groups: the kind of attempt, then the key that its definition gives, e.g. `allow-mac@1 dhcp:main` or `undo:dhcp-filter@1 dhcp:main`.
 */

export function actGroup(definition: AnyStep | undefined, step: StepRow): string | undefined {
  const key = definition?.coalesce?.key(step.input);
  return key === undefined ? undefined : `${step.uses}@${step.version} ${key}`;
}

export function undoGroup(definition: AnyEffect | undefined, payload: unknown): string | undefined {
  const parsed = definition?.payload.safeParse(payload);
  const key = parsed?.success === true ? definition?.coalesce?.key(parsed.data) : undefined;
  return key === undefined ? undefined : `undo:${definition!.kind}@${definition!.version} ${key}`;
}

/** When the groups of each kind go; `scale` is that of waits which face a remote side. */
export function groupRules(registry: Registry, scale: number): readonly GroupRule[] {
  const rule = (kind: string, { coalesce }: AnyStep | AnyEffect): readonly GroupRule[] =>
    coalesce === undefined ? [] : [{ kind, windowMs: coalesce.windowMs * scale, max: coalesce.max }];
  return [
    ...[...registry.steps.values()].flatMap((step) => rule(`${step.id}@${step.version}`, step)),
    ...[...registry.effects].flatMap(([id, effect]) => rule(`undo:${id}`, effect)),
  ];
}
