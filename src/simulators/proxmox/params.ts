import { parameterErrors, type RawParams } from './wire.js';

export interface ParamSpec {
  readonly type: 'string' | 'integer' | 'number' | 'boolean';
  readonly optional?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly pattern?: RegExp;
  readonly enum?: readonly string[];
  /** Gives the error text of a bad value. */
  readonly format?: (value: string) => string | undefined;
}
/** By name; `net[n]` stands for net0, net1, ... */
export type ParamSpecs = Readonly<Record<string, ParamSpec>>;

/** Checked parameters of one call. */
export class Params {
  constructor(private readonly values: ReadonlyMap<string, string>) {}

  has(key: string): boolean {
    return this.values.has(key);
  }
  text(key: string): string | undefined {
    return this.values.get(key);
  }
  /** A parameter that the specification requires. */
  need(key: string): string {
    const value = this.values.get(key);
    if (value === undefined) throw parameterErrors({ [key]: 'property is missing and it is not optional' });
    return value;
  }
  number(key: string): number | undefined {
    const value = this.values.get(key);
    return value === undefined ? undefined : Number(value);
  }
  flag(key: string): boolean | undefined {
    const value = this.values.get(key);
    return value === undefined ? undefined : value === '1';
  }
  entries(): [string, string][] {
    return [...this.values];
  }
}

/** Checks everything and reports every failing parameter together, as the real API does. `fromPath` are the parts of the URI. */
export function checkParams(
  specs: ParamSpecs,
  raw: RawParams,
  fromPath: Readonly<Record<string, string>>,
): Params {
  const errors: Record<string, string> = {};
  const values = new Map<string, string>();
  for (const [key, list] of raw) {
    const value = list.join(',');
    const spec = specOf(specs, key);
    if (key in fromPath) {
      if (fromPath[key] !== value)
        errors[key] = 'duplicate parameter (already defined in URI) with conflicting values!';
    } else if (!spec) {
      errors[key] = 'property is not defined in schema and the schema does not allow additional properties';
    } else {
      const problem = problemOf(spec, value);
      if (problem === undefined) values.set(key, value);
      else errors[key] = problem;
    }
  }
  for (const [key, spec] of Object.entries(specs))
    if (!spec.optional && !key.includes('[') && !raw.has(key))
      errors[key] = 'property is missing and it is not optional';
  for (const [key, value] of Object.entries(fromPath)) {
    if (key === 'vmid') {
      const problem = problemOf(VMID, value);
      if (problem !== undefined) errors[key] = problem;
    }
  }
  if (Object.keys(errors).length > 0) throw parameterErrors(errors);
  return new Params(values);
}

function specOf(specs: ParamSpecs, key: string): ParamSpec | undefined {
  if (Object.hasOwn(specs, key)) return specs[key];
  const indexed = key.replace(/[0-9]+$/, '[n]');
  return indexed !== key && Object.hasOwn(specs, indexed) ? specs[indexed] : undefined;
}

function problemOf(spec: ParamSpec, value: string): string | undefined {
  const typeError = `type check ('${spec.type}') failed - got '${value}'`;
  if (spec.type === 'boolean') return /^[01]$/.test(value) ? undefined : typeError;
  if (spec.type === 'integer' && !/^[+-]?[0-9]+$/.test(value)) return typeError;
  if (spec.type === 'number' && !/^[+-]?[0-9]+(\.[0-9]+)?$/.test(value)) return typeError;
  if (spec.minimum !== undefined && Number(value) < spec.minimum)
    return `value must have a minimum value of ${spec.minimum}`;
  if (spec.maximum !== undefined && Number(value) > spec.maximum)
    return `value must have a maximum value of ${spec.maximum}`;
  if (spec.maxLength !== undefined && value.length > spec.maxLength)
    return `value may only be ${spec.maxLength} characters long`;
  if (spec.enum && !spec.enum.includes(value))
    return `value '${value}' does not have a value in the enumeration '${spec.enum.join(', ')}'`;
  if (spec.pattern && !spec.pattern.test(value)) return 'value does not match the regex pattern';
  return spec.format?.(value);
}

const DNS_NAME = /^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*$/;

export const TEXT: ParamSpec = { type: 'string' };
export const OPTIONAL_TEXT: ParamSpec = { type: 'string', optional: true };
export const OPTIONAL_FLAG: ParamSpec = { type: 'boolean', optional: true };
export const VMID: ParamSpec = { type: 'integer', minimum: 100, maximum: 999_999_999 };
export const OPTIONAL_COUNT: ParamSpec = { type: 'integer', optional: true, minimum: 0 };
export const OPTIONAL_DNS_NAME: ParamSpec = {
  type: 'string',
  optional: true,
  format: (value) =>
    DNS_NAME.test(value) ? undefined : 'invalid format - value does not look like a valid DNS name\n',
};
export const OPTIONAL_DESCRIPTION: ParamSpec = { type: 'string', optional: true, maxLength: 8192 };
