import { createHash } from 'node:crypto';
import { LineCounter, isMap, isScalar, isSeq, parseDocument, type Node, type ParsedNode } from 'yaml';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { machineInput } from '../core/machine.js';
import type { CompiledPlan, CompiledStep, OnFailure, Template } from './compiled-plan.js';
import { ExpressionError, evaluate, parseExpression, references, type Expression } from './expression.js';
import { durationMs, type AnyStep } from './step.js';

/** The input types that a workflow may name. */
const INPUT_TYPES: Readonly<Record<string, z.ZodType>> = { Machine: machineInput };

const STEP_KEYS = ['uses', 'needs', 'with', 'if', 'timeout', 'deadline', 'retry', 'onFailure'];
const NAME = /^[a-z][a-z0-9-]{0,62}$/;
const EXPRESSION = /^\s*\$\{\{(.*)\}\}\s*$/s;

type JsonSchema = { properties?: Record<string, JsonSchema>; required?: string[]; anyOf?: JsonSchema[] };

/** Follows a path through a JSON schema; `undefined` when a name on the way is not declared. */
function hasPath(schema: JsonSchema, path: readonly string[]): boolean {
  if (path.length === 0) return true;
  const options = schema.anyOf ?? [schema];
  return options.some((option) => {
    const next = option.properties?.[path[0]!];
    return next !== undefined && hasPath(next, path.slice(1));
  });
}

const jsonSchema = (type: z.ZodType): JsonSchema =>
  z.toJSONSchema(type, { unrepresentable: 'any', io: 'input' }) as JsonSchema;

/**
 * Reads one workflow file into the plan that runs keep.
 * Errors: `settings-invalid` whose problems each say file:line:column and what to write; all of them at once.
 */
export function compileWorkflow(
  file: string,
  text: string,
  registry: ReadonlyMap<string, AnyStep>,
): CompiledPlan {
  return new WorkflowReader(file, text, registry).read();
}

class WorkflowReader {
  private readonly lines = new LineCounter();
  private readonly problems: { detail: string; place: string; code: string }[] = [];

  constructor(
    private readonly file: string,
    private readonly text: string,
    private readonly registry: ReadonlyMap<string, AnyStep>,
  ) {}

  read(): CompiledPlan {
    const document = parseDocument(this.text, { lineCounter: this.lines, uniqueKeys: true, version: '1.2' });
    for (const error of document.errors) this.report(error.pos[0], error.message.split('\n')[0]!);
    this.stopOnProblems();
    const root = document.contents;
    if (!isMap(root)) {
      this.report(0, 'write a map with id, inputs and steps');
      return this.refuse();
    }
    const id = root.get('id');
    if (typeof id !== 'string' || !NAME.test(id))
      this.reportAt(
        this.child(root, 'id') ?? root,
        'write id: a name of lower-case letters, digits and hyphens',
      );
    const inputs = this.readInputs(this.child(root, 'inputs') ?? root);
    const stepsNode = this.child(root, 'steps');
    if (!isMap(stepsNode) || stepsNode.items.length === 0) {
      this.reportAt(stepsNode ?? root, 'write steps: a map of at least one step');
      return this.refuse();
    }
    const nodes = new Map<string, ParsedNode>();
    for (const item of stepsNode.items) {
      const key = isScalar(item.key) ? String(item.key.value) : '';
      if (!NAME.test(key))
        this.reportAt(item.key, `"${key}" is not a step name: write lower-case letters, digits and hyphens`);
      else nodes.set(key, item.value as ParsedNode);
    }
    const drafts = [...nodes].map(([key, node]) => this.readStep(key, node, nodes));
    this.stopOnProblems();
    const ordered = this.order(
      drafts.filter((draft) => draft !== undefined),
      nodes,
    );
    this.stopOnProblems();
    for (const step of ordered) this.checkReferences(step, ordered, inputs, nodes.get(step.key)!);
    this.stopOnProblems();
    const canonical = JSON.stringify(canonicalise(document.toJS()));
    const stepVersions = ordered.map((step) => `${step.uses}@${step.version}`).join(',');
    return {
      workflow: String(id),
      version: createHash('sha256').update(canonical).update(stepVersions).digest('hex'),
      steps: ordered,
    };
  }

