import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  Inject,
  Param,
  Post,
  Query,
  Res,
  UploadedFile,
} from '@nestjs/common';
import { ApiHeader, ApiProduces, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { z } from 'zod';
import { resultsCsv } from '../../core/results.js';
import { checkTarget } from '../../drivers/webhook/webhook.js';
import type { Intake } from '../../engine/intake.js';
import { idempotencyKey } from '../api/idempotency-key.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import type { AppContext } from '../context.js';
import {
  AddMachinesFields,
  BatchPage,
  BatchPlanView,
  BatchView,
  CreateBatchFields,
  CredentialsView,
  ListBatchesQuery,
  PlanBatchFields,
  ResultsQuery,
  ResultsView,
  RetriedView,
  RetryBatchRequest,
} from '../dto/batches.dto.js';
import { expectedView } from '../dto/expected.dto.js';
import { EventsQuery, EventView, lastEventId } from '../dto/events.dto.js';
import { plainText } from '../dto/text.js';
import { ListMachinesQuery, MachinePage } from '../dto/machines.dto.js';
import { EventStream } from '../events/event-stream.js';
import { MachineReads } from '../machines/machine-reads.js';
import { CONTEXT, INTAKE } from '../tokens.js';
import { BatchReads } from './batch-reads.js';
import { ResultReads } from './result-reads.js';
import { RosterReader } from './roster-reader.js';
import { readUpload, RosterForm, type UploadedRoster } from './roster-upload.js';

const idOrName = { schema: plainText(100) };
const EVERYBODY = ['admin', 'teacher'] as const;

@ApiTags('batches')
@Controller('api/v1/batches')
export class BatchesController {
  private readonly rosters = new RosterReader();

  constructor(
    private readonly reads: BatchReads,
    private readonly machines: MachineReads,
    private readonly resultReads: ResultReads,
    private readonly stream: EventStream,
    @Inject(INTAKE) private readonly intake: Intake,
    @Inject(CONTEXT) private readonly context: AppContext,
  ) {}

  @Post('plan')
  @RosterForm()
  @Operation('planBatch', {
    summary: 'What create would do; writes and reserves nothing',
    access: EVERYBODY,
    answer: BatchPlanView,
  })
  async plan(
    @Me() me: SignedIn,
    @UploadedFile() file: UploadedRoster | undefined,
    @Body({ schema: PlanBatchFields }) fields: z.infer<typeof PlanBatchFields>,
  ): Promise<z.infer<typeof BatchPlanView>> {
    const { rows, notes } = await readUpload(this.rosters, file);
    const { readyInMs, ...plan } = await this.intake.plan({ ...fields, rows }, me);
    const { remainingSeconds, expectedReadyAt } = expectedView(
      readyInMs === undefined ? undefined : Date.now() + readyInMs,
    );
    return {
      ...structuredClone(plan),
      estimateSeconds: remainingSeconds,
      expectedReadyAt,
      notes: [...notes, ...plan.notes],
    } as z.infer<typeof BatchPlanView>;
  }

  @Post()
  @RosterForm()
  @Operation('createBatch', {
    summary: 'Accepts a batch; its machines are made in the background',
    access: EVERYBODY,
    status: 202,
    answer: BatchView,
    idempotent: true,
  })
  async create(
    @Me() me: SignedIn,
    @UploadedFile() file: UploadedRoster | undefined,
    @Body({ schema: CreateBatchFields }) { notifyUrl, ...fields }: z.infer<typeof CreateBatchFields>,
    @Headers('idempotency-key') key: string | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<BatchView> {
    if (notifyUrl !== undefined) checkTarget(notifyUrl, this.context.settings.engine.notifyHosts);
    const { rows } = await readUpload(this.rosters, file);
    const request = { ...fields, rows, ...(notifyUrl === undefined ? {} : { notifyUrl }) };
    const { batchId, replayed } = await this.intake.create(request, me, idempotencyKey(key));
    response.setHeader('Location', `/api/v1/batches/${batchId}`);
    if (replayed) response.setHeader('Idempotent-Replayed', 'true');
    return this.reads.view(batchId, me);
  }

  @Get()
  @Operation('listBatches', { summary: 'Batches, newest first', access: EVERYBODY, answer: BatchPage })
  list(
    @Me() me: SignedIn,
    @Query({ schema: ListBatchesQuery }) query: z.infer<typeof ListBatchesQuery>,
  ): Promise<z.infer<typeof BatchPage>> {
    return this.reads.list(me, query);
  }

  @Get(':id')
  @Operation('getBatch', { summary: 'One batch, by id or name', access: EVERYBODY, answer: BatchView })
  get(@Me() me: SignedIn, @Param('id', idOrName) id: string): Promise<BatchView> {
    return this.reads.view(id, me);
  }

  @Delete(':id')
  @Operation('deleteBatch', {
    summary: 'Undoes every machine of a batch',
    access: EVERYBODY,
    status: 202,
    answer: BatchView,
  })
  async delete(@Me() me: SignedIn, @Param('id', idOrName) id: string): Promise<BatchView> {
    const batch = await this.reads.find(id, me);
    await this.intake.deleteBatch(batch.id, me);
    return this.reads.view(batch.id, me);
  }

  @Post(':id/cancel')
  @Operation('cancelBatch', {
    summary: 'Stops what is not finished and undoes it',
    access: EVERYBODY,
    status: 202,
    answer: BatchView,
  })
  async cancel(@Me() me: SignedIn, @Param('id', idOrName) id: string): Promise<BatchView> {
    const batch = await this.reads.find(id, me);
    await this.intake.cancelBatch(batch.id, me);
    return this.reads.view(batch.id, me);
  }

  @Post(':id/retry')
  @Operation('retryBatch', {
    summary: 'Tries the parked or failed machines of a batch again',
    access: EVERYBODY,
    status: 202,
    answer: RetriedView,
  })
  async retry(
    @Me() me: SignedIn,
    @Param('id', idOrName) id: string,
    @Body({ schema: RetryBatchRequest.prefault({}) }) { which, code }: z.infer<typeof RetryBatchRequest>,
  ): Promise<z.infer<typeof RetriedView>> {
    const batch = await this.reads.find(id, me);
    const retried = await this.intake.retryBatch(batch.id, { which, code }, me);
    return { ...retried, batch: await this.reads.view(batch.id, me) };
  }

  @Post(':id/machines')
  @RosterForm()
  @Operation('addMachines', {
    summary: 'More machines for a batch',
    access: EVERYBODY,
    status: 202,
    answer: BatchView,
    idempotent: true,
  })
  async add(
    @Me() me: SignedIn,
    @Param('id', idOrName) id: string,
    @UploadedFile() file: UploadedRoster | undefined,
    @Body({ schema: AddMachinesFields }) fields: z.infer<typeof AddMachinesFields>,
    @Headers('idempotency-key') key: string | undefined,
  ): Promise<BatchView> {
    const batch = await this.reads.find(id, me);
    const { rows } = await readUpload(this.rosters, file);
    await this.intake.addMachines(batch.id, { ...fields, rows }, me, idempotencyKey(key));
    return this.reads.view(batch.id, me);
  }

  @Get(':id/machines')
  @Operation('listBatchMachines', {
    summary: 'The machines of a batch in the order of the roster',
    access: EVERYBODY,
    answer: MachinePage,
  })
  async listMachines(
    @Me() me: SignedIn,
    @Param('id', idOrName) id: string,
    @Query({ schema: ListMachinesQuery }) query: z.infer<typeof ListMachinesQuery>,
  ): Promise<z.infer<typeof MachinePage>> {
    const batch = await this.reads.find(id, me);
    return this.machines.listOfBatch(batch.id, query);
  }

  @Get(':id/results')
  @Operation('batchResults', {
    summary: 'What became of every machine, and failures grouped by cause',
    access: EVERYBODY,
    answer: ResultsView,
  })
  async results(
    @Me() me: SignedIn,
    @Param('id', idOrName) id: string,
    @Query({ schema: ResultsQuery }) { format }: z.infer<typeof ResultsQuery>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<z.infer<typeof ResultsView> | string> {
    const batch = await this.reads.find(id, me);
    const results = await this.resultReads.of(batch, me);
    if (format === 'json') return results;
    response.type('text/csv; charset=utf-8').attachment(`${batch.name}.csv`);
    return resultsCsv(results.items);
  }

  @Post(':id/credentials')
  @Operation('batchCredentials', {
    summary: 'The generated passwords, once',
    access: EVERYBODY,
    answer: CredentialsView,
  })
  async credentials(
    @Me() me: SignedIn,
    @Param('id', idOrName) id: string,
  ): Promise<z.infer<typeof CredentialsView>> {
    const batch = await this.reads.find(id, me);
    return { items: [...(await this.intake.credentials(batch.id, me))] };
  }

  @Get(':id/events')
  @Operation('batchEvents', {
    summary: 'What happens to a batch, as it happens',
    access: EVERYBODY,
    answer: EventView,
  })
  @ApiProduces('text/event-stream')
  @ApiHeader({ name: 'Last-Event-ID', required: false })
  async events(
    @Me() user: SignedIn,
    @Param('id', idOrName) id: string,
    @Query({ schema: EventsQuery }) query: z.infer<typeof EventsQuery>,
    @Headers('last-event-id') header: string | undefined,
    @Res() response: Response,
  ): Promise<void> {
    const batch = await this.reads.find(id, user);
    const request = { user, batch: batch.id, after: lastEventId(header, query.after) };
    return this.stream.open(request, response);
  }
}
