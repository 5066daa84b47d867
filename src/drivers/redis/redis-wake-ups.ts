import type { Cluster, Redis } from 'ioredis';
import type { WakeUps, WakeUpTopic } from '../../ports/dispatch.js';

type Published = Exclude<WakeUpTopic, 'outbox' | 'gone'>;

/** `outbox` and `gone` stay in the process (each looks after its own); the others go to all. Bursts are joined: those that people look at for longer. */
const JOIN_MS = { work: 5, events: 50, 'passed-on': 5 };

export class RedisWakeUps implements WakeUps {
  private readonly listeners = new Map<WakeUpTopic, Set<() => void>>();
  private readonly wanted = new Set<Published>();
  private readonly underWay = new Set<Published>();
  private readonly subscriber: Redis | Cluster;
  private readonly channel: string;

  constructor(
    private readonly redis: Redis | Cluster,
    prefix: string,
    private readonly onError: (error: Error) => void,
  ) {
    this.channel = `${prefix}:wake`;
    this.subscriber = redis.duplicate();
    this.subscriber.on('error', onError);
    this.subscriber.on('message', (_channel: string, topic: string) => this.ring(topic as WakeUpTopic));
  }

  async start(): Promise<void> {
    await this.subscriber.subscribe(this.channel);
  }

  notify(topic: WakeUpTopic): void {
    if (topic === 'outbox' || topic === 'gone') {
      this.ring(topic);
      return;
    }
    if (this.wanted.has(topic)) return;
    this.wanted.add(topic);
    if (!this.underWay.has(topic)) setTimeout(() => void this.publish(topic), JOIN_MS[topic]);
  }

  /** One at a time: while Redis is away, messages do not pile up. */
  private async publish(topic: Published): Promise<void> {
    this.wanted.delete(topic);
    this.underWay.add(topic);
    await this.redis
      .publish(this.channel, topic)
      .catch((error: unknown) => this.onError(error instanceof Error ? error : new Error(String(error))));
    this.underWay.delete(topic);
    if (this.wanted.has(topic)) setTimeout(() => void this.publish(topic), JOIN_MS[topic]);
  }

  on(topic: WakeUpTopic, listener: () => void): () => void {
    const set = this.listeners.get(topic) ?? new Set();
    this.listeners.set(topic, set.add(listener));
    return () => set.delete(listener);
  }

  async stop(): Promise<void> {
    this.listeners.clear();
    this.subscriber.disconnect();
    await Promise.resolve();
  }

  private ring(topic: WakeUpTopic): void {
    for (const listener of this.listeners.get(topic) ?? []) listener();
  }
}