  private readInputs(node: Node): Map<string, z.ZodType> {
    const inputs = new Map<string, z.ZodType>();
    if (!isMap(node)) {
      this.reportAt(node, 'write inputs: { machine: Machine }');
      return inputs;
    }
    for (const item of node.items) {
      const name = isScalar(item.key) ? String(item.key.value) : '';
      const type = isScalar(item.value) ? String(item.value.value) : '';
      const known = INPUT_TYPES[type];
      if (known) inputs.set(name, known);
      else
        this.reportAt(
          item.key,
          `input "${name}" has the unknown type "${type}": write ${Object.keys(INPUT_TYPES).join(' or ')}`,
        );
    }
    return inputs;
  }

  private readStep(
    key: string,
    node: ParsedNode,
    all: ReadonlyMap<string, ParsedNode>,
  ): CompiledStep | undefined {
    if (!isMap(node)) return this.reportAt(node, `write step "${key}" as a map with uses`);
    for (const item of node.items) {
      const name = isScalar(item.key) ? String(item.key.value) : '';
      if (!STEP_KEYS.includes(name))
        this.reportAt(item.key, `"${name}" is not a key of a step: write one of ${STEP_KEYS.join(', ')}`);
    }
    const uses = node.get('uses');
    const definition = typeof uses === 'string' ? this.registry.get(uses) : undefined;
    if (!definition)
      return this.reportAt(
        this.child(node, 'uses') ?? node,
        `step "${key}" uses "${String(uses)}", which is no step: write one of ${[...this.registry.keys()].sort().join(', ')}`,
      );
    const needs = this.readNeeds(node, all);
    const withTemplates = this.readWith(key, node, definition);
    const condition = this.readIf(node);
    const timeoutMs = this.readDuration(node, 'timeout') ?? durationMs(definition.timeout);
    const deadlineMs =
      this.readDuration(node, 'deadline') ??
      (definition.deadline === undefined ? undefined : durationMs(definition.deadline));
    return {
      key,
      uses: definition.id,
      version: definition.version,
      needs,
      ...(condition === undefined ? {} : { if: condition }),
      with: withTemplates,
      timeoutMs,
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
      retry: this.readRetry(node, definition),
      onFailure: this.readOnFailure(node),
      rank: 1,
    };
  }

  private readNeeds(node: Node, all: ReadonlyMap<string, ParsedNode>): string[] {
    const list = isMap(node) ? this.child(node, 'needs') : undefined;
    if (list === undefined) return [];
    if (!isSeq(list)) {
      this.reportAt(list, 'write needs as a list of step names');
      return [];
    }
    return list.items.map((item) => {
      const name = isScalar(item) ? String(item.value) : '';
      if (!all.has(name)) this.reportAt(item as Node, `needs "${name}", which is no step of this workflow`);
      return name;
    });
  }

  private readWith(key: string, node: Node, definition: AnyStep): Record<string, Template> {
    const given = isMap(node) ? this.child(node, 'with') : undefined;
    const templates: Record<string, Template> = {};
    if (given !== undefined && !isMap(given)) this.reportAt(given, `write with of step "${key}" as a map`);
    const declared = jsonSchema(definition.input as z.ZodType);
    if (isMap(given)) {
      for (const item of given.items) {
        const name = isScalar(item.key) ? String(item.key.value) : '';
        if (!(name in (declared.properties ?? {})))
          this.reportAt(
            item.key,
            `step "${definition.id}" has no input "${name}": write one of ${Object.keys(declared.properties ?? {}).join(', ')}`,
          );
        templates[name] = this.readTemplate(item.value as ParsedNode);
      }
    }
    for (const name of declared.required ?? [])
      if (!(name in templates))
        this.reportAt(node, `step "${key}" lacks the input "${name}" of "${definition.id}"`);
    return templates;
  }

