/** Attempts run side by side; a run that killed workers runs with nothing beside it. First come, first served. */
export class AloneGate {
  private running = 0;
  private isAlone = false;
  private readonly line: { alone: boolean; enter: () => void }[] = [];

  /** Somebody stands in line. */
  get isAwaited(): boolean {
    return this.line.length > 0;
  }

  async together<T>(work: () => Promise<T>): Promise<T> {
    return this.pass(false, work);
  }

  async alone<T>(work: () => Promise<T>): Promise<T> {
    return this.pass(true, work);
  }

  private async pass<T>(alone: boolean, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((enter) => {
      this.line.push({ alone, enter });
      this.admit();
    });
    try {
      return await work();
    } finally {
      this.running -= 1;
      this.isAlone = false;
      this.admit();
    }
  }

  private admit(): void {
    for (let next = this.line[0]; next !== undefined; next = this.line[0]) {
      if (this.isAlone || (next.alone && this.running > 0)) return;
      this.line.shift();
      this.running += 1;
      this.isAlone = next.alone;
      next.enter();
    }
  }
}
