import { readFileSync } from 'node:fs';
import { isMap, isNode, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import type { z } from 'zod';
import type { Problem } from '../../core/errors.js';

type Path = readonly PropertyKey[];

/** One YAML file of a site: read strictly, with a place for every complaint. */
export class YamlFile {
  readonly problems: Problem[] = [];
  readonly text: string;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;

  constructor(readonly path: string) {
    this.text = readFileSync(path, 'utf8');
    this.document = parseDocument(this.text, {
      version: '1.2',
      schema: 'core',
      uniqueKeys: true,
      lineCounter: this.lines,
    });
    for (const error of this.document.errors)
      this.complain(this.at(error.pos[0]), `${firstLine(error.message)}: write valid YAML 1.2`);
  }

  /** The content as `schema` has it, or `undefined` with the reasons in `problems`. */
  read<S extends z.ZodType>(schema: S): z.output<S> | undefined {
    if (this.problems.length > 0) return undefined;
    const value = this.plainValue();
    if (this.problems.length > 0) return undefined;
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    for (const issue of result.error.issues) this.complainAbout(issue, value);
    return undefined;
  }

  /** Adds a complaint about the value at `path`. */
  refuse(path: Path, sentence: string): void {
    this.complain(this.placeOf(path), path.length === 0 ? sentence : `${path.join('.')}: ${sentence}`);
  }

  private plainValue(): unknown {
    try {
      // Aliases multiply: a file of ten lines can unfold to gigabytes.
      return this.document.toJS({ maxAliasCount: 100 });
    } catch (error) {
      this.complain('1:1', `${error instanceof Error ? error.message : String(error)}: write fewer aliases`);
      return undefined;
    }
  }

  private complainAbout(issue: z.core.$ZodIssue, value: unknown): void {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys)
        this.refuse([...issue.path, key], 'is not known here: remove it or correct its name');
      return;
    }
    const found = valueAt(value, issue.path);
    const isSecret = ['secret', 'password', 'privateKey'].includes(String(issue.path.at(-1)));
    if (isSecret && typeof found === 'string')
      this.refuse(issue.path, 'a secret must not stand in this file: write { file: path } or { env: NAME }');
    else if (isSecret) this.refuse(issue.path, 'write { file: path } or { env: NAME }');
    else this.refuse(issue.path, found === undefined ? `is missing (${issue.message})` : issue.message);
  }

  private complain(place: string, sentence: string): void {
    this.problems.push({ code: 'settings-invalid', detail: `${this.path}:${place}: ${sentence}` });
  }

  private placeOf(path: Path): string {
    for (let length = path.length; length >= 0; length -= 1) {
      const offset = this.offsetOf(path.slice(0, length));
      if (offset !== undefined) return this.at(offset);
    }
    return '1:1';
  }

  private offsetOf(path: Path): number | undefined {
    const parent = path.length === 0 ? undefined : this.document.getIn(path.slice(0, -1), true);
    const pair = isMap(parent)
      ? parent.items.find((item) => isScalar(item.key) && item.key.value === path.at(-1))
      : undefined;
    if (pair && isScalar(pair.key)) return pair.key.range?.[0];
    const node = this.document.getIn(path, true);
    return isNode(node) ? node.range?.[0] : undefined;
  }

  private at(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${line}:${col}`;
  }
}

const firstLine = (message: string): string =>
  (message.split('\n')[0] ?? message).replace(/ at line \d+, column \d+:?$/, '');

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (inner, key) =>
      typeof inner === 'object' && inner !== null ? (inner as Record<PropertyKey, unknown>)[key] : undefined,
    value,
  );
}
