/** One message of a server-sent event stream. */
export interface StreamMessage {
  readonly event: string;
  readonly data: string;
  /** The last id seen so far, of this message or of one before it. */
  readonly id: string | undefined;
}

/**
 * Reads a server-sent event stream (HTML standard, section 9.2) in whatever pieces it arrives.
 * Comments, fields without meaning and an unfinished message at the end are left out.
 */
export class EventStreamParser {
  #rest = '';
  #isFirst = true;
  #lastId: string | undefined;
  #event = '';
  #data: string[] = [];

  /** The messages that this piece completes. */
  push(piece: string): StreamMessage[] {
    let text = this.#rest + piece;
    if (this.#isFirst && text !== '') {
      this.#isFirst = false;
      if (text.startsWith('\u{feff}')) text = text.slice(1);
    }
    const messages: StreamMessage[] = [];
    let start = 0;
    // A CR at the very end may be half of a CRLF: it waits for the next piece.
    for (const end of text.matchAll(/\r\n|\n|\r(?!$)/g)) {
      const message = this.#line(text.slice(start, end.index));
      if (message) messages.push(message);
      start = end.index + end[0].length;
    }
    this.#rest = text.slice(start);
    return messages;
  }

  #line(line: string): StreamMessage | undefined {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#lastId = value;
    return undefined;
  }

  #dispatch(): StreamMessage | undefined {
    const message =
      this.#data.length === 0
        ? undefined
        : { event: this.#event || 'message', data: this.#data.join('\n'), id: this.#lastId };
    this.#event = '';
    this.#data = [];
    return message;
  }
}
