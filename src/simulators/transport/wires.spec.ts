import { describe, expect, it } from 'vitest';
import { HttpWire } from './http-wire.js';
import { PostgresWire } from './postgres-wire.js';
import { RedisWire } from './redis-wire.js';
import type { Wire } from './wire.js';

const text = (value: string): Buffer => Buffer.from(`${value}\0`);
const message = (type: string, ...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const head = Buffer.from(`${type}0000`);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const startup = (code: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(8, 0);
  bytes.writeUInt32BE(code, 4);
  return bytes;
};
const sync = message('S');
const ready = message('Z', Buffer.from('I'));
const none = Buffer.alloc(0);

interface Case {
  readonly what: string;
  readonly wire: () => Wire;
  readonly sent: Buffer;
  readonly ops: readonly string[];
  readonly came: Buffer;
  readonly answers: number;
}

const CASES: Case[] = [
  {
    what: 'Redis commands in a pipeline, replies of every kind and pushes',
    wire: () => new RedisWire(),
    sent: Buffer.from(
      '*2\r\n$4\r\ninfo\r\n$3\r\n*1\n\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\nPING\r\n*1\r\n$4\r\nEXEC\r\n',
    ),
    ops: ['INFO', 'SET', 'PING', 'EXEC'],
    came: Buffer.from(
      '>2\r\n+pubsub\r\n+x\r\n$4\r\n*1\r\n\r\n%1\r\n+a\r\n*2\r\n:1\r\n$-1\r\n-ERR no\r\n|1\r\n+ttl\r\n:3\r\n*0\r\n',
    ),
    answers: 4,
  },
  {
    what: 'Postgres: start, simple and extended queries, notifications between',
    wire: () => new PostgresWire(),
    sent: Buffer.concat([
      startup(80_877_103),
      startup(196_608),
      message('p', text('secret')),
      message('Q', text('/* why */ commit')),
      message('P', text('one'), text('\n-- all\nselect 1')),
      message('B', text(''), text('one')),
      message('E', text('')),
      sync,
      message('B', text(''), text('one')),
      message('E', text('')),
      sync,
      message('P', text(''), text('insert into t values ($1)')),
      message('H'),
      sync,
      message('X'),
    ]),
    ops: ['STARTUP', 'COMMIT', 'SELECT', 'SELECT', 'SYNC', 'TERMINATE'],
    came: Buffer.concat([
      message('R', none),
      ready,
      message('A', text('topic')),
      message('C', text('COMMIT')),
      ready,
      message('D', text('ZZZZZ')),
      ready,
      ready,
      ready,
    ]),
    answers: 5,
  },
  {
    what: 'Postgres: an extended query that is let through at a Flush begins once',
    wire: () => new PostgresWire(),
    sent: Buffer.concat([
      startup(196_608),
      message('P', text(''), text('update t set a = 1')),
      message('B', text('p'), text('')),
      message('E', text('p')),
      message('H'),
      message('C', text('p')),
      sync,
    ]),
    ops: ['STARTUP', 'UPDATE'],
    came: Buffer.concat([ready, message('C', text('UPDATE 1')), ready]),
    answers: 2,
  },
  {
    what: 'HTTP bodies of a length, in chunks and none at all',
    wire: () => new HttpWire(),
    sent: Buffer.from(
      'POST /a?b=c HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz' +
        'PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhe\r\no\r\n0\r\nX: 1\r\n\r\n' +
        'HEAD / HTTP/1.1\r\n\r\nDELETE /d HTTP/1.1\r\n\r\nGET /e HTTP/1.1\r\n\r\n',
    ),
    ops: ['POST /a', 'PUT /b', 'HEAD /', 'DELETE /d', 'GET /e'],
    came: Buffer.from(
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok' +
        'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n' +
        'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n' +
        'HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n',
    ),
    answers: 5,
  },
];

describe('the wires of the transport', () => {
  const cut = (bytes: Buffer, length: number): Buffer[] =>
    Array.from({ length: Math.ceil(bytes.length / length) }, (_, index) =>
      bytes.subarray(index * length, (index + 1) * length),
    );

  for (const { what, wire, sent, ops, came, answers } of CASES)
    for (const length of [1, 7, 100_000])
      it(`read the same however they are cut: ${what} (${length})`, () => {
        const reader = wire();
        const requests = cut(sent, length).flatMap((chunk) => reader.requests(chunk));
        expect(requests.flatMap(({ op }) => op ?? [])).toEqual(ops);
        expect(Buffer.concat(requests.map(({ bytes }) => bytes)).equals(sent)).toBe(true);
        const pieces = cut(came, length).flatMap((chunk) => reader.answers(chunk));
        expect(pieces.filter(({ endsAnswer }) => endsAnswer)).toHaveLength(answers);
        expect(Buffer.concat(pieces.map(({ bytes }) => bytes)).equals(came)).toBe(true);
        expect(requests.filter(({ awaitsAnswer }) => awaitsAnswer).length).toBe(answers);
      });

  it('let everything pass that follows a change of protocol', () => {
    const wire = new HttpWire();
    wire.requests(Buffer.from('GET /socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'));
    wire.answers(Buffer.from('HTTP/1.1 101 Switching Protocols\r\n\r\n'));
    const frame = Buffer.from([0x81, 0x01, 0x0d]);
    expect(wire.requests(frame)).toEqual([{ bytes: frame }]);
    expect(wire.answers(frame)).toEqual([{ bytes: frame, endsAnswer: false }]);
  });

  it('refuse what is not their protocol', () => {
    const hello = Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01]);
    expect(() => new PostgresWire().requests(hello)).toThrow('not the start of a Postgres connection');
    expect(() => new HttpWire().requests(Buffer.alloc(70_000))).toThrow('not HTTP');
  });
});
