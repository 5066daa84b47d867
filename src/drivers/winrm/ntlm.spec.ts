import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  authenticateMessage,
  channelBindings,
  negotiateMessage,
  ntlmIdentity,
  ntlmV2Response,
  readChallenge,
} from './ntlm.js';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');

/** The published example of MS-NLMP 4.2.4. */
const EXAMPLE = {
  user: 'User',
  domain: 'Domain',
  password: 'Password',
  serverChallenge: hex('0123456789abcdef'),
  clientChallenge: hex('aaaaaaaaaaaaaaaa'),
  time: Buffer.alloc(8),
  targetInfo: hex('02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000'),
};
const CHALLENGE_MESSAGE = hex(`
  4e544c4d53535000 02000000 0c000c0038000000 33828ae2 0123456789abcdef 0000000000000000
  2400240044000000 060070170000000f 530065007200760065007200
  02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000`);

describe('NTLMv2', () => {
  it('computes the published example of MS-NLMP 4.2.4', () => {
    const { nt, lm, sessionBaseKey } = ntlmV2Response(EXAMPLE);
    expect(nt.subarray(0, 16).toString('hex')).toBe('68cd0ab851e51c96aabc927bebef6a1c');
    expect(nt.subarray(16).toString('hex')).toBe(
      `01010000000000000000000000000000aaaaaaaaaaaaaaaa00000000${EXAMPLE.targetInfo.toString('hex')}00000000`,
    );
    expect(lm.toString('hex')).toBe('86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa');
    expect(sessionBaseKey.toString('hex')).toBe('8de40ccadbc14a82f15cb0ad0de95ca3');
  });

  it('reads the published challenge message', () => {
    const challenge = readChallenge(CHALLENGE_MESSAGE);
    expect(challenge?.serverChallenge).toEqual(EXAMPLE.serverChallenge);
    expect(challenge?.targetInfo).toEqual(EXAMPLE.targetInfo);
    expect(challenge?.flags).toBe(0xe28a8233);
  });

  it.each([
    ['a first message', negotiateMessage()],
    ['a cut message', CHALLENGE_MESSAGE.subarray(0, 40)],
    ['target information beyond the end', CHALLENGE_MESSAGE.subarray(0, 80)],
    ['something else', Buffer.alloc(64)],
  ])('takes %s for no challenge', (_, message) => {
    expect(readChallenge(message)).toBeUndefined();
  });

  it('splits DOMAIN\\user and leaves user@domain whole', () => {
    expect(ntlmIdentity('LAB\\hatchery', 'x')).toMatchObject({ domain: 'LAB', user: 'hatchery' });
    expect(ntlmIdentity('hatchery@lab.test', 'x')).toMatchObject({ domain: '', user: 'hatchery@lab.test' });
  });

  it('signs all three messages when the challenge holds a time', () => {
    const info = hex('0700 0800 0011223344556677 00000000');
    const message = Buffer.concat([CHALLENGE_MESSAGE.subarray(0, 68), info]);
    message.writeUInt16LE(info.length, 40);
    const negotiate = negotiateMessage();
    const authenticate = authenticateMessage({
      identity: EXAMPLE,
      negotiate,
      challenge: readChallenge(message)!,
      clientChallenge: EXAMPLE.clientChallenge,
      wallMs: 0,
      bindings: Buffer.alloc(16, 7),
    });
    const nt = authenticate
      .subarray(authenticate.readUInt32LE(24))
      .subarray(0, authenticate.readUInt16LE(20));
    const targetInfo = nt.subarray(16 + 28, nt.length - 4);
    expect(targetInfo.toString('hex')).toBe(
      `0700080000112233445566770600040002000000 0a001000${'07'.repeat(16)}00000000`.replace(' ', ''),
    );
    const time = hex('0011223344556677');
    const { sessionBaseKey, nt: expected } = ntlmV2Response({ ...EXAMPLE, time, targetInfo });
    expect(nt).toEqual(expected);
    const unsigned = Buffer.from(authenticate);
    unsigned.fill(0, 72, 88);
    const code = createHmac('md5', sessionBaseKey)
      .update(negotiate)
      .update(message)
      .update(unsigned)
      .digest();
    expect(authenticate.subarray(72, 88)).toEqual(code);
  });

  it('binds to the hash that the signature of the certificate names', () => {
    const certificate = (oid: string): Buffer => {
      const algorithm = hex(
        `30${(oid.length / 2 + 2).toString(16).padStart(2, '0')}06${(oid.length / 2).toString(16).padStart(2, '0')}${oid}`,
      );
      const body = Buffer.concat([hex('3003020101'), algorithm]);
      return Buffer.concat([Buffer.from([0x30, body.length]), body]);
    };
    const bindings = ['2a864886f70d01010b', '2a864886f70d01010c', '2a864886f70d01010d'].map((oid) =>
      channelBindings(certificate(oid)),
    );
    expect(bindings.map(({ length }) => length)).toEqual([16, 16, 16]);
    expect(new Set(bindings.map((value) => value.toString('hex'))).size).toBe(3);
  });
});
