import type { Format, Version } from './formats.js';
import type { RawValue } from './wire.js';

export interface ParamSpec {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'array';
  readonly optional?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** Anchored: it must match the whole value. */
  readonly pattern?: RegExp;
  readonly enum?: readonly string[];
  readonly format?: Format;
  /** The value is a list (`,`, `;`, blanks), and `format` holds for each entry. Repeated keys are joined. */
  readonly list?: true;
  /** Of an array: a single value counts as an array of one. */
  readonly items?: ParamSpec;
  /** A property string ("a=1,b=2"); `format` is tested after it. */
  readonly properties?: Readonly<Record<string, PropertySpec>>;
  /** May only be given together with this parameter. */
  readonly requires?: string;
  /** Known to this version only. */
  readonly version?: Version;
}

/** One key of a property string. */
export interface PropertySpec extends ParamSpec {
  /** Its value may be written without the key. */
  readonly defaultKey?: true;
  /** Another way to write that key: `virtio=AA:...` = `macaddr=AA:...` ... */
  readonly alias?: string;
  /** ... and this key gets the name that was used: `model=virtio`. */
  readonly keyAlias?: string;
  /** Set by a `keyAlias` too, so that it may be missing. */
  readonly group?: string;
}

/** What is wrong so far, by path (`net0`, `net0.tag`, `command[1]`). */
export interface Findings {
  readonly version: Version;
  readonly errors: Map<string, string>;
}

const MISSING = 'property is missing and it is not optional';
export const NOT_DEFINED =
  'property is not defined in schema and the schema does not allow additional properties';

/** Two errors of one path are joined by a backslash and an `n`: the real code quotes it so. */
export function addError({ errors }: Findings, path: string, text: string): void {
  const before = errors.get(path);
  errors.set(path, before === undefined ? text : `${before}\\n${text}`);
}

/** The order of the tests is that of the real code: a value shows the first that fails. */
export function checkValue(
  findings: Findings,
  path: string,
  spec: PropertySpec,
  value: RawValue | undefined,
): void {
  if (value === undefined || value === null) {
    if (!spec.optional && spec.alias === undefined && spec.group === undefined)
      addError(findings, path, MISSING);
    return;
  }
  const typeProblem = problemOfType(spec.type, value);
  if (typeProblem !== undefined) addError(findings, path, `type check ('${spec.type}') failed${typeProblem}`);
  else if (Array.isArray(value))
    value.forEach((item, index) => {
      if (spec.items) checkValue(findings, `${path}[${index}]`, spec.items, item);
    });
  else if (typeof value === 'string') {
    const problem = problemOfText(findings.version, spec, path, value);
    if (problem !== undefined) addError(findings, path, problem);
  }
}

/** Keys that are there and need another one; the error stands at the one that is missing. */
export function checkRequires(
  findings: Findings,
  path: string,
  spec: ParamSpec,
  key: string,
  has: (key: string) => boolean,
): void {
  if (spec.requires !== undefined && !has(spec.requires))
    addError(findings, `${path}${spec.requires}`, `missing property required by '${path}${key}'`);
}

/** Rest of the sentence, or `undefined` = the type is right. */
function problemOfType(type: ParamSpec['type'], value: Exclude<RawValue, null>): string | undefined {
  if (type === 'array') return Array.isArray(value) ? undefined : '';
  if (typeof value === 'boolean') return type === 'boolean' ? undefined : ' - got JSON::PP::Boolean';
  if (typeof value !== 'string') return ` - got ${Array.isArray(value) ? 'ARRAY' : 'HASH'}`;
  if (type === 'string') return undefined;
  const isRight =
    type === 'boolean'
      ? /^[01]$/.test(value)
      : type === 'integer'
        ? /^[+-]?[0-9]+$/.test(value)
        : isNumber(value);
  return isRight ? undefined : ` - got '${value}'`;
}

function isNumber(value: string): boolean {
  return /^[+-]?([0-9]+\.[0-9]+|[0-9]+\.|\.[0-9]+|[0-9]+)([eE][+-]?[0-9]+)?$/.test(value);
}

