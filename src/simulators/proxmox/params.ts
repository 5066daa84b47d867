import {
  addError,
  checkRequires,
  checkValue,
  NOT_DEFINED,
  splitList,
  type Findings,
  type ParamSpec,
} from './check-value.js';
import { FORMATS, type Version } from './formats.js';
import { parameterErrors, type RawParams, type RawValue } from './wire.js';

export type { ParamSpec, PropertySpec } from './check-value.js';

/** By name; `net[n]` stands for net0, net1, ... up to the limit of INDEXES. */
export type ParamSpecs = Readonly<Record<string, ParamSpec>>;

/** How many there are of each indexed parameter, from 0. */
const INDEXES: Readonly<Record<string, number>> = {
  dev: 256,
  hostpci: 16,
  ide: 4,
  ipconfig: 32,
  mp: 256,
  net: 32,
  numa: 8,
  parallel: 3,
  sata: 6,
  scsi: 31,
  serial: 4,
  unused: 256,
  usb: 14,
  virtio: 16,
  virtiofs: 10,
};

/** Checked parameters of one call. */
export class Params {
  constructor(private readonly values: ReadonlyMap<string, string | readonly string[]>) {}

  has(key: string): boolean {
    return this.values.has(key);
  }
  /** An array is joined by commas. */
  text(key: string): string | undefined {
    const value = this.values.get(key);
    return value === undefined || typeof value === 'string' ? value : value.join(',');
  }
  /** A parameter that the specification requires. */
  need(key: string): string {
    const value = this.text(key);
    if (value === undefined) throw parameterErrors({ [key]: 'property is missing and it is not optional' });
    return value;
  }
  /** The entries of an array or of a list; none when it is missing. */
  list(key: string): readonly string[] {
    const value = this.values.get(key) ?? [];
    return typeof value === 'string' ? splitList(value) : value;
  }
  number(key: string): number | undefined {
    const value = this.text(key);
    return value === undefined ? undefined : Number(value);
  }
  flag(key: string): boolean | undefined {
    const value = this.text(key);
    return value === undefined ? undefined : value === '1';
  }
  entries(): [string, string][] {
    return [...this.values.keys()].map((key) => [key, this.need(key)]);
  }
}

/** What the URI says may not be said again with another value. Tested before anything else. */
export function checkConflicts(raw: RawParams, fromPath: Readonly<Record<string, string>>): void {
  const errors = Object.entries(fromPath)
    .filter(([key, value]) => raw.has(key) && raw.get(key) !== value)
    .map(([key]) => [key, 'duplicate parameter (already defined in URI) with conflicting values!'] as const);
  if (errors.length > 0) throw parameterErrors(Object.fromEntries(errors));
}

/** Checks everything and reports every failing parameter together, as the real API does. `fromPath` are the parts of the URI. */
export function checkParams(
  specs: ParamSpecs,
  raw: RawParams,
  fromPath: Readonly<Record<string, string>>,
  version: Version,
): Params {
  const findings: Findings = { version, errors: new Map() };
  const { errors } = findings;
  const values = new Map<string, string | readonly string[]>();
  const known = (key: string): ParamSpec | undefined => {
    const spec = specOf(specs, key);
    return spec && (spec.version ?? version) === version ? spec : undefined;
  };
  for (const [key, value] of Object.entries(fromPath))
    checkValue(findings, key, specs[key] ?? PATH_SPECS[key] ?? TEXT, value);
  for (const key of Object.keys(specs))
    if (!key.includes('[') && !(key in fromPath) && !raw.has(key) && known(key))
      checkValue(findings, key, specs[key]!, undefined);
  for (const [key, given] of raw) {
    if (key in fromPath) continue;
    const spec = known(key);
    if (!spec) {
      addError(findings, key, NOT_DEFINED);
      continue;
    }
    const value = asSpecified(spec, given);
    checkValue(findings, key, spec, value);
    checkRequires(findings, '', spec, key, (other) => other in fromPath || (raw.get(other) ?? null) !== null);
    const kept = plain(value);
    if (kept !== undefined) values.set(key, kept);
  }
  if (errors.size > 0) throw parameterErrors(Object.fromEntries(errors));
  return new Params(values);
}

/** Forms can't tell a list from a text, nor an array of one from a text. */
function asSpecified(spec: ParamSpec, value: RawValue): RawValue {
  if (spec.list && Array.isArray(value)) return value.map(String).join(',');
  return spec.type === 'array' && typeof value === 'string' ? [value] : value;
}

/** A value that was found right; `undefined` = a JSON null, which is no value. */
function plain(value: RawValue): string | readonly string[] | undefined {
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (Array.isArray(value)) return value.map(String);
  return typeof value === 'string' ? value : undefined;
}

function specOf(specs: ParamSpecs, key: string): ParamSpec | undefined {
  if (Object.hasOwn(specs, key) && !key.includes('[')) return specs[key];
  const [, name = '', index = ''] = /^([a-z]+)(0|[1-9][0-9]*)$/.exec(key) ?? [];
  const indexed = `${name}[n]`;
  return Object.hasOwn(specs, indexed) && Number(index) < (INDEXES[name] ?? 0) ? specs[indexed] : undefined;
}

export const TEXT: ParamSpec = { type: 'string' };
export const OPTIONAL_TEXT: ParamSpec = { type: 'string', optional: true };
export const OPTIONAL_FLAG: ParamSpec = { type: 'boolean', optional: true };
export const VMID: ParamSpec = {
  type: 'integer',
  format: FORMATS['pve-vmid'],
  minimum: 100,
  maximum: 999_999_999,
};
export const OPTIONAL_COUNT: ParamSpec = { type: 'integer', optional: true, minimum: 0 };
export const OPTIONAL_DNS_NAME: ParamSpec = { type: 'string', optional: true, format: FORMATS['dns-name'] };
export const OPTIONAL_DESCRIPTION: ParamSpec = { type: 'string', optional: true, maxLength: 8192 };

/** Parts of a URI, wherever a call does not say more about them. */
const PATH_SPECS: ParamSpecs = {
  node: { type: 'string', format: FORMATS['pve-node'] },
  poolid: { type: 'string', format: FORMATS['pve-poolid'] },
  roleid: { type: 'string', format: FORMATS['pve-roleid'] },
  snapname: { type: 'string', format: FORMATS['pve-configid'], maxLength: 40 },
  storage: { type: 'string', format: FORMATS['pve-storage-id'] },
  tokenid: { type: 'string', pattern: /^[A-Za-z][A-Za-z0-9.\-_]+$/ },
  userid: { type: 'string', format: FORMATS['pve-userid'], maxLength: 64 },
  vmid: VMID,
};
