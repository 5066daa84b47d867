import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GUEST, QemuBench } from './qemu-bench.js';

const status = (verb: string): string => `POST ${GUEST}/status/${verb}`;

describe('the power of a guest', () => {
  let bench: QemuBench;
  beforeEach(async () => {
    bench = await QemuBench.start();
  });
  afterEach(() => bench.stop());

  const current = (): Promise<Record<string, unknown>> => bench.read(`GET ${GUEST}/status/current`);
  const off = (): void => bench.simulator.foreign.setRunning(100, false);

  it.each(['reset', 'reboot', 'suspend', 'resume'])(
    '%s needs a running one, and says so at once',
    async (verb) => {
      off();
      expect(await bench.refusal(status(verb))).toBe('VM 100 not running');
    },
  );

  it('pauses and resumes; a paused one is not asked to shut down', async () => {
    expect(await bench.exit(status('suspend'))).toBe('OK');
    expect(await current()).toMatchObject({ status: 'running', qmpstatus: 'paused' });
    expect(await bench.refusal(status('shutdown'))).toBe('VM is paused - cannot shutdown');
    expect(await bench.refusal(status('reboot'))).toBe('VM is paused - cannot shutdown');
    expect(await bench.exit(status('resume'))).toBe('OK');
    expect(await current()).toMatchObject({ qmpstatus: 'running' });
    await bench.exit(status('suspend'));
    expect(await bench.exit(status('shutdown'), { forceStop: 1, timeout: 2 })).toBe('OK');
    expect(await current()).toMatchObject({ status: 'stopped', qmpstatus: 'stopped' });
  });

  it('is shut down within its timeout or fails, unless it is forced', async () => {
    expect(await bench.exit(status('shutdown'), { timeout: 0 })).toBe(
      'VM quit/powerdown failed - got timeout',
    );
    expect(await bench.log(status('shutdown'), { timeout: 0, forceStop: 1 })).toContain(
      'VM still running - terminating now with SIGTERM',
    );
    expect(await bench.exit(status('shutdown'))).toBe('OK');
    expect(await bench.exit(status('stop'))).toBe('OK');
  });

  it('goes to disk with a lock and comes back from there', async () => {
    expect(await bench.exit(status('suspend'), { todisk: 1 })).toBe('OK');
    expect(await bench.config()).toMatchObject({
      lock: 'suspended',
      vmstate: expect.stringMatching(/^ceph:vm-100-state-suspend-/),
    });
    expect(await bench.exit(status('resume'))).toBe('OK');
    const config = await bench.config();
    expect(config['lock'] ?? config['vmstate']).toBeUndefined();
    expect(await bench.send(status('suspend'), { statestorage: 'ceph' })).toMatchObject({
      status: 400,
      json: { errors: { todisk: "missing property required by 'statestorage'" } },
    });
  });

  it('boots again, and its agent with it', async () => {
    expect(await bench.exit(status('reboot'))).toBe('OK');
    expect(await bench.exit(status('reset'))).toBe('OK');
    expect(bench.simulator.guest(100)!.agentUpAtMs).toBeGreaterThan(0);
  });

  it('lets a stop overrule a shutdown that waits', async () => {
    bench.simulator.hold('qemu.shutdown', 'task-start');
    const upid = await bench.read<string>(status('shutdown'));
    await bench.simulator.reached('qemu.shutdown', 'task-start');
    expect(await bench.exit(status('stop'), { 'overrule-shutdown': 1 })).toBe('OK');
    expect((await bench.bench.follow(upid)).exit).toBe('received interrupt');
    bench.simulator.release('qemu.shutdown', 'task-start');
  });

  it.each([
    ['start', { skiplock: 1 }, 'skiplock'],
    ['start', { stateuri: 'tcp' }, 'stateuri'],
    ['start', { 'force-cpu': 'host' }, 'force-cpu'],
    ['stop', { keepActive: 1 }, 'keepActive'],
    ['reset', { skiplock: 1 }, 'skiplock'],
    ['resume', { nocheck: 1 }, 'nocheck'],
  ])('%s leaves %j to root', async (verb, form, key) => {
    expect(await bench.refusal(status(verb), form)).toBe(`{"${key}":"Only root may use this option."}`);
  });

  it('is not started under a lock, as a template, or where a storage is missing', async () => {
    off();
    bench.simulator.foreign.edit(100, { lock: 'backup' });
    expect(await bench.exit(status('start'))).toBe('VM is locked (backup)');
    expect(await bench.exit(status('start'), { skiplock: 1 }, 'ticket')).toBe('OK');
    await bench.make(105, { scsi0: 'local-lvm:1' });
    bench.simulator.foreign.edit(105, { scsi0: 'off:105/vm-105-disk-0.raw,size=1G' });
    expect(await bench.exit('POST /nodes/pve1/qemu/105/status/start')).toBe("storage 'off' is disabled");
  });
});
