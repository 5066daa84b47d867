import type { Expression } from './expression.js';

/** A value of `with:`: a literal, an expression, or a map or list of them. */
export type Template =
  | { readonly literal: string | number | boolean | null }
  | { readonly expression: Expression }
  | { readonly map: Readonly<Record<string, Template>> }
  | { readonly list: readonly Template[] };

export type OnFailure = 'undo' | 'park' | 'continue';

export interface CompiledStep {
  readonly key: string;
  readonly uses: string;
  readonly version: number;
  readonly needs: readonly string[];
  readonly if?: Expression;
  readonly with: Readonly<Record<string, Template>>;
  readonly timeoutMs: number;
  readonly deadlineMs?: number;
  readonly retry: { readonly attempts: number; readonly firstMs: number; readonly maxMs: number };
  readonly onFailure: OnFailure;
  /** Steps on the longest way from here to the end, itself included: what is nearest to its end goes first. */
  readonly rank: number;
}

/** A workflow as runs keep it. `version` = sha256 of the canonical definition. Steps stand in an order that respects `needs`. */
export interface CompiledPlan {
  readonly workflow: string;
  readonly version: string;
  readonly steps: readonly CompiledStep[];
}
