import { z } from 'zod';
import { clusterRecording } from '../../core/cluster-recording.js';
import { pageOf } from './page.dto.js';

export const ClusterView = z
  .object({
    name: z.string(),
    kind: z.string(),
    endpoints: z.array(z.string()),
    pool: z.string(),
    vmids: z.object({ from: z.number().int(), to: z.number().int() }),
    /** Why nothing is sent to it for now; empty = work goes on. */
    stops: z.array(z.object({ code: z.string(), detail: z.string(), hint: z.string().optional() })),
  })
  .meta({ id: 'Cluster' });
export const ClusterList = z
  .object({ items: z.array(ClusterView), nextCursor: z.string().nullable() })
  .meta({ id: 'ClusterList' });

export const RestingVmidView = z
  .object({
    vmid: z.number().int(),
    releasedAt: z.iso.datetime(),
    restsUntil: z.iso.datetime(),
    /** Why, when it is more than a deleted machine. */
    note: z.string().optional(),
  })
  .meta({ id: 'RestingVmid' });
export const RestingVmidPage = pageOf(RestingVmidView).meta({ id: 'RestingVmidPage' });

export const UncountedGuestView = z
  .object({
    vmid: z.number().int(),
    node: z.string(),
    kind: z.enum(['qemu', 'lxc']),
    name: z.string().nullable(),
    pool: z.string().nullable(),
    what: z
      .enum(['foreign', 'found', 'orphan', 'released', 'unknown'])
      .describe(
        'found: our mark and no machine in the database; orphan: of a machine whose run is over; released: a person let go of it',
      ),
    mark: z
      .object({
        deployment: z.string(),
        machine: z.string(),
        run: z.string(),
        step: z.string(),
        vmid: z.number().int(),
        attempt: z.number().int(),
        deleting: z.string().optional(),
      })
      .nullable()
      .describe('As it stands in the description'),
    machine: z.string().nullable().describe('Name of the machine that its mark names'),
    detail: z.string(),
    next: z.string().nullable(),
  })
  .meta({ id: 'UncountedGuest' });
export const UncountedGuestPage = pageOf(UncountedGuestView).meta({ id: 'UncountedGuestPage' });

export const ClusterCheck = z
  .object({
    cluster: z.string(),
    ok: z.boolean(),
    findings: z.array(
      z.object({
        ok: z.boolean(),
        /** `warn` = works, and somebody should look all the same; `ok` holds for it too. */
        level: z.enum(['ok', 'warn', 'fail']),
        subject: z.string(),
        detail: z.string(),
        remedy: z.string().optional(),
      }),
    ),
  })
  .meta({ id: 'ClusterCheck' });

export const VendorDataView = z
  .object({
    cluster: z.string(),
    /** Where the cluster's definition expects it; null = nowhere yet. */
    volume: z.string().nullable(),
    text: z.string(),
  })
  .meta({ id: 'VendorData' });

export const RecordingView = clusterRecording.meta({ id: 'ClusterRecording' });

export const BlueprintView = z
  .object({
    name: z.string(),
    version: z.number().int(),
    title: z.object({ en: z.string(), fr: z.string() }),
    kind: z.string(),
    size: z.object({ cores: z.number().int(), memoryMiB: z.number().int(), diskGiB: z.number().int() }),
    clusters: z.array(z.string()),
    workflow: z.string(),
  })
  .meta({ id: 'Blueprint' });
export const BlueprintList = z
  .object({ items: z.array(BlueprintView), nextCursor: z.string().nullable() })
  .meta({ id: 'BlueprintList' });
