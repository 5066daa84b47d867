import type { AssembleOptions } from '../../../src/app/engine/assemble.js';
import type { EngineParts } from '../../../src/engine/engine.js';
import type { AnyStep, EffectDefinition } from '../../../src/plan/step.js';
import type { Hypervisor } from '../../../src/ports/hypervisor.js';
import type { SimulatedSite } from '../../support/simulated-site.js';

/** A build of the product in which one part is another one. Replaced where the parts are put together; the product knows nothing of it. */
export interface Build {
  readonly options?: (options: AssembleOptions) => AssembleOptions;
  readonly parts?: (parts: EngineParts, site: SimulatedSite) => EngineParts;
  /** What stands in the database instead. */
  readonly schema?: string;
}

/** The same object with some members replaced. */
export function replaced<T extends object>(real: T, members: Partial<T>): T {
  return new Proxy(real, {
    get: (target, name) => {
      const other: unknown = Reflect.get(members, name);
      const member: unknown = other ?? Reflect.get(target, name);
      return typeof member === 'function' && other === undefined ? (member.bind(target) as unknown) : member;
    },
  });
}

export const withHypervisor = (
  parts: EngineParts,
  members: (real: Hypervisor) => Partial<Hypervisor>,
): EngineParts => ({
  ...parts,
  ports: {
    ...parts.ports,
    hypervisor: (name) => {
      const real = parts.ports.hypervisor(name);
      return replaced(real, members(real));
    },
  },
});

export const withStep = (
  parts: EngineParts,
  id: string,
  change: (step: AnyStep) => Partial<AnyStep>,
): EngineParts => {
  const step = parts.steps.get(id)!;
  return { ...parts, steps: new Map([...parts.steps, [id, { ...step, ...change(step) }]]) };
};

export const withUndo = (parts: EngineParts, kind: string, undo: EffectDefinition['undo']): EngineParts => {
  const effect = parts.effects.get(kind)!;
  return { ...parts, effects: new Map([...parts.effects, [kind, { ...effect, undo }]]) };
};