function problemOfText(version: Version, spec: ParamSpec, path: string, value: string): string | undefined {
  const reason = problemOfFormat(version, spec, path, value);
  if (reason !== undefined) return `invalid format - ${reason}\n`;
  if (spec.pattern && !spec.pattern.test(value)) return 'value does not match the regex pattern';
  const length = [...value].length;
  if (spec.maxLength !== undefined && length > spec.maxLength)
    return `value may only be ${spec.maxLength} characters long`;
  if (spec.minLength !== undefined && length < spec.minLength)
    return `value must be at least ${spec.minLength} characters long`;
  if (isNumber(value)) {
    if (spec.maximum !== undefined && Number(value) > spec.maximum)
      return `value must have a maximum value of ${spec.maximum}`;
    if (spec.minimum !== undefined && Number(value) < spec.minimum)
      return `value must have a minimum value of ${spec.minimum}`;
  }
  if (spec.enum && !spec.enum.includes(value))
    return `value '${value}' does not have a value in the enumeration '${spec.enum.join(', ')}'`;
  return undefined;
}

function problemOfFormat(version: Version, spec: ParamSpec, path: string, value: string): string | undefined {
  if (spec.properties) {
    const problem = problemOfProperties(version, spec.properties, path, value);
    if (problem !== undefined) return problem;
  }
  const { format } = spec;
  if (!format) return undefined;
  if (!spec.list) return format(value, version);
  for (const entry of splitList(value)) {
    const problem = format(entry, version);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

export function splitList(text: string): string[] {
  return text.split(/[,;\s]+/).filter((entry) => entry !== '');
}

function problemOfProperties(
  version: Version,
  specs: Readonly<Record<string, PropertySpec>>,
  path: string,
  text: string,
): string | undefined {
  const parsed = readProperties(specs, text);
  if (typeof parsed === 'string') return parsed;
  const findings: Findings = { version, errors: new Map() };
  for (const [key, spec] of Object.entries(specs))
    checkValue(findings, `${path}.${key}`, spec, parsed.get(key));
  for (const key of parsed.keys())
    checkRequires(findings, `${path}.`, specs[key]!, key, (other) => parsed.has(other));
  if (findings.errors.size === 0) return undefined;
  const lines = [...findings.errors].map(([where, problem]) => `${where}: ${problem}`);
  return `format error\n${lines.join('\n')}`;
}

/** The keys and values of a property string, or why it can't be read. */
function readProperties(
  specs: Readonly<Record<string, PropertySpec>>,
  text: string,
): Map<string, string> | string {
  const values = new Map<string, string>();
  const duplicate = (key: string): string => `duplicate key in comma-separated list property: ${key}`;
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const pair = /^([^=]+)=(.+)$/.exec(part);
    if (pair) {
      let [, key = '', value = ''] = pair;
      if (values.has(key)) return duplicate(key);
      const given = Object.hasOwn(specs, key) ? specs[key] : undefined;
      if (given?.alias !== undefined) {
        if (given.keyAlias !== undefined) {
          if (values.has(given.keyAlias)) return `key alias '${given.keyAlias}' is already defined`;
          values.set(given.keyAlias, key);
        }
        key = given.alias;
      }
      const spec = Object.hasOwn(specs, key) ? specs[key] : undefined;
      if (!spec) return `invalid key in comma-separated list property: ${key}`;
      if (spec.type === 'boolean') value = readBoolean(value);
      values.set(key, value);
    } else if (!part.includes('=')) {
      const key = Object.keys(specs).find((candidate) => specs[candidate]?.defaultKey);
      if (key === undefined) return 'value without key, but schema does not define a default key';
      if (values.has(key)) return duplicate(key);
      values.set(key, part);
    } else return 'missing key in comma-separated list property';
  }
  return values;
}

/** Only inside property strings: a parameter of its own is exactly `0` or `1`. */
function readBoolean(text: string): string {
  if (/^(?:1|on|yes|true)$/i.test(text)) return '1';
  return /^(?:0|off|no|false)$/i.test(text) ? '0' : text;
}
