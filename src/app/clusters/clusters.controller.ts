import { Body, Controller, Get, Inject, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { plainCall, type Call } from '../../ports/call.js';
import type { ClusterPauses } from '../../ports/cluster-pauses.js';
import type { ClusterStops } from '../../ports/cluster-stops.js';
import type { NodeFiles } from '../../ports/node-files.js';
import type { CheckFinding, Hypervisor, Hypervisors, IntendedUse } from '../../ports/hypervisor.js';
import { defaultSize, type ClusterDefinition } from '../../core/definitions.js';
import { slug } from '../../core/slug.js';
import { HatcheryError } from '../../core/errors.js';
import { vendorData } from '../../core/vendor-data.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import type { AppContext } from '../context.js';
import { ListQuery } from '../dto/page.dto.js';
import { WithReason } from '../dto/runs.dto.js';
import {
  BlueprintList,
  ClusterCheck,
  ClusterList,
  ClusterView,
  RecordingView,
  UncountedGuestPage,
  VendorDataView,
} from '../dto/site.dto.js';
import { CLUSTER_PAUSES, CLUSTER_STOPS, CONTEXT, HYPERVISORS, NODE_FILES, USE_OF } from '../tokens.js';
import { checkSnippetFiles } from './check-snippet-files.js';
import { GuestReads } from './guest-reads.js';

const CHECK_MS = 60_000;
const RECORD_MS = 100_000;

@ApiTags('site')
@Controller('api/v1')
export class ClustersController {
  constructor(
    private readonly guests: GuestReads,
    @Inject(CONTEXT) private readonly context: AppContext,
    @Inject(HYPERVISORS) private readonly hypervisors: Hypervisors,
    @Inject(NODE_FILES) private readonly nodeFiles: ReadonlyMap<string, NodeFiles>,
    @Inject(CLUSTER_STOPS) private readonly stops: ClusterStops,
    @Inject(CLUSTER_PAUSES) private readonly pauses: ClusterPauses,
    @Inject(USE_OF) private readonly useOf: (cluster: string) => Promise<IntendedUse>,
  ) {}

  @Get('clusters')
  @Operation('listClusters', { summary: 'The clusters of this site', access: ['admin'], answer: ClusterList })
  async clusters(): Promise<z.infer<typeof ClusterList>> {
    const items = this.context.site.clusters.map(({ definition }) => this.view(definition));
    return { items: await Promise.all(items), nextCursor: null };
  }

  @Post('clusters/:name/pause')
  @Operation('pauseCluster', {
    summary: 'Begins nothing more on a cluster until it is resumed; what runs goes on to its end',
    access: ['admin'],
    answer: ClusterView,
  })
  async pause(
    @Me() me: SignedIn,
    @Param('name', { schema: slug }) name: string,
    @Body({ schema: WithReason }) { reason }: z.infer<typeof WithReason>,
  ): Promise<z.infer<typeof ClusterView>> {
    const definition = this.definitionOf(name);
    await this.pauses.pause(definition.name, { actor: me.login, why: reason });
    return this.view(definition);
  }

  @Post('clusters/:name/resume')
  @Operation('resumeCluster', {
    summary: 'Goes on with a paused cluster',
    access: ['admin'],
    answer: ClusterView,
  })
  async resume(
    @Me() me: SignedIn,
    @Param('name', { schema: slug }) name: string,
  ): Promise<z.infer<typeof ClusterView>> {
    const definition = this.definitionOf(name);
    if (!(await this.pauses.resume(definition.name, me.login)))
      throw new HatcheryError('not-applicable', `Unable to resume cluster ${name}: nobody paused it`, {
        hint: 'Whether something else stops it: hatchery cluster list',
      });
    return this.view(definition);
  }

  private definitionOf(name: string): ClusterDefinition {
    const found = this.context.site.clusters.find(({ definition }) => definition.name === name);
    if (found) return found.definition;
    throw new HatcheryError('not-found', `Unable to find cluster ${name}: it is not configured here`, {
      hint: 'List them: hatchery cluster list',
    });
  }

  private async view(definition: ClusterDefinition): Promise<z.infer<typeof ClusterView>> {
    const { name, kind, endpoints, pool, vmids } = definition;
    const stops = await this.stops.of(name);
    return {
      name,
      kind,
      endpoints,
      pool,
      vmids: { from: vmids.from, to: vmids.to },
      stops: stops.map(({ code, message, hint }) => ({
        code,
        detail: message,
        ...(hint !== undefined && { hint }),
      })),
    };
  }

  @Post('clusters/:name/check')
  @Operation('checkCluster', {
    summary: 'Looks at endpoints, nodes, rights, pool, range, templates, storages and leftovers',
    access: ['admin'],
    answer: ClusterCheck,
  })
  async check(@Param('name', { schema: slug }) name: string): Promise<z.infer<typeof ClusterCheck>> {
    const hypervisor = this.hypervisors.get(name);
    const call = plainCall(AbortSignal.timeout(CHECK_MS));
    const use = await this.useOf(name);
    const findings = [
      ...(await hypervisor.check(use, call)),
      ...(await this.checkNodeFiles(hypervisor, use, call)),
    ];
    return { cluster: name, ok: findings.every(({ ok }) => ok), findings: findings.map(findingView) };
  }

  /** Whether the nodes can be worked on over SSH, for a cluster that has it, and have what its machines may want of them. */
  private async checkNodeFiles(
    hypervisor: Hypervisor,
    { snippets }: IntendedUse,
    call: Call,
  ): Promise<readonly CheckFinding[]> {
    const files = this.nodeFiles.get(hypervisor.cluster);
    if (files === undefined) return [];
    const { name, nodes: configured, containers } = this.definitionOf(hypervisor.cluster);
    const { exclude } = configured;
    const { blueprints, hooks } = this.context.site;
    const reporting = new Set(
      hooks.flatMap(({ definition }) => (definition.reports ? [definition.name] : [])),
    );
    const reports = blueprints.some(
      ({ clusters, container }) =>
        clusters.includes(name) &&
        (container?.firstBoot !== undefined || container?.hooks.some(({ hook }) => reporting.has(hook))),
    );
    const { nodes } = await hypervisor.inventory({ signal: call.signal });
    const used = nodes.map((node) => node.name).filter((node) => !exclude.includes(node));
    const online = nodes.flatMap((node) => (node.online ? [node.name] : []));
    return [
      ...(await files.check(used, { ...containers, reports }, call)),
      ...(await checkSnippetFiles(files, snippets, online, call)),
    ];
  }

  @Get('clusters/:name/guests')
  @Operation('listGuests', {
    summary: 'Guests in our range or pool that no machine of ours counts on, with the marks that they carry',
    access: ['admin'],
    answer: UncountedGuestPage,
  })
  listGuests(
    @Param('name', { schema: slug }) name: string,
    @Query({ schema: ListQuery }) query: z.infer<typeof ListQuery>,
  ): Promise<z.infer<typeof UncountedGuestPage>> {
    return this.guests.uncounted(this.definitionOf(name), query);
  }

  @Post('clusters/:name/record')
  @Operation('recordCluster', {
    summary: 'Shapes, times and refusals of harmless reads, to be compared with another cluster',
    access: ['admin'],
    answer: RecordingView,
  })
  async record(@Param('name', { schema: slug }) name: string): Promise<z.infer<typeof RecordingView>> {
    return this.hypervisors.get(name).record(plainCall(AbortSignal.timeout(RECORD_MS)));
  }

  @Get('clusters/:name/vendor-data')
  @Operation('vendorData', {
    summary: 'The cloud-init vendor data with which new machines phone home, for a snippet on the nodes',
    access: ['admin'],
    answer: VendorDataView,
  })
  vendorData(@Param('name', { schema: slug }) name: string): z.infer<typeof VendorDataView> {
    const { cluster } = this.hypervisors.get(name);
    const found = this.context.site.clusters.find(({ definition }) => definition.name === cluster);
    const { publicUrl } = this.context.settings.http;
    if (publicUrl === undefined)
      throw new HatcheryError(
        'not-applicable',
        'Unable to write vendor data: this service does not know where guests reach it',
        { hint: 'Set HATCHERY_PUBLIC_URL and start it again.' },
      );
    return { cluster, volume: found?.definition.vendorData ?? null, text: vendorData(publicUrl) };
  }

  @Get('blueprints')
  @Operation('listBlueprints', {
    summary: 'What people may choose',
    access: ['admin', 'teacher'],
    answer: BlueprintList,
  })
  blueprints(): z.infer<typeof BlueprintList> {
    return {
      items: this.context.site.blueprints.map((blueprint) => ({
        name: blueprint.name,
        version: blueprint.version,
        title: blueprint.title,
        kind: blueprint.kind,
        size: defaultSize(blueprint),
        clusters: blueprint.clusters,
        workflow: blueprint.workflow,
      })),
      nextCursor: null,
    };
  }
}

function findingView({
  ok,
  warning = false,
  ...said
}: CheckFinding): z.infer<typeof ClusterCheck>['findings'][number] {
  return { ok, level: ok ? (warning ? 'warn' : 'ok') : 'fail', ...said };
}
