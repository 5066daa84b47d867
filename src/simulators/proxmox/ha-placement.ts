import { splitList, type ParamSpec } from './check-value.js';
import {
  CHANGE,
  changeHa,
  checkDigest,
  checkNodes,
  COMMENT,
  CONFIG_ID,
  digestOf,
  NODE_LIST,
  permitRead,
  permitWrite,
  removeKeys,
} from './ha-config.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { failure } from './wire.js';

const RESOURCES: ParamSpec = {
  type: 'string',
  list: true,
  format: (value) => (/^(vm|ct):[1-9][0-9]{2,8}$/.test(value) ? undefined : `unable to parse '${value}'`),
};
const RULE_TYPES: ParamSpec = { type: 'string', enum: ['node-affinity', 'resource-affinity'] };
const RULE_SETTINGS: Readonly<Record<string, ParamSpec>> = {
  affinity: { type: 'string', optional: true, enum: ['positive', 'negative'] },
  comment: COMMENT,
  disable: OPTIONAL_FLAG,
  nodes: { ...NODE_LIST, optional: true },
  strict: OPTIONAL_FLAG,
  type: RULE_TYPES,
};
const GROUP_SETTINGS: Readonly<Record<string, ParamSpec>> = {
  comment: COMMENT,
  nofailback: OPTIONAL_FLAG,
  restricted: OPTIONAL_FLAG,
};
const RULE = '/cluster/ha/rules/{rule}';
const GROUP = '/cluster/ha/groups/{group}';

type Wire = Pick<Route, 'method' | 'path' | 'op' | 'params' | 'handle'>;
const read = (wire: Wire): Route => ({ ...wire, kind: 'read', permit: permitRead });
const write = (wire: Wire): Route => ({ ...wire, kind: 'config-write', permit: permitWrite });

/** Node affinity and the like, since 9. */
const ruleRoutes: readonly Route[] = [
  read({
    method: 'GET',
    path: '/cluster/ha/rules',
    op: 'ha.rules.list',
    params: { resource: OPTIONAL_TEXT, type: { ...RULE_TYPES, optional: true } },
    handle: listRules,
  }),
  write({
    method: 'POST',
    path: '/cluster/ha/rules',
    op: 'ha.rules.create',
    params: { rule: CONFIG_ID, resources: RESOURCES, ...RULE_SETTINGS },
    handle: createRule,
  }),
  read({
    method: 'GET',
    path: RULE,
    op: 'ha.rules.get',
    params: { rule: CONFIG_ID },
    handle: ({ pve, path }) => ({ data: ruleRow(pve, path['rule'] ?? '') }),
  }),
  write({
    method: 'PUT',
    path: RULE,
    op: 'ha.rules.update',
    params: { rule: CONFIG_ID, resources: { ...RESOURCES, optional: true }, ...RULE_SETTINGS, ...CHANGE },
    handle: updateRule,
  }),
  write({
    method: 'DELETE',
    path: RULE,
    op: 'ha.rules.delete',
    params: { rule: CONFIG_ID },
    handle: (call) =>
      changeHa(call, 'delete ha rule', () => call.pve.world.ha.rules.delete(call.path['rule'] ?? '')),
  }),
].map((route) => ({ ...route, version: '9.1' as const }));

/** Until 8; 9 refuses them all. */
const groupRoutes: readonly Route[] = [
  read({
    method: 'GET',
    path: '/cluster/ha/groups',
    op: 'ha.groups.list',
    params: {},
    handle({ pve }) {
      refuseGroups(pve, 'index groups');
      return { data: [...pve.world.ha.groups.keys()].map((group) => groupRow(pve, group)) };
    },
  }),
  write({
    method: 'POST',
    path: '/cluster/ha/groups',
    op: 'ha.groups.create',
    params: {
      group: CONFIG_ID,
      nodes: NODE_LIST,
      type: { type: 'string', optional: true, enum: ['group'] },
      ...GROUP_SETTINGS,
    },
    handle: createGroup,
  }),
  read({
    method: 'GET',
    path: GROUP,
    op: 'ha.groups.get',
    params: { group: CONFIG_ID },
    handle({ pve, path }) {
      refuseGroups(pve, 'read group');
      return { data: groupRow(pve, path['group'] ?? '') };
    },
  }),
  write({
    method: 'PUT',
    path: GROUP,
    op: 'ha.groups.update',
    params: { group: CONFIG_ID, nodes: { ...NODE_LIST, optional: true }, ...GROUP_SETTINGS, ...CHANGE },
    handle: updateGroup,
  }),
  write({
    method: 'DELETE',
    path: GROUP,
    op: 'ha.groups.delete',
    params: { group: CONFIG_ID },
    handle: deleteGroup,
  }),
];

