import { z } from 'zod';
import type { ClusterDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type { SharedNews } from '../../ports/shared-news.js';
import type { ProxmoxHttp, ReadRequest, WriteRequest } from './http.js';

/** Where the driver writes what a person may want to know; fields first, then a fixed sentence. */
export interface DriverLog {
  warn(fields: Readonly<Record<string, unknown>>, sentence: string): void;
}

/** What every part of the driver needs of its one cluster. */
export interface Cluster {
  readonly definition: ClusterDefinition;
  /** Uuid of this deployment: the first part of every mark of ours. */
  readonly deployment: string;
  readonly http: ProxmoxHttp;
  readonly clock: Clock;
  readonly remoteTimeScale: number;
  readonly log: DriverLog;
  /** What other processes of this deployment read of the same cluster. */
  readonly news: SharedNews;
}

/** Reads and gives the answer its shape. An answer of another shape is `cluster-unreachable`: it proves nothing. */
export async function readAs<T>(
  cluster: Cluster,
  shape: z.ZodType<T>,
  request: ReadRequest,
  signal: AbortSignal,
): Promise<T> {
  return shaped(shape, (await cluster.http.read(request, signal)).data, request.what, 'cluster-unreachable');
}

/** As `readAs`, from one endpoint only. */
export async function readFromAs<T>(
  cluster: Cluster,
  shape: z.ZodType<T>,
  { endpoint, request }: { endpoint: string; request: ReadRequest },
  signal: AbortSignal,
): Promise<T> {
  const { data } = await cluster.http.readFrom(endpoint, request, signal);
  return shaped(shape, data, request.what, 'cluster-unreachable');
}

/** Writes and gives the answer its shape. An answer of another shape is `outcome-unknown`. */
export async function writeAs<T>(
  cluster: Cluster,
  shape: z.ZodType<T>,
  request: WriteRequest,
  call: Call,
): Promise<T> {
  return shaped(shape, (await cluster.http.write(request, call)).data, request.what, 'outcome-unknown');
}

function shaped<T>(
  shape: z.ZodType<T>,
  data: unknown,
  what: string,
  code: 'cluster-unreachable' | 'outcome-unknown',
): T {
  const parsed = shape.safeParse(data);
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues[0]?.path.join('.') ?? '';
  throw new HatcheryError(code, `Unable to ${what}: the answer cannot be read (${where || 'its shape'})`, {
    retry: 'later',
    cause: parsed.error,
  });
}
