import { privilegesOf } from './roles.js';

export type Version = '8.4' | '9.1';

/** A named format of the API: gives what is wrong with a value, without "invalid format - " around it. */
export type Format = (value: string, version: Version) => string | undefined;

const USER = /^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$/;
const REALM = /^[A-Za-z][A-Za-z0-9.\-_]+$/;
const DNS_LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DNS_NAME = new RegExp(`^(?:${DNS_LABEL}\\.)*${DNS_LABEL}$`);
const EMAIL_USER = '[\\w+\\-~]+(?:\\.[\\w+\\-~]+)*';
const EMAIL = new RegExp(`^${EMAIL_USER}@[a-zA-Z0-9-]+(?:\\.[a-zA-Z0-9-]+)*$`);
const IPV4_BYTE = '(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';
const IPV4 = `(?:${IPV4_BYTE}\\.){3}${IPV4_BYTE}`;
const CONFIG_ID = /^[a-z][a-z0-9_-]+$/i;
const POOL_LEVELS = 3;

const matches =
  (pattern: RegExp, problem: string | ((value: string) => string)) =>
  (value: string): string | undefined => {
    if (pattern.test(value)) return undefined;
    return typeof problem === 'string' ? problem : problem(value);
  };

const email = matches(EMAIL, 'value does not look like a valid email address');

/** By the name that the API's schema gives them. */
export const FORMATS = {
  'pve-vmid': matches(/^[1-9][0-9]{2,8}$/, 'value does not look like a valid VM ID'),
  'pve-node': matches(new RegExp(`^${DNS_LABEL}$`), 'value does not look like a valid node name'),
  'pve-configid': matches(CONFIG_ID, (value) => `invalid configuration ID '${value}'`),
  'pve-storage-id': matches(
    /^[a-z][a-z0-9\-_.]*[a-z0-9]$/i,
    (value) => `storage ID '${value}' contains illegal characters`,
  ),
  'pve-bridge-id': matches(/^[-_.\w]+$/, (value) => `invalid bridge ID '${value}'`),
  'pve-poolid': (value: string) => {
    const levels = value.split('/');
    if (levels.length > POOL_LEVELS)
      return `pool name '${value}' nested too deeply (max levels = ${POOL_LEVELS})`;
    return levels.every((level) => /^[A-Za-z0-9.\-_]+$/.test(level))
      ? undefined
      : `pool name '${value}' contains invalid characters`;
  },
  'pve-userid': (value: string) => {
    if (value.length < 3) return `user name '${value}' is too short`;
    if (value.length > 64) return `user name '${value}' is too long (${value.length} > 64)`;
    return USER.test(value) ? undefined : `value '${value}' does not look like a valid user name`;
  },
  'pve-tokenid': (value: string) => {
    const mark = value.lastIndexOf('!');
    return USER.test(value.slice(0, mark)) && REALM.test(value.slice(mark + 1))
      ? undefined
      : `value '${value}' does not look like a valid token ID`;
  },
  'pve-realm': matches(REALM, 'value does not look like a valid realm'),
  'pve-roleid': matches(/^[A-Za-z0-9.\-_]+$/, (value) => `role name '${value}' contains invalid characters`),
  'pve-groupid': matches(
    /^[A-Za-z0-9.\-_]+$/,
    (value) => `group name '${value}' contains invalid characters`,
  ),
  'pve-priv': (value: string, version: Version) =>
    privilegesOf(version).includes(value) ? undefined : `invalid privilege '${value}'`,
  'dns-name': matches(DNS_NAME, 'value does not look like a valid DNS name'),
  'mac-addr': matches(
    /^[a-f0-9][02468ace](?::[a-f0-9]{2}){5}$/i,
    'value does not look like a valid unicast MAC address',
  ),
  ipv4: matches(new RegExp(`^${IPV4}$`), 'value does not look like a valid IPv4 address'),
  address: (value: string) =>
    DNS_NAME.test(value) || /^[0-9a-f:]*:[0-9a-f:.]*$/i.test(value)
      ? undefined
      : `value does not look like a valid address: ${value}`,
  'pve-ipv4-config': matches(
    new RegExp(`^(?:dhcp|manual|${IPV4}/(?:[89]|[12][0-9]|3[0-2]))$`),
    'value does not look like a valid ipv4 network configuration',
  ),
  email,
  /** Nothing is an address too: it removes the one that was set. */
  'email-opt': (value: string) => (value === '' ? undefined : email(value)),
  'disk-size': matches(
    /^[0-9]+(?:\.[0-9]+)?[KMGT]?$/,
    (value) => `value does not look like a valid disk size: ${value}`,
  ),
  cidr: matches(
    new RegExp(`^(?:${IPV4}/(?:[89]|[12][0-9]|3[0-2])|[0-9a-fA-F:]+/[0-9]{1,3})$`),
    'value does not look like a valid CIDR network',
  ),
  'storage-pair': matches(
    /^(?:1|[a-z][a-z0-9\-_.]*[a-z0-9](?::[a-z][a-z0-9\-_.]*[a-z0-9])?)$/i,
    'value does not look like a valid storage pair',
  ),
  'pve-tag': matches(/^[a-z0-9_][a-z0-9_\-+.]*$/i, 'invalid characters in tag'),
  'pve-startup-order': (value: string) =>
    value !== '' &&
    value.split(',').every((part) => /^\s*$|^(?:order=)?[0-9]+$|^up=[0-9]+$|^down=[0-9]+$/.test(part))
      ? undefined
      : 'unable to parse startup options',
  urlencoded: matches(/^[-%a-zA-Z0-9_.!~*'()]*$/, (value) => `invalid urlencoded string: ${value}`),
} satisfies Record<string, Format>;