export const haPlacementRoutes: readonly Route[] = [...ruleRoutes, ...groupRoutes];

/** What a change sets, as the file keeps it. */
function settingsOf({ params }: PveCall): Record<string, string> {
  const others = new Set(['rule', 'group', 'digest', 'delete']);
  return Object.fromEntries(params.entries().filter(([key]) => !others.has(key)));
}

function ruleRow(pve: Pve, name: string): Record<string, unknown> {
  const { rules } = pve.world.ha;
  const rule = rules.get(name);
  if (!rule) throw failure(`no such ha rule '${name}'`);
  return { rule: name, ...rule, digest: digestOf(rules), order: [...rules.keys()].indexOf(name) + 1 };
}

function listRules({ pve, params }: PveCall): Handled {
  const [type, resource] = [params.text('type'), params.text('resource')];
  const shown = [...pve.world.ha.rules]
    .filter(([, rule]) => type === undefined || rule['type'] === type)
    .filter(([, rule]) => resource === undefined || splitList(rule['resources'] ?? '').includes(resource));
  return { data: shown.map(([name]) => ruleRow(pve, name)) };
}

function checkRule(pve: Pve, rule: Record<string, string>): void {
  const required = rule['type'] === 'node-affinity' ? 'nodes' : 'affinity';
  if (rule[required] === undefined) throw failure(`missing value for required option '${required}'`);
  const unmanaged = splitList(rule['resources'] ?? '').filter((sid) => !pve.world.ha.resources.has(sid));
  if (unmanaged.length > 0) throw failure(`cannot use unmanaged resource(s) ${unmanaged.sort().join(', ')}.`);
  checkNodes(pve, rule['nodes']);
}

function createRule(call: PveCall): Promise<Handled> {
  const { rules } = call.pve.world.ha;
  const name = call.params.need('rule');
  return changeHa(call, 'create ha rule', () => {
    if (rules.has(name)) throw failure(`HA rule '${name}' already defined`);
    const rule = settingsOf(call);
    checkRule(call.pve, rule);
    rules.set(name, rule);
  });
}

function updateRule(call: PveCall): Promise<Handled> {
  const { rules } = call.pve.world.ha;
  const name = call.path['rule'] ?? '';
  return changeHa(call, 'update HA rules', () => {
    checkDigest(call.params.text('digest'), rules);
    const before = rules.get(name);
    if (!before) throw failure(`HA rule '${name}' does not exist`);
    const rule = { ...before, ...settingsOf(call) };
    removeKeys(rule, call.params.list('delete'), ['comment', 'disable', 'strict']);
    checkRule(call.pve, rule);
    rules.set(name, rule);
  });
}

function refuseGroups(pve: Pve, what: string): void {
  if (pve.world.version === '9.1') throw failure(`cannot ${what}: ha groups have been migrated to rules`);
}

function groupRow(pve: Pve, name: string): Record<string, unknown> {
  const { groups } = pve.world.ha;
  const group = groups.get(name);
  if (!group) throw failure(`no such ha group '${name}'`);
  return { group: name, type: 'group', ...group, digest: digestOf(groups) };
}

function createGroup(call: PveCall): Promise<Handled> {
  const { pve, params } = call;
  refuseGroups(pve, 'create group');
  const name = params.need('group');
  return changeHa(call, 'create ha group', () => {
    if (pve.world.ha.groups.has(name)) throw failure(`ha group ID '${name}' already defined`);
    const { type: _, ...settings } = settingsOf(call);
    pve.world.ha.groups.set(name, settings);
  });
}

function updateGroup(call: PveCall): Promise<Handled> {
  const { pve, params, path } = call;
  refuseGroups(pve, 'update group');
  const { groups } = pve.world.ha;
  const name = path['group'] ?? '';
  return changeHa(call, 'update ha group', () => {
    checkDigest(params.text('digest'), groups);
    const before = groups.get(name);
    if (!before) throw failure(`no such ha group '${name}'`);
    const group = { ...before, ...settingsOf(call) };
    removeKeys(group, params.list('delete'), Object.keys(GROUP_SETTINGS));
    groups.set(name, group);
  });
}

function deleteGroup(call: PveCall): Promise<Handled> {
  const { pve, path } = call;
  refuseGroups(pve, 'delete group');
  const name = path['group'] ?? '';
  return changeHa(call, 'delete ha group', () => {
    for (const [sid, resource] of pve.world.ha.resources)
      if (resource.group === name) throw failure(`ha group is used by service '${sid}'`);
    pve.world.ha.groups.delete(name);
  });
}
