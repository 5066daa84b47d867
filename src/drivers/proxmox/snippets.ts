import { parseProperties } from './properties.js';

/** `cicustom` with these volumes by part; parts that are not named stay as they are, and so do the places of those that are. Pure. */
export function withSnippets(cicustom: string, volumes: Readonly<Record<string, string>>): string {
  const parts = cicustom === '' ? new Map<string, string>() : parseProperties(cicustom);
  for (const [part, volume] of Object.entries(volumes)) parts.set(part, volume);
  return [...parts].map(([part, volume]) => `${part}=${volume}`).join(',');
}
