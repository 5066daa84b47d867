import type { ClusterDefinition } from '../../core/definitions.js';

export type SshSettings = NonNullable<ClusterDefinition['ssh']>;

export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

/** Where a node answers: as `addresses` says (`host`, `host:port`, `[v6]:port`), else under its own name. */
export function addressOf({ addresses, port }: SshSettings, node: string): NodeAddress {
  const written = addresses[node] ?? node;
  const [, v6, own] = /^\[([^\]]+)\](?::([0-9]+))?$/.exec(written) ?? [];
  if (v6 !== undefined) return { host: v6, port: own === undefined ? port : Number(own) };
  const [host = node, last] = written.split(':');
  return { host, port: last === undefined ? port : Number(last) };
}
