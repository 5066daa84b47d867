import { randomUUID } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';
import type { SharedNews, Turn } from '../../ports/shared-news.js';
import { waitFor } from '../wait-for.js';

/** A Redis that has not said by then whose turn it is says nothing: each process reads for itself. */
const ANSWER_MS = 300;
const END_TURN = `if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end`;
const NOBODY_TO_ASK: Turn = { end: () => undefined };

/** News over one channel of Redis; a turn is a key that expires. While Redis is away nothing is kept for later. */
export class RedisNews implements SharedNews {
  private readonly listeners = new Map<string, Set<(message: unknown) => void>>();
  private readonly subscriber: Redis | Cluster;
  private readonly self = randomUUID();
  private readonly channel: string;

  constructor(
    private readonly redis: Redis | Cluster,
    private readonly prefix: string,
    private readonly onError: (error: Error) => void,
  ) {
    this.channel = `${prefix}:news`;
    this.subscriber = redis.duplicate();
    this.subscriber.on('error', onError);
    this.subscriber.on('message', (_channel: string, text: string) => this.deliver(text));
  }

  async start(): Promise<void> {
    await this.subscriber.subscribe(this.channel);
  }

  tell(topic: string, message: unknown): void {
    if (this.redis.status !== 'ready') return;
    this.redis
      .publish(this.channel, `${this.self} ${topic}\n${JSON.stringify(message)}`)
      .catch((error: unknown) => this.failed(error));
  }

  hear(topic: string, listener: (message: unknown) => void): () => void {
    const set = this.listeners.get(topic) ?? new Set();
    this.listeners.set(topic, set.add(listener));
    return () => set.delete(listener);
  }

  async takeTurn(topic: string, forMs: number): Promise<Turn | undefined> {
    if (this.redis.status !== 'ready') return NOBODY_TO_ASK;
    const key = `${this.prefix}:turn:${topic}`;
    const mine = randomUUID();
    try {
      const asked = this.redis.set(key, mine, 'PX', Math.ceil(forMs), 'NX');
      if ((await waitFor(asked, AbortSignal.timeout(ANSWER_MS))) !== 'OK') return undefined;
    } catch (error) {
      this.failed(error);
      return NOBODY_TO_ASK;
    }
    return {
      end: () => {
        if (this.redis.status !== 'ready') return;
        this.redis.eval(END_TURN, 1, key, mine).catch((error: unknown) => this.failed(error));
      },
    };
  }

  stop(): void {
    this.listeners.clear();
    this.subscriber.disconnect();
  }

  /** `<process> <topic>\n<JSON>`: what nobody here listens to is not even read. */
  private deliver(text: string): void {
    const end = text.indexOf('\n');
    const [from, topic = ''] = text.slice(0, end).split(' ');
    const listeners = this.listeners.get(topic);
    if (from === this.self || !listeners?.size) return;
    try {
      const message: unknown = JSON.parse(text.slice(end + 1));
      for (const listener of listeners) listener(message);
    } catch (error) {
      this.failed(error);
    }
  }

  private failed(error: unknown): void {
    this.onError(error instanceof Error ? error : new Error(String(error)));
  }
}
