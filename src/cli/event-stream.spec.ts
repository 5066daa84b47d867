import { describe, expect, it } from 'vitest';
import { EventStreamParser } from './event-stream.js';

const read = (...pieces: string[]) => {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.push(piece));
};

describe('an event stream', () => {
  it('gives type, data and id of each message', () => {
    expect(read('event: machine.state\nid: 7\ndata: {"a":1}\n\ndata: x\n\n')).toEqual([
      { event: 'machine.state', id: '7', data: '{"a":1}' },
      { event: 'message', id: '7', data: 'x' },
    ]);
  });

  it('reads the same whatever the pieces are', () => {
    const text = '\u{feff}: hello\r\nid: 1\r\nevent: a\r\ndata: é\r\ndata: 2\r\n\r\ndata:3\r\r';
    const whole = read(`${text}\n`);
    expect(whole).toEqual([
      { event: 'a', id: '1', data: 'é\n2' },
      { event: 'message', id: '1', data: '3' },
    ]);
    expect(read(...text, '\n')).toEqual(whole);
  });

  it('leaves out comments, unknown fields, messages without data and an unfinished one', () => {
    expect(read(': still here\n\n', 'event: a\n\n', 'retry: 5\nfoo: x\ndata\n\n', 'data: half\n')).toEqual([
      { event: 'message', id: undefined, data: '' },
    ]);
  });

  it('takes one space after the colon and no more', () => {
    expect(read('data:  x\ndata:y\n\n')[0]?.data).toBe(' x\ny');
  });

  it('keeps an id that holds NUL out', () => {
    expect(read('id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n').map(({ id }) => id)).toEqual(['1', '1']);
  });
});
