import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { RequestFailed } from '../http/send-request.js';
import { NoScriptAnswer, ScriptFailed } from './powershell.js';
import { NotWsman } from './shell.js';
import { winrmError, type ScriptContext } from './winrm-error.js';
import { WsmanFault } from './wsman.js';

const look: ScriptContext = { what: 'run x', isWrite: false, wasSent: false };
const waiting: ScriptContext = { what: 'run x', isWrite: true, wasSent: false };
const running: ScriptContext = { what: 'run x', isWrite: true, wasSent: true };
const cut = new RequestFailed(true, 'network', new Error('socket hang up'));
const lost = new RequestFailed(true, 'aborted', new Error('cancelled'));
const untrusted = new RequestFailed(false, 'untrusted', new Error('another fingerprint'));
const shells = new WsmanFault(
  2150859173,
  'This user is allowed a maximum number of 5 concurrent shells, which has been exceeded.',
);
const operations = new WsmanFault(
  2150859174,
  'This user is allowed a maximum number of 1500 concurrent operations, which has been exceeded.',
);
const gone = new WsmanFault(2150858843, 'the shell was not found on the server');
const refused = new HatcheryError('permission-missing', 'wrong password', { retry: 'after-fix' });

describe('what becomes of an error of WinRM', () => {
  it.each([
    ['a full quota of shells', shells, waiting, 'service-unreachable', 'later'],
    ['a full quota of operations', operations, waiting, 'service-unreachable', 'later'],
    [
      'no right to use WinRM',
      new WsmanFault(5, 'Access is denied.'),
      look,
      'permission-missing',
      'after-fix',
    ],
    ['another fault', gone, look, 'remote-refused', 'later'],
    ['a fault after the parameters left', gone, running, 'outcome-unknown', 'later'],
    ['a cut read', cut, look, 'service-unreachable', 'later'],
    ['a cut before the parameters left', cut, waiting, 'service-unreachable', 'later'],
    ['a cut after the parameters left', cut, running, 'outcome-unknown', 'later'],
    ['a caller that gave up after the parameters left', lost, running, 'outcome-unknown', 'later'],
    ['another certificate', untrusted, waiting, 'service-unreachable', 'after-fix'],
    [
      'a script without the right',
      new ScriptFailed('no', 'PermissionDenied'),
      running,
      'permission-missing',
      'after-fix',
    ],
    ['a script that failed', new ScriptFailed('DHCP service is stopped'), running, 'remote-refused', 'later'],
    ['a silent read', new NoScriptAnswer('nothing'), look, 'remote-refused', 'later'],
    ['a silent write', new NoScriptAnswer('nothing'), running, 'outcome-unknown', 'later'],
    ['something that is not WinRM', new NotWsman('HTTP 502'), waiting, 'remote-refused', 'later'],
    ['a refused sign-in', refused, waiting, 'permission-missing', 'after-fix'],
    ['a refused sign-in after the parameters left', refused, running, 'outcome-unknown', 'later'],
  ] as const)('%s', (_, error, context, code, retry) => {
    expect(winrmError(error, context)).toMatchObject({ code, retry });
  });

  it('leaves the reason of a caller that gave up before anything was written', () => {
    expect(winrmError(lost, waiting)).toEqual(new Error('cancelled'));
  });

  it('leaves what it does not know', () => {
    const bug = new TypeError('x');
    expect(winrmError(bug, running)).toBe(bug);
  });
});
