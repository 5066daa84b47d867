import { z } from 'zod';
import { slug } from '../slug.js';

/**
 * A hook that an administrator registered: `hooks/<name>.yaml` with its script beside it. It runs at the first start of a container. In the
 * container `arguments` (one JSON object) and, with `reports`, `report` stand beside it; on the node their paths are its first words.
 */
export const hookSchema = z.strictObject({
  name: slug,
  /** `mount`: on the node, as the container's root, before its first process; `start`: in the container, before its first process. */
  phase: z.enum(['mount', 'start']),
  /** Relative to the YAML file. */
  script: z.strictObject({ file: z.string().min(1) }),
  /** Of the script, hex: a script that changed is not run until somebody looks at it and writes the new hash. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'write the SHA-256 of the script, as sha256sum prints it'),
  /** Names of the arguments that a blueprint must give. */
  arguments: z
    .array(z.string().regex(/^[a-z][a-zA-Z0-9]{0,63}$/, 'write a name such as labName'))
    .default([]),
  /** It writes how far it is into its report: the run waits for `done`. */
  reports: z.boolean().default(false),
});
export type HookDefinition = z.infer<typeof hookSchema>;

/** Text that a hook gets as data: one line, no control characters. */
export const hookArgument = z
  .string()
  .max(1024)
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  .regex(/^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$/, 'write one line without control characters');

/** A hook as a blueprint asks for it. */
export const hookUseSchema = z.strictObject({
  hook: slug,
  arguments: z.record(z.string(), hookArgument).default({}),
});

/** What is wrong with the arguments of a use; `undefined` = they are those that the hook declares. */
export function argumentsProblem(
  hook: HookDefinition,
  given: Readonly<Record<string, string>>,
): string | undefined {
  const missing = hook.arguments.filter((name) => !Object.hasOwn(given, name));
  if (missing.length > 0) return `the hook ${hook.name} needs ${missing.join(', ')}`;
  const unknown = Object.keys(given).filter((name) => !hook.arguments.includes(name));
  return unknown.length > 0 ? `the hook ${hook.name} has no ${unknown.join(', ')}` : undefined;
}
