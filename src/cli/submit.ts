import { randomUUID } from 'node:crypto';
import { HatcheryError } from '../core/errors.js';
import { mayHaveArrived } from './api.js';
import type { Cli } from './cli.js';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
const MAX_TRIES = 12;

/**
 * Sends a request that makes something, under one Idempotency-Key: when the connection breaks after it may have arrived,
 * the same request is sent again until an answer comes (about a minute).
 */
export async function submit<T>(cli: Cli, send: (idempotencyKey: string) => Promise<T>): Promise<T> {
  const key = randomUUID();
  for (let tries = 1; ; tries += 1) {
    try {
      return await send(key);
    } catch (error) {
      const isDoubt = tries === 1 ? mayHaveArrived(error) : isPassing(error);
      if (!isDoubt || tries === MAX_TRIES) throw error;
      if (tries === 1) cli.say('The connection broke; asking again whether the request arrived ...');
      await cli.world.sleep(Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS));
    }
  }
}

/** Once a request may have arrived, a service that is just away or still at it gets more time. */
const isPassing = (error: unknown): boolean =>
  error instanceof HatcheryError &&
  (error.code === 'service-unreachable' || error.code === 'idempotency-in-progress');
