import { Inject, Injectable } from '@nestjs/common';
import { getQueueToken } from '@nestjs/bullmq';
import { InjectDataSource } from '@nestjs/typeorm';
import type { Queue } from 'bullmq';
import type { RequestHandler } from 'express';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { DataSource } from 'typeorm';
import { STEP_QUEUE } from '../../drivers/bullmq/bull-dispatch.js';
import { RUN_STATES, STEP_STATES } from '../../core/states.js';
import { inTime } from '../in-time.js';
import type { RemoteMetrics } from './remote-metrics.js';

const COUNTS_KEPT_MS = 1000;
const PATIENCE_MS = 2000;
const QUEUE_STATES = ['waiting', 'active', 'delayed', 'prioritized', 'failed', 'completed'] as const;

/** Latency of remote calls; made before Nest so that drivers can have it. */
export class RemoteCallHistogram implements RemoteMetrics {
  readonly histogram = new Histogram({
    name: 'hatchery_remote_call_seconds',
    help: 'Calls to remote systems by outcome (ok or an error code)',
    labelNames: ['system', 'op', 'outcome'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
    registers: [],
  });

  observe(system: string, op: string, seconds: number, outcome: string): void {
    this.histogram.observe({ system, op, outcome }, seconds);
  }
}

/** All metrics of one process, in a registry of its own. */
@Injectable()
export class Metrics {
  readonly registry = new Registry();
  private readonly http = new Histogram({
    name: 'hatchery_http_request_seconds',
    help: 'Requests by route and status',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers: [this.registry],
  });
  private counts: { takenAt: number; rows: Promise<StateCount[]> } | undefined;

  constructor(
    @InjectDataSource() private readonly source: DataSource,
    @Inject(getQueueToken(STEP_QUEUE)) private readonly queue: Queue,
    remote: RemoteCallHistogram,
  ) {
    collectDefaultMetrics({ register: this.registry });
    this.registry.registerMetric(remote.histogram);
    this.addQueueDepth();
    this.addStates('hatchery_steps', 'Steps by state', 'step', STEP_STATES);
    this.addStates('hatchery_runs', 'Runs by state', 'run', RUN_STATES);
  }

  /** Measures requests; the route is its pattern, never the path with its ids. */
  middleware(): RequestHandler {
    return (request, response, next) => {
      const stop = this.http.startTimer();
      response.on('close', () => {
        const route: unknown = request.route;
        const pattern =
          typeof route === 'object' && route !== null && 'path' in route ? String(route.path) : 'none';
        stop({ method: request.method, route: pattern, status: String(response.statusCode) });
      });
      next();
    };
  }

  private addQueueDepth(): void {
    const { queue } = this;
    const gauge = new Gauge({
      name: 'hatchery_queue_jobs',
      help: 'Jobs in the queue of steps by state',
      labelNames: ['state'],
      registers: [this.registry],
      async collect() {
        const counts = await inTime(queue.getJobCounts(...QUEUE_STATES), PATIENCE_MS);
        // Not known is not zero.
        gauge.reset();
        if (counts === undefined) return;
        for (const state of QUEUE_STATES) gauge.set({ state }, counts[state] ?? 0);
      },
    });
  }

  private addStates(name: string, help: string, kind: 'step' | 'run', states: readonly string[]): void {
    const read = (): Promise<StateCount[]> => this.readCounts();
    const gauge = new Gauge({
      name,
      help,
      labelNames: ['state'],
      registers: [this.registry],
      async collect() {
        const counts = new Map(
          (await read()).filter((row) => row.kind === kind).map((row) => [row.state, row.count]),
        );
        for (const state of states) gauge.set({ state }, counts.get(state) ?? 0);
      },
    });
  }

  private readCounts(): Promise<StateCount[]> {
    if (this.counts === undefined || performance.now() - this.counts.takenAt > COUNTS_KEPT_MS) {
      const rows = this.source.query<StateCount[]>(
        `select 'step' as kind, state, count(*)::int as count from steps group by state
         union all select 'run', state, count(*)::int from runs group by state`,
      );
      this.counts = { takenAt: performance.now(), rows };
    }
    return this.counts.rows;
  }
}

interface StateCount {
  readonly kind: 'step' | 'run';
  readonly state: string;
  readonly count: number;
}
