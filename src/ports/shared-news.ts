/**
 * What one process of a deployment has just read, told to the others, so that it is read once for all of them.
 * Messages are hints: one may come late, twice or never, and one of another release may have another shape. Losing them costs calls and time, nothing else.
 */
export interface SharedNews {
  /** Tells every other process, at once and without waiting. `message` goes as JSON. */
  tell(topic: string, message: unknown): void;
  /** What other processes tell under `topic`, until the function that it gives is called. */
  hear(topic: string, listener: (message: unknown) => void): () => void;
  /** The right to be the one who reads, for at most `forMs`; `undefined` = another process has it. Where nobody can tell, everybody has it. */
  takeTurn(topic: string, forMs: number): Promise<Turn | undefined>;
}

export interface Turn {
  end(): void;
}

/** Of a process that is alone: nobody to tell, nobody to wait for. */
export const noNews: SharedNews = {
  tell: () => undefined,
  hear: () => () => undefined,
  takeTurn: () => Promise.resolve({ end: () => undefined }),
};
