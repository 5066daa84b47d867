import type { AnswerPiece, RequestPiece, Wire } from './wire.js';

const HEAD_LIMIT_BYTES = 65_536;

/** How the body of a message ends. */
type Body = { readonly left: number } | 'chunked' | 'until-close';

/**
 * HTTP/1.1. An op is the method and the path without its query, as sent (`POST /api2/json/nodes/pve1/qemu/9000/clone`): `POST *` matches every POST.
 * What follows a change of protocol (WebSocket) is not read.
 */
export class HttpWire implements Wire {
  readonly #requests = new MessageReader((head) => bodyOf(head) ?? { left: 0 });
  readonly #answers = new MessageReader((head) => this.#bodyOfAnswer(head));
  /** Methods of the requests that have no answer yet. */
  readonly #methods: string[] = [];
  #isHttp = true;

  requests(chunk: Buffer): RequestPiece[] {
    if (!this.#isHttp) return [{ bytes: chunk }];
    return this.#requests.read(chunk).map(({ bytes, head }) => {
      if (head === undefined) return { bytes };
      const [method = '', target = ''] = head.split(' ', 2);
      this.#methods.push(method);
      return { bytes, op: `${method} ${target.split('?', 1)[0]}`, awaitsAnswer: true };
    });
  }

  answers(chunk: Buffer): AnswerPiece[] {
    return this.#answers.read(chunk).map(({ bytes, isLast }) => ({ bytes, endsAnswer: isLast }));
  }

  /** `undefined` = another head follows: this one was only a sign of life. */
  #bodyOfAnswer(head: string): Body | undefined {
    const status = Number(head.split(' ', 2)[1]);
    this.#isHttp = status !== 101;
    if (!this.#isHttp) return 'until-close';
    if (status < 200) return undefined;
    const method = this.#methods.shift();
    if (method === 'HEAD' || status === 204 || status === 304) return { left: 0 };
    return bodyOf(head) ?? 'until-close';
  }
}

function bodyOf(head: string): Body | undefined {
  if (/^transfer-encoding:.*\bchunked\b/im.test(head)) return 'chunked';
  const length = /^content-length:\s*(\d+)/im.exec(head)?.[1];
  return length === undefined ? undefined : { left: Number(length) };
}

interface MessagePiece {
  readonly bytes: Buffer;
  /** The message begins with this piece. */
  readonly head?: string;
  readonly isLast: boolean;
}

/** Cuts one direction into messages. A head goes on as a whole, a body as it comes. */
class MessageReader {
  #held = Buffer.alloc(0);
  #body: BodyReader | undefined;

  constructor(private readonly bodyAfter: (head: string) => Body | undefined) {}

  read(chunk: Buffer): MessagePiece[] {
    const pieces: MessagePiece[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      let head: string | undefined;
      let headBytes = Buffer.alloc(0);
      if (this.#body === undefined) {
        this.#held = Buffer.concat([this.#held, rest]);
        const end = this.#held.indexOf('\r\n\r\n');
        if (end < 0 && this.#held.length > HEAD_LIMIT_BYTES) throw new Error('this is not HTTP');
        if (end < 0) break;
        headBytes = this.#held.subarray(0, end + 4);
        rest = this.#held.subarray(end + 4);
        this.#held = Buffer.alloc(0);
        head = headBytes.toString('latin1');
        const body = this.bodyAfter(head);
        if (body === undefined) {
          pieces.push({ bytes: headBytes, isLast: false });
          continue;
        }
        this.#body = new BodyReader(body);
      }
      const length = this.#body.read(rest);
      const bytes = Buffer.concat([headBytes, rest.subarray(0, length)]);
      rest = rest.subarray(length);
      pieces.push({ bytes, ...(head !== undefined && { head }), isLast: this.#body.isOver });
      if (this.#body.isOver) this.#body = undefined;
    }
    return pieces;
  }
}

/** Finds where a body ends. */
class BodyReader {
  isOver: boolean;
  #left: number;
  #line = '';
  #isTrailer = false;

  constructor(private readonly body: Body) {
    this.#left = typeof body === 'object' ? body.left : 0;
    this.isOver = typeof body === 'object' && body.left === 0;
  }

  /** How many of these bytes are the body's. */
  read(bytes: Buffer): number {
    if (this.body === 'until-close') return bytes.length;
    let at = 0;
    while (at < bytes.length && !this.isOver) {
      if (this.#left > 0) {
        const step = Math.min(this.#left, bytes.length - at);
        this.#left -= step;
        at += step;
        this.isOver = this.body !== 'chunked' && this.#left === 0;
        continue;
      }
      const newline = bytes.indexOf(0x0a, at);
      this.#line += bytes.toString('latin1', at, newline < 0 ? bytes.length : newline);
      at = newline < 0 ? bytes.length : newline + 1;
      if (newline >= 0) this.#chunkLine();
    }
    return at;
  }

  #chunkLine(): void {
    const line = this.#line.trimEnd();
    this.#line = '';
    if (this.#isTrailer) this.isOver = line === '';
    else if (Number.parseInt(line, 16) === 0) this.#isTrailer = true;
    // The end of line after the chunk goes with it.
    else this.#left = Number.parseInt(line, 16) + 2;
  }
}
