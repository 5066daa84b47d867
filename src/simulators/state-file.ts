import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { HatcheryError } from '../core/errors.js';
import { WORLD_FORMAT, type World } from './world.js';

type Tagged = { readonly $map: [unknown, unknown][] } | { readonly $set: unknown[] };

/** Saves the world at stop (0600: it holds keys and token secrets); whole or not at all. */
export function saveWorld(file: string, world: World): void {
  const draft = `${file}.new`;
  const text = JSON.stringify(world, (_, value: unknown): unknown => {
    if (value instanceof Map) return { $map: [...value] } satisfies Tagged;
    if (value instanceof Set) return { $set: [...value] } satisfies Tagged;
    return value;
  });
  writeFileSync(draft, text, { mode: 0o600 });
  renameSync(draft, file);
}

/** The world that an earlier life saved, or `undefined`. Only files of `saveWorld` are read: nobody else writes them. */
export function loadWorld(file: string): World | undefined {
  if (!existsSync(file)) return undefined;
  const world = JSON.parse(readFileSync(file, 'utf8'), (_, value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    if ('$map' in value) return new Map((value as { $map: [unknown, unknown][] }).$map);
    if ('$set' in value) return new Set((value as { $set: unknown[] }).$set);
    return value;
  }) as World;
  if (world.format !== WORLD_FORMAT)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the world in ${file}: another version of the simulators saved it`,
      { hint: 'Remove the file: a new world is made.' },
    );
  world.life += 1;
  return world;
}
