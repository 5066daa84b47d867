import { Body, Controller, Get, Inject, Param, Patch } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { slug } from '../../core/slug.js';
import type { ClusterLimit, ClusterLimits } from '../../engine/cluster-limits.js';
import type { Hypervisors } from '../../ports/hypervisor.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { LimitList, SetLimitsRequest, type LimitView } from '../dto/limits.dto.js';
import { CLUSTER_LIMITS, HYPERVISORS } from '../tokens.js';

/** How much of a cluster is used at once. */
@ApiTags('site')
@Controller('api/v1/clusters/:name/limits')
export class LimitsController {
  constructor(
    @Inject(HYPERVISORS) private readonly hypervisors: Hypervisors,
    @Inject(CLUSTER_LIMITS) private readonly limits: ClusterLimits,
  ) {}

  @Get()
  @Operation('listLimits', {
    summary: 'Slots of a cluster: limits, use, and the lock wait that they follow',
    access: ['admin'],
    answer: LimitList,
  })
  async list(@Param('name', { schema: slug }) name: string): Promise<z.infer<typeof LimitList>> {
    this.hypervisors.get(name);
    return { items: (await this.limits.list(name)).map(toView), nextCursor: null };
  }

  @Patch()
  @Operation('setLimits', {
    summary: 'Fixes limits, or lets them follow the cluster again',
    access: ['admin'],
    answer: LimitList,
  })
  async set(
    @Me() me: SignedIn,
    @Param('name', { schema: slug }) name: string,
    @Body({ schema: SetLimitsRequest }) body: z.infer<typeof SetLimitsRequest>,
  ): Promise<z.infer<typeof LimitList>> {
    this.hypervisors.get(name);
    await this.limits.set(name, body.limits, me.login);
    return this.list(name);
  }
}

const toView = ({ changedAtMs, why, lockWait, ...limit }: ClusterLimit): z.infer<typeof LimitView> => ({
  ...limit,
  lockWait: lockWait ? { meanMs: Math.round(lockWait.meanMs), clones: lockWait.clones } : null,
  why: why ?? null,
  changedAt: changedAtMs === undefined ? null : new Date(changedAtMs).toISOString(),
});
