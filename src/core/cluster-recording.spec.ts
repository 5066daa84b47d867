import { describe, expect, it } from 'vitest';
import { compareRecordings, type ClusterRecording } from './cluster-recording.js';

const call = (over: Partial<ClusterRecording['calls'][number]> = {}): ClusterRecording['calls'][number] => ({
  call: 'GET /version',
  status: 200,
  shape: [
    { at: '', types: ['object'], isOptional: false },
    { at: '.version', types: ['string'], isOptional: false },
  ],
  timing: { reads: 5, medianMs: 12, p95Ms: 20 },
  ...over,
});
const refusal = (
  over: Partial<ClusterRecording['refusals'][number]> = {},
): ClusterRecording['refusals'][number] => ({
  case: 'unknown path',
  call: 'GET /{path}',
  status: 501,
  reason: "Method 'GET /hatchery-nowhere' not implemented",
  body: 'json',
  message: "Method 'GET /hatchery-nowhere' not implemented",
  errors: {},
  contentType: 'application/json;charset=UTF-8',
  connection: 'close',
  ...over,
});
const recording = (over: Partial<ClusterRecording> = {}): ClusterRecording => ({
  format: 1,
  kind: 'proxmox',
  releases: ['9.1.4'],
  timeScale: 1,
  counts: { nodes: 3, guests: 12 },
  calls: [call()],
  refusals: [refusal()],
  ...over,
});

describe('what differs between two recordings', () => {
  it('is nothing when both answer alike', () => {
    expect(compareRecordings(recording(), recording({ releases: ['9.1.9'] }))).toEqual([]);
  });

  it('is a key, a type, a status, or a call that one has alone', () => {
    const shape = [
      { at: '', types: ['object' as const], isOptional: false },
      { at: '.version', types: ['digits' as const], isOptional: false },
      { at: '.release', types: ['string' as const], isOptional: true },
    ];
    expect(compareRecordings(recording(), recording({ calls: [call({ shape })] }))).toEqual([
      { subject: 'GET /version', detail: '.version: string left, digits right' },
      { subject: 'GET /version', detail: '.release: only right (string, not always)' },
    ]);
    expect(compareRecordings(recording(), recording({ calls: [call({ status: 403 })] }))).toEqual([
      { subject: 'GET /version', detail: 'status 200 left, 403 right' },
    ]);
    expect(compareRecordings(recording({ calls: [] }), recording())).toEqual([
      { subject: 'GET /version', detail: 'only right has it' },
    ]);
  });

  it('is a text', () => {
    const other = recording({ refusals: [refusal({ message: '', body: 'empty' })] });
    expect(compareRecordings(recording(), other).map(({ detail }) => detail)).toEqual([
      'body: "json" left, "empty" right',
      'message: "Method \'GET /hatchery-nowhere\' not implemented" left, "" right',
    ]);
  });

  it('is a time only when it is far off, and both ran in real time', () => {
    const slow = [call({ timing: { reads: 5, medianMs: 250, p95Ms: 400 } })];
    expect(compareRecordings(recording(), recording({ calls: slow }))).toEqual([
      { subject: 'GET /version', detail: 'median 12 ms left, 250 ms right' },
    ]);
    expect(compareRecordings(recording(), recording({ calls: slow, timeScale: 0.05 }))).toEqual([]);
  });
});
