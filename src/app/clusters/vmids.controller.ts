import { Controller, Get, Inject, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { z } from 'zod';
import { slug } from '../../core/slug.js';
import { releaseVmid } from '../../engine/vmid-release.js';
import { plainCall } from '../../ports/call.js';
import type { Hypervisors } from '../../ports/hypervisor.js';
import type { RestingVmid, VmidRests } from '../../ports/vmid-rests.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { decodeCursor, ListQuery, toPage } from '../dto/page.dto.js';
import { RestingVmidPage, RestingVmidView } from '../dto/site.dto.js';
import { HYPERVISORS, VMID_RESTS } from '../tokens.js';

const LOOK_MS = 30_000;
const vmidText = z.coerce.number().int().min(100).max(999_999_999);

/** VMIDs that were freed and are not used again yet. */
@ApiTags('site')
@Controller('api/v1/clusters/:name/vmids')
export class VmidsController {
  constructor(
    @Inject(HYPERVISORS) private readonly hypervisors: Hypervisors,
    @Inject(VMID_RESTS) private readonly rests: VmidRests,
  ) {}

  @Get()
  @Operation('listRestingVmids', {
    summary: 'VMIDs that rest before they are used again',
    access: ['admin'],
    answer: RestingVmidPage,
  })
  async list(
    @Param('name', { schema: slug }) name: string,
    @Query({ schema: ListQuery }) query: z.infer<typeof ListQuery>,
  ): Promise<z.infer<typeof RestingVmidPage>> {
    const { cluster } = this.hypervisors.get(name);
    const after = decodeCursor(query.cursor, z.tuple([z.number().int()]));
    const rows = await this.rests.list(cluster, after?.[0] ?? 0, query.limit + 1);
    return toPage(rows, query.limit, (row) => [row.vmid], toView);
  }

  @Post(':vmid/release')
  @Operation('releaseVmid', {
    summary: 'Lets a resting VMID be used again, after a look at the cluster',
    access: ['admin'],
    status: 204,
  })
  async release(
    @Me() me: SignedIn,
    @Param('name', { schema: slug }) name: string,
    @Param('vmid', { schema: vmidText }) vmid: number,
  ): Promise<void> {
    const call = plainCall(AbortSignal.timeout(LOOK_MS));
    await releaseVmid(this.rests, this.hypervisors.get(name), vmid, me.login, call);
  }
}

const toView = (row: RestingVmid): z.infer<typeof RestingVmidView> => ({
  vmid: row.vmid,
  releasedAt: new Date(row.releasedAtMs).toISOString(),
  restsUntil: new Date(row.untilMs).toISOString(),
  ...(row.note !== undefined && { note: row.note }),
});