  private readTemplate(node: ParsedNode | null): Template {
    if (node === null) return { literal: null };
    if (isMap(node))
      return {
        map: Object.fromEntries(
          node.items.map((item) => [
            String(isScalar(item.key) ? item.key.value : ''),
            this.readTemplate(item.value as ParsedNode),
          ]),
        ),
      };
    if (isSeq(node)) return { list: node.items.map((item) => this.readTemplate(item as ParsedNode)) };
    const value = isScalar(node) ? node.value : null;
    if (typeof value === 'string' && value.includes('${{')) {
      const expression = this.readExpression(node, value);
      return expression === undefined ? { literal: null } : { expression };
    }
    return { literal: value as string | number | boolean | null };
  }

  private readIf(node: Node): Expression | undefined {
    const given = isMap(node) ? this.child(node, 'if') : undefined;
    if (given === undefined) return undefined;
    const value = isScalar(given) ? given.value : undefined;
    return this.readExpression(given, String(value));
  }

  private readExpression(node: Node, text: string): Expression | undefined {
    const inner = EXPRESSION.exec(text)?.[1];
    if (inner === undefined) return this.reportAt(node, 'write one expression alone: "${{ ... }}"');
    try {
      return parseExpression(inner);
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      return this.reportAt(node, `the expression is wrong: ${error.message}`);
    }
  }

  private readDuration(node: Node, name: string): number | undefined {
    const given = isMap(node) ? this.child(node, name) : undefined;
    if (given === undefined) return undefined;
    try {
      return durationMs(String(isScalar(given) ? given.value : ''));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return this.reportAt(given, error.message);
    }
  }

  private readRetry(node: Node, definition: AnyStep): CompiledStep['retry'] {
    const own = {
      attempts: definition.retry.attempts,
      firstMs: durationMs(definition.retry.first),
      maxMs: durationMs(definition.retry.max),
    };
    const given = isMap(node) ? this.child(node, 'retry') : undefined;
    if (given === undefined) return own;
    const attempts: unknown = isMap(given) ? (given.get('attempts') ?? own.attempts) : undefined;
    if (!isMap(given) || typeof attempts !== 'number' || attempts < 1) {
      this.reportAt(given, 'write retry: { attempts: 4, first: 2s, max: 1m }');
      return own;
    }
    return {
      attempts,
      firstMs: this.readDuration(given, 'first') ?? own.firstMs,
      maxMs: this.readDuration(given, 'max') ?? own.maxMs,
    };
  }

  private readOnFailure(node: Node): OnFailure {
    const given = isMap(node) ? node.get('onFailure') : undefined;
    if (given === undefined) return 'park';
    if (given === 'undo' || given === 'park' || given === 'continue') return given;
    this.reportAt(
      isMap(node) ? (this.child(node, 'onFailure') ?? node) : node,
      'write onFailure: undo, park or continue',
    );
    return 'park';
  }

  private order(drafts: readonly CompiledStep[], nodes: ReadonlyMap<string, ParsedNode>): CompiledStep[] {
    const ordered: CompiledStep[] = [];
    const left = new Map(drafts.map((step) => [step.key, step]));
    while (left.size > 0) {
      const next = [...left.values()].find((step) => step.needs.every((need) => !left.has(need)));
      if (!next) {
        const [first] = left.keys();
        this.reportAt(nodes.get(first!)!, `the needs of ${[...left.keys()].join(', ')} go round in a circle`);
        return ordered;
      }
      left.delete(next.key);
      ordered.push(next);
    }
    const ranks = new Map<string, number>();
    for (const step of ordered.toReversed()) {
      const after = ordered
        .filter((other) => other.needs.includes(step.key))
        .map((other) => ranks.get(other.key) ?? 0);
      ranks.set(step.key, 1 + Math.max(0, ...after));
    }
    return ordered.map((step) => ({ ...step, rank: ranks.get(step.key)! }));
  }

