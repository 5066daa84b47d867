/**
 * Expressions of workflow files: references (`inputs.machine.node`, `steps.clone.node`), literals (true, false, null, numbers,
 * 'text' or "text"), `== != && || !` and parentheses. No functions, no arithmetic, no assignment.
 */
export type Expression =
  | { readonly op: 'ref'; readonly path: readonly string[] }
  | { readonly op: 'literal'; readonly value: string | number | boolean | null }
  | { readonly op: '!'; readonly of: Expression }
  | { readonly op: '==' | '!=' | '&&' | '||'; readonly left: Expression; readonly right: Expression };

export class ExpressionError extends Error {
  constructor(
    message: string,
    /** 0-based place in the expression's text. */
    readonly offset: number,
  ) {
    super(message);
  }
}

interface Token {
  readonly kind: 'name' | 'number' | 'text' | 'sign' | 'end';
  readonly text: string;
  readonly offset: number;
}

const TOKEN =
  /\s*(?:([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*)|(-?[0-9]+(?:\.[0-9]+)?)|'([^']*)'|"([^"]*)"|(==|!=|&&|\|\||!|\(|\)))/y;

function tokens(text: string): Token[] {
  const found: Token[] = [];
  let at = 0;
  while (text.slice(at).trim() !== '') {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) throw new ExpressionError(`"${text.slice(at).trim().slice(0, 20)}" is not understood`, at);
    const offset = TOKEN.lastIndex - match[0].trimStart().length;
    const [, name, number, single, double, sign] = match;
    if (name !== undefined) found.push({ kind: 'name', text: name, offset });
    else if (number !== undefined) found.push({ kind: 'number', text: number, offset });
    else if (sign !== undefined) found.push({ kind: 'sign', text: sign, offset });
    else found.push({ kind: 'text', text: single ?? double ?? '', offset });
    at = TOKEN.lastIndex;
  }
  found.push({ kind: 'end', text: '', offset: text.length });
  return found;
}

/** Reads one expression (without its `${{ }}`). Errors: `ExpressionError`. */
export function parseExpression(text: string): Expression {
  const list = tokens(text);
  let position = 0;
  const peek = (): Token => list[position]!;
  const take = (): Token => list[position++]!;
  const isSign = (...signs: string[]): boolean => peek().kind === 'sign' && signs.includes(peek().text);

  const primary = (): Expression => {
    const token = take();
    if (token.kind === 'sign' && token.text === '!') return { op: '!', of: primary() };
    if (token.kind === 'sign' && token.text === '(') {
      const inner = either();
      if (!isSign(')')) throw new ExpressionError('a ")" is missing', peek().offset);
      take();
      return inner;
    }
    if (token.kind === 'number') return { op: 'literal', value: Number(token.text) };
    if (token.kind === 'text') return { op: 'literal', value: token.text };
    if (token.kind === 'name') {
      if (token.text === 'true' || token.text === 'false')
        return { op: 'literal', value: token.text === 'true' };
      if (token.text === 'null') return { op: 'literal', value: null };
      return { op: 'ref', path: token.text.split('.') };
    }
    throw new ExpressionError('a value is missing', token.offset);
  };
  const equality = (): Expression => {
    const left = primary();
    if (!isSign('==', '!=')) return left;
    const op = take().text as '==' | '!=';
    return { op, left, right: primary() };
  };
  const both = (): Expression => {
    let left = equality();
    while (isSign('&&')) {
      take();
      left = { op: '&&', left, right: equality() };
    }
    return left;
  };
  const either = (): Expression => {
    let left = both();
    while (isSign('||')) {
      take();
      left = { op: '||', left, right: both() };
    }
    return left;
  };

  const whole = either();
  if (peek().kind !== 'end') throw new ExpressionError(`"${peek().text}" is one too many`, peek().offset);
  return whole;
}

/** Every reference of an expression, in order. */
export function references(expression: Expression): readonly (readonly string[])[] {
  switch (expression.op) {
    case 'ref':
      return [expression.path];
    case 'literal':
      return [];
    case '!':
      return references(expression.of);
    default:
      return [...references(expression.left), ...references(expression.right)];
  }
}

export const isTruthy = (value: unknown): boolean =>
  value !== undefined && value !== null && value !== false && value !== '' && value !== 0;

/** The value of an expression in `scope`. A reference to what is not there is `null`, e.g. the output of a skipped step. */
export function evaluate(expression: Expression, scope: Readonly<Record<string, unknown>>): unknown {
  switch (expression.op) {
    case 'literal':
      return expression.value;
    case 'ref': {
      let value: unknown = scope;
      for (const name of expression.path) {
        if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return null;
        value = (value as Record<string, unknown>)[name];
      }
      return value ?? null;
    }
    case '!':
      return !isTruthy(evaluate(expression.of, scope));
    case '&&': {
      const left = evaluate(expression.left, scope);
      return isTruthy(left) ? evaluate(expression.right, scope) : left;
    }
    case '||': {
      const left = evaluate(expression.left, scope);
      return isTruthy(left) ? left : evaluate(expression.right, scope);
    }
    case '==':
      return evaluate(expression.left, scope) === evaluate(expression.right, scope);
    case '!=':
      return evaluate(expression.left, scope) !== evaluate(expression.right, scope);
  }
}
