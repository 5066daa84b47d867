interface Asked<I, O> {
  readonly item: I;
  readonly resolve: (answer: O) => void;
  readonly reject: (why: unknown) => void;
}

/** Joins what is asked for while an earlier question is on its way: one question for all of it, one answer for each. */
export class Joined<I, O> {
  private waiting: Asked<I, O>[] = [];
  private isAsking = false;

  constructor(
    /** Items of one question. */
    private readonly most: number,
    private readonly askAll: (items: readonly I[]) => Promise<readonly O[]>,
  ) {}

  /** What waits to be asked. */
  get items(): readonly I[] {
    return this.waiting.map(({ item }) => item);
  }

  ask(item: I): Promise<O> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.isAsking) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.isAsking = true;
    // What comes in the same turn goes along.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      const some = this.waiting.splice(0, this.most);
      try {
        const answers = await this.askAll(some.map(({ item }) => item));
        for (const [index, { resolve }] of some.entries()) resolve(answers[index]!);
      } catch (error) {
        for (const { reject } of some) reject(error);
      }
    }
    this.isAsking = false;
  }
}
