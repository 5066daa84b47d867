import { describe, expect, it } from 'vitest';
import { RequestFailed } from '../http/send-request.js';
import { noAnswer, refusal } from './guacamole-error.js';

const write = { what: 'make the connection vm-1', isWrite: true };
const look = { what: 'list the groups', isWrite: false };
const said = (type: string, message = 'text') => ({ type, message });

describe('an answer that refuses', () => {
  it.each([
    ['wrong password', 403, said('INVALID_CREDENTIALS'), write, 'permission-missing', 'after-fix'],
    ['a second factor', 403, said('INSUFFICIENT_CREDENTIALS'), write, 'permission-missing', 'after-fix'],
    ['a missing right', 403, said('PERMISSION_DENIED'), write, 'permission-missing', 'after-fix'],
    ['throttled sign-ins', 429, said('BAD_REQUEST'), look, 'service-unreachable', 'later'],
    ['a bad value', 400, said('BAD_REQUEST'), write, 'remote-refused', 'never'],
    ['an internal error of a read', 500, said('INTERNAL_ERROR'), look, 'service-unreachable', 'later'],
    ['an internal error of a write', 500, said('INTERNAL_ERROR'), write, 'outcome-unknown', 'later'],
    ['the page of a proxy', 502, undefined, write, 'outcome-unknown', 'later'],
  ] as const)('%s', (_, status, body, context, code, retry) => {
    expect(refusal(status, body, context)).toMatchObject({ code, retry });
  });

  it('is quoted on one line', () => {
    expect(refusal(400, said('BAD_REQUEST', 'first\r\n\u001b[31msecond'), write).message).toBe(
      'Unable to make the connection vm-1: first [31msecond',
    );
  });
});

describe('no answer', () => {
  const failed = (sent: boolean, why: RequestFailed['why']) =>
    new RequestFailed(sent, why, new Error('cause'));

  it.each([
    ['a write that left', true, 'network', write, { code: 'outcome-unknown', retry: 'later' }],
    [
      'a write that left before its caller gave up',
      true,
      'aborted',
      write,
      { code: 'outcome-unknown', retry: 'later' },
    ],
    ['a write that never left', false, 'network', write, { code: 'service-unreachable', retry: 'later' }],
    ['a read', true, 'timeout', look, { code: 'service-unreachable', retry: 'later' }],
    ['an untrusted peer', false, 'untrusted', look, { code: 'service-unreachable', retry: 'after-fix' }],
  ] as const)('%s', (_, sent, why, context, expected) => {
    expect(noAnswer(failed(sent, why), context)).toMatchObject(expected);
  });

  it('gives a caller that gave up its own reason', () => {
    expect(noAnswer(failed(true, 'aborted'), look)).toEqual(new Error('cause'));
  });
});
