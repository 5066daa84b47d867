import type { AnswerPiece, RequestPiece, Wire } from './wire.js';

const COMMAND = /^(?:\*\d+\r\n\$\d+\r\n)?([^\s]+)/;
/** After one of these the other side speaks without being asked. */
const LISTENS = new Set(['SUBSCRIBE', 'PSUBSCRIBE', 'SSUBSCRIBE', 'MONITOR']);

/**
 * RESP 2 and 3. An op is the command's name in capitals (`XADD`, `EVALSHA`, `CLIENT`). On a connection that listens (SUBSCRIBE ...) whatever
 * comes next counts as the answer.
 */
export class RedisWire implements Wire {
  readonly #commands = new RespReader();
  readonly #replies = new RespReader();
  #held: Buffer[] = [];
  #listens = false;

  /** A command goes on as a whole. */
  requests(chunk: Buffer): RequestPiece[] {
    const pieces: RequestPiece[] = [];
    let from = 0;
    for (;;) {
      const end = this.#commands.endOfValue(chunk, from);
      if (end === undefined) break;
      const bytes = Buffer.concat([...this.#held, chunk.subarray(from, end)]);
      this.#held = [];
      from = end;
      const op = COMMAND.exec(bytes.toString('latin1', 0, 128))?.[1]?.toUpperCase() ?? 'EMPTY';
      if (LISTENS.has(op)) this.#listens = true;
      pieces.push({ bytes, op, awaitsAnswer: true });
    }
    if (from < chunk.length) this.#held.push(chunk.subarray(from));
    return pieces;
  }

  answers(chunk: Buffer): AnswerPiece[] {
    if (this.#listens) return [{ bytes: chunk, endsAnswer: true }];
    const pieces: AnswerPiece[] = [];
    let from = 0;
    while (from < chunk.length) {
      const end = this.#replies.endOfValue(chunk, from);
      pieces.push({
        bytes: chunk.subarray(from, end),
        endsAnswer: end !== undefined && !this.#replies.isPush,
      });
      from = end ?? chunk.length;
    }
    return pieces;
  }
}

/** Follows one direction of a connection and tells where its outermost values end. */
class RespReader {
  /** The last value was sent without a question (RESP 3). */
  isPush = false;
  /** Start of a line that has not ended yet. */
  #line = '';
  /** Bytes of a bulk string that are still to come, with its end of line. */
  #bulk = 0;
  /** Values that belong to the outermost one and are still to come. */
  #values = 0;

  /** The offset behind the value that is being read; `undefined` = it goes on in the next chunk. */
  endOfValue(chunk: Buffer, from: number): number | undefined {
    let at = from;
    while (at < chunk.length) {
      if (this.#bulk > 0) {
        const length = Math.min(this.#bulk, chunk.length - at);
        this.#bulk -= length;
        at += length;
      } else {
        const newline = chunk.indexOf(0x0a, at);
        this.#line += chunk.toString('latin1', at, newline < 0 ? chunk.length : newline);
        if (newline < 0) return undefined;
        at = newline + 1;
        this.#begin(this.#line);
        this.#line = '';
      }
      if (this.#bulk === 0 && this.#values === 0) return at;
    }
    return undefined;
  }

  #begin(line: string): void {
    if (this.#values === 0) {
      this.#values = 1;
      this.isPush = line.startsWith('>');
    }
    this.#values -= 1;
    const count = Math.max(-1, Number.parseInt(line.slice(1), 10));
    if (/^[*~>]/.test(line)) this.#values += Math.max(0, count);
    else if (line.startsWith('%')) this.#values += 2 * count;
    // An attribute stands before the value that it is about.
    else if (line.startsWith('|')) this.#values += 2 * count + 1;
    else if (/^[$!=]/.test(line) && count >= 0) this.#bulk = count + 2;
  }
}
