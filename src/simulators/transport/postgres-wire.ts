import type { AnswerPiece, RequestPiece, Wire } from './wire.js';

const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const CANCEL_REQUEST = 80_877_102;
/** Nobody's start-up message is longer; TLS without a question before it is. */
const STARTUP_LIMIT_BYTES = 10_000;
/** Parts of an extended query that do nothing until Sync or Flush. */
const PREPARING = new Set(['P', 'B', 'D', 'E', 'C']);
const KEYWORD = /^(?:\s|--[^\n]*\n|\/\*[^]*?\*\/|\()*([a-z]+)/i;

interface Message {
  /** Empty for the first one of a connection. */
  readonly type: string;
  readonly bytes: Buffer;
}

/**
 * Postgres protocol 3. A request is one simple query, or one extended query up to its Sync: held back until then, because the server commits it
 * no earlier. Its op is the first keyword of the SQL text in capitals (`COMMIT`, `INSERT`, `SELECT`, `WITH`); `SYNC` without an Execute; `STARTUP`, `CANCEL`,
 * `TERMINATE`, `CALL` (of a function) are the protocol's own. An answer is whole when the server is ready for the next query. TLS is declined, so
 * that the wire stays readable.
 */
export class PostgresWire implements Wire {
  #isStarted = false;
  #rest = Buffer.alloc(0);
  #held: Buffer[] = [];
  /** Of the extended query that is being held. */
  #op: string | undefined;
  /** The extended query was let through at a Flush: its Sync begins nothing new. */
  #isThrough = false;
  readonly #statements = new Map<string, string>();
  readonly #portals = new Map<string, string>();
  readonly #answers = new AnswerReader();

  requests(chunk: Buffer): RequestPiece[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const pieces: RequestPiece[] = [];
    for (let message = this.#take(); message; message = this.#take()) {
      const piece = message.type === '' ? this.#first(message.bytes) : this.#request(message);
      if (piece) pieces.push(piece);
    }
    return pieces;
  }

  answers(chunk: Buffer): AnswerPiece[] {
    return this.#answers.read(chunk);
  }

  #take(): Message | undefined {
    const headBytes = this.#isStarted ? 5 : 4;
    if (this.#rest.length < headBytes) return undefined;
    const length = this.#rest.readUInt32BE(headBytes - 4) + headBytes - 4;
    if (!this.#isStarted && length > STARTUP_LIMIT_BYTES)
      throw new Error('this is not the start of a Postgres connection');
    if (this.#rest.length < length) return undefined;
    const bytes = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return { type: this.#isStarted ? String.fromCharCode(bytes[0]!) : '', bytes };
  }

  #first(bytes: Buffer): RequestPiece {
    const code = bytes.readUInt32BE(4);
    if (code === SSL_REQUEST || code === GSS_REQUEST) return { bytes, reply: Buffer.from('N') };
    if (code === CANCEL_REQUEST) return { bytes, op: 'CANCEL' };
    this.#isStarted = true;
    return { bytes, op: 'STARTUP', awaitsAnswer: true };
  }

  #request({ type, bytes }: Message): RequestPiece | undefined {
    if (PREPARING.has(type)) {
      this.#held.push(bytes);
      this.#prepare(type, bytes);
      return undefined;
    }
    if (type === 'S' || type === 'H') return this.#letThrough(bytes, type === 'S');
    if (type === 'Q') return { bytes, op: keywordOf(texts(bytes, 5, 1)[0]), awaitsAnswer: true };
    if (type === 'F') return { bytes, op: 'CALL', awaitsAnswer: true };
    if (type === 'X') return { bytes, op: 'TERMINATE' };
    return { bytes };
  }

  /** Notes which SQL text an Execute is about. */
  #prepare(type: string, bytes: Buffer): void {
    const [first = '', second = ''] = type === 'P' || type === 'B' ? texts(bytes, 5, 2) : texts(bytes, 5, 1);
    if (type === 'P') this.#statements.set(first, keywordOf(second));
    else if (type === 'B') this.#portals.set(first, this.#statements.get(second) ?? 'EXECUTE');
    else if (type === 'E') this.#op ??= this.#portals.get(first) ?? 'EXECUTE';
  }

  #letThrough(last: Buffer, isSync: boolean): RequestPiece {
    const bytes = Buffer.concat([...this.#held, last]);
    const begins = !this.#isThrough && (isSync || this.#op !== undefined);
    const piece = begins ? { bytes, op: this.#op ?? 'SYNC', awaitsAnswer: true } : { bytes };
    this.#held = [];
    if (begins || isSync) this.#op = undefined;
    this.#isThrough = !isSync && (begins || this.#isThrough);
    return piece;
  }
}

/** Ends an answer at ReadyForQuery. */
class AnswerReader {
  #head = Buffer.alloc(0);
  #left = 0;
  #isReady = false;

  read(chunk: Buffer): AnswerPiece[] {
    const pieces: AnswerPiece[] = [];
    let from = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#left === 0) {
        const more = chunk.subarray(at, at + 5 - this.#head.length);
        this.#head = Buffer.concat([this.#head, more]);
        at += more.length;
        if (this.#head.length < 5) break;
        this.#left = this.#head.readUInt32BE(1) - 4;
        this.#isReady = this.#head[0] === 0x5a;
        this.#head = Buffer.alloc(0);
      }
      const step = Math.min(this.#left, chunk.length - at);
      this.#left -= step;
      at += step;
      if (this.#left > 0 || !this.#isReady) continue;
      this.#isReady = false;
      pieces.push({ bytes: chunk.subarray(from, at), endsAnswer: true });
      from = at;
    }
    if (from < chunk.length) pieces.push({ bytes: chunk.subarray(from), endsAnswer: false });
    return pieces;
  }
}

/** The first zero-terminated texts of a message. */
function texts(bytes: Buffer, from: number, count: number): string[] {
  const found: string[] = [];
  for (let at = from; found.length < count;) {
    const end = bytes.indexOf(0, at);
    if (end < 0) break;
    found.push(bytes.toString('utf8', at, end));
    at = end + 1;
  }
  return found;
}

function keywordOf(sql = ''): string {
  return KEYWORD.exec(sql)?.[1]?.toUpperCase() ?? 'EMPTY';
}