  private checkReferences(
    step: CompiledStep,
    all: readonly CompiledStep[],
    inputs: ReadonlyMap<string, z.ZodType>,
    node: Node,
  ): void {
    const before = ancestors(step, all);
    const expressions = [
      ...(step.if === undefined ? [] : [step.if]),
      ...Object.values(step.with).flatMap(expressionsOf),
    ];
    for (const path of expressions.flatMap(references)) {
      const [root, name, ...rest] = path;
      const text = path.join('.');
      if (root === 'inputs' && name !== undefined) {
        const type = inputs.get(name);
        if (!type || !hasPath(jsonSchema(type), rest))
          this.reportAt(node, `"${text}" is no input of this workflow`);
      } else if (root === 'steps' && name !== undefined) {
        const source = all.find((other) => other.key === name);
        if (!source) this.reportAt(node, `"${text}": there is no step "${name}"`);
        else if (!before.has(name))
          this.reportAt(node, `"${text}": step "${step.key}" must need "${name}" to use its output`);
        else if (!hasPath(jsonSchema(this.registry.get(source.uses)!.output as z.ZodType), rest))
          this.reportAt(node, `"${text}" is no output of "${source.uses}"`);
      } else this.reportAt(node, `"${text}": a reference begins with inputs. or steps.`);
    }
  }

  private child(node: Node | null, key: string): ParsedNode | undefined {
    if (!isMap(node)) return undefined;
    return (node.get(key, true) as ParsedNode | undefined) ?? undefined;
  }

  private reportAt(node: unknown, detail: string): undefined {
    const range = (node as { range?: [number, number, number] } | null)?.range;
    this.report(range?.[0] ?? 0, detail);
  }

  private report(offset: number, detail: string): void {
    const { line, col } = this.lines.linePos(offset);
    this.problems.push({ code: 'workflow', place: `${this.file}:${line}:${col}`, detail });
  }

  private stopOnProblems(): void {
    if (this.problems.length > 0) this.refuse();
  }

  private refuse(): never {
    const sentences = this.problems.map((problem) => `${problem.place}: ${problem.detail}`);
    throw new HatcheryError(
      'settings-invalid',
      `Unable to use workflow ${this.file}: ${sentences.join('; ')}`,
      {
        problems: this.problems.map((problem) => ({
          code: problem.code,
          detail: `${problem.place}: ${problem.detail}`,
        })),
        hint: 'Mend the file and start again.',
      },
    );
  }
}

function ancestors(step: CompiledStep, all: readonly CompiledStep[]): Set<string> {
  const found = new Set<string>();
  const visit = (key: string): void => {
    if (found.has(key)) return;
    found.add(key);
    all.find((other) => other.key === key)?.needs.forEach(visit);
  };
  step.needs.forEach(visit);
  return found;
}

function expressionsOf(template: Template): Expression[] {
  if ('expression' in template) return [template.expression];
  if ('map' in template) return Object.values(template.map).flatMap(expressionsOf);
  if ('list' in template) return template.list.flatMap(expressionsOf);
  return [];
}

function canonicalise(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonicalise);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(
      Object.entries(value)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, inner]) => [key, canonicalise(inner)]),
    );
  return value;
}

/** The steps whose outputs this one is given or asks about. */
export const outputsUsedBy = (step: CompiledStep): readonly string[] =>
  [...(step.if === undefined ? [] : [step.if]), ...Object.values(step.with).flatMap(expressionsOf)]
    .flatMap(references)
    .flatMap(([root, name]) => (root === 'steps' && name !== undefined ? [name] : []));

/** The value of a `with:` template. */
export function render(template: Template, scope: Readonly<Record<string, unknown>>): unknown {
  if ('literal' in template) return template.literal;
  if ('expression' in template) return evaluate(template.expression, scope);
  if ('map' in template)
    return Object.fromEntries(
      Object.entries(template.map).map(([key, inner]) => [key, render(inner, scope)]),
    );
  return template.list.map((inner) => render(inner, scope));
}
