import { expect, it } from 'vitest';
import type { ParamSpec } from '../../src/simulators/proxmox/params.js';
import type { Route } from '../../src/simulators/proxmox/pve.js';
import { ROUTES } from '../../src/simulators/proxmox/router.js';
import { PveSchema, type SchemaCall, type SchemaProperty } from '../support/pve-schema.js';

/** Where simulator and schema differ, by place, and why. */
const DIFFERENCES: Readonly<Record<'8.4' | '9.1', Readonly<Record<string, string>>>> = {
  '9.1': {},
  '8.4': {
    'GET /nodes/{node}/network type enum': 'takes the kinds of 9.1 too: a filter that finds nothing',
    'GET /storage type enum': 'knows no glusterfs, which no simulated storage is',
  },
};

PveSchema.compare('the routes of the simulator', (schema, version) => {
  const routes = ROUTES.filter((route) => (route.version ?? version) === version);

  it('know the same calls', () => {
    const unknown = routes.filter(({ method, path }) => !schema.call(method, path)).map(nameOf);
    expect(unknown.filter((place) => !(place in DIFFERENCES[version]))).toEqual([]);
  });

  it('agree on every parameter and flag', () => {
    const found = routes.flatMap((route) => {
      const call = schema.call(route.method, route.path);
      return call ? [...differentFlags(route, call), ...differentParams(route, call, version)] : [];
    });
    expect(found.filter((text) => !(placeOf(text) in DIFFERENCES[version]))).toEqual([]);
    const places = new Set(found.map(placeOf));
    expect(Object.keys(DIFFERENCES[version]).filter((place) => !places.has(place))).toEqual([]);
  });
});

function nameOf({ method, path }: Route): string {
  return `${method} ${path}`;
}

function placeOf(text: string): string {
  return text.slice(0, text.indexOf(':'));
}

function differentFlags(route: Route, call: SchemaCall): string[] {
  const isOfNode = route.path.includes('{node}');
  const pairs: [string, boolean, boolean][] = [
    ['protected', route.kind !== 'read', call.protected],
    ['allowtoken', route.allowToken !== false, call.allowtoken],
    ['proxyto node', isOfNode && !route.local, call.proxyto === 'node'],
    ['root only', false, call.permissions === undefined],
    ['no login', route.guest ?? false, call.permissions?.user === 'world'],
  ];
  return pairs
    .filter(([, ours, theirs]) => ours !== theirs)
    .map(([flag, ours, theirs]) => `${nameOf(route)} ${flag}: ${ours}, schema ${theirs}`);
}

function differentParams(route: Route, call: SchemaCall, version: '8.4' | '9.1'): string[] {
  const ours = Object.entries(route.params).filter(([, spec]) => (spec.version ?? version) === version);
  const inPath = new Set([...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
  const theirs = Object.entries(call.parameters.properties).filter(
    ([name]) => name in route.params || !inPath.has(name),
  );
  const names = new Set([...ours, ...theirs].map(([name]) => name));
  return [...names].sort().flatMap((name) => {
    const place = `${nameOf(route)} ${name}`;
    const [our, their] = [ours, theirs].map((list) => list.find(([key]) => key === name)?.[1]);
    if (!their) return [`${place}: not in the schema`];
    if (!our) return [`${place}: only in the schema`];
    return differentFields(our as ParamSpec, their as SchemaProperty).map((text) => `${place} ${text}`);
  });
}

function differentFields(our: ParamSpec, their: SchemaProperty): string[] {
  const facts = (spec: ParamSpec | SchemaProperty) => ({
    type: spec.type,
    optional: spec.optional ?? false,
    enum: spec.enum?.join(','),
    minimum: spec.minimum,
    maximum: spec.maximum,
    minLength: spec.minLength,
    maxLength: spec.maxLength,
    pattern: spec.pattern !== undefined,
    format: 'properties' in spec && spec.properties ? true : spec.format !== undefined,
    requires: spec.requires,
    items: spec.items?.type,
  });
  const [mine, official] = [facts(our), facts(their)];
  return (Object.keys(mine) as (keyof typeof mine)[])
    .filter((key) => mine[key] !== official[key])
    .map((key) => `${key}: ${String(mine[key])}, schema ${String(official[key])}`);
}
