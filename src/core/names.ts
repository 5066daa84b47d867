import { slug } from './slug.js';
import { foldAccents } from './fold-accents.js';

/** Longest DNS label (RFC 1123); a machine name is one label. */
const LABEL_MAX = 63;

/**
 * The machine name of one login, e.g. `vm-{login}` and "Élodie.Du Pré" give `vm-elodie-du-pre`.
 * Always an RFC 1123 label of at most 63 characters; not unique by itself, see `assignNames`.
 */
export function machineName(pattern: string, login: string): string {
  const plain = foldAccents(pattern.replaceAll('{login}', () => login)).toLowerCase();
  const label = trimHyphens(plain.replace(/[^a-z0-9]+/g, '-').slice(0, LABEL_MAX + 1));
  return trimHyphens(label.slice(0, LABEL_MAX)) || 'vm';
}

/**
 * A name for each row, in row order. Logins that fold to one name get `-2`, `-3` ...; names in `taken` are passed over.
 * A row's own name is never given away as the numbered name of another row, so the order of unrelated rows does not matter.
 */
export function assignNames(
  rows: readonly { readonly login: string }[],
  pattern: string,
  taken: ReadonlySet<string>,
): string[] {
  const own = rows.map((row) => machineName(pattern, row.login));
  const wanted = new Set(own);
  const given = new Set<string>();
  const lastNumber = new Map<string, number>();
  return own.map((name) => {
    let candidate = name;
    let number = lastNumber.get(name) ?? 1;
    const isFree = (text: string): boolean =>
      !given.has(text) && !taken.has(text) && (text === name || !wanted.has(text));
    while (!isFree(candidate)) {
      number += 1;
      const suffix = `-${number}`;
      candidate = trimHyphens(name.slice(0, LABEL_MAX - suffix.length)) + suffix;
    }
    lastNumber.set(name, number);
    given.add(candidate);
    return candidate;
  });
}

/** A batch answers to its id and to its name: one must not be taken for the other. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Why `name` cannot name a batch, and what to write instead; `undefined` = it can. */
export function batchNameProblem(name: string): { detail: string; hint: string } | undefined {
  if (UUID.test(name))
    return { detail: 'A batch name must not look like an id.', hint: 'Write a name such as l3-info.' };
  if (slug.safeParse(name).success) return undefined;
  const better = trimHyphens(
    foldAccents(name.slice(0, 200))
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .slice(0, LABEL_MAX),
  );
  return {
    detail: 'A batch name has lower-case letters, digits and inner hyphens, at most 63 characters.',
    hint: better === '' ? 'Write a name such as l3-info.' : `Write ${better}.`,
  };
}

function trimHyphens(text: string): string {
  let from = 0;
  let to = text.length;
  while (from < to && text[from] === '-') from += 1;
  while (to > from && text[to - 1] === '-') to -= 1;
  return text.slice(from, to);
}
