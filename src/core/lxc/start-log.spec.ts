import { describe, expect, it } from 'vitest';
import { readStartLog } from './start-log.js';

describe('the log of a start that failed', () => {
  it.each([
    [['run_buffer: 571 Script exited with status 1', 'do_start: 1310 Failed to run lxc.hook.start'], true],
    [
      ['verify_start_hooks: 4023 Start hook "/var/lib/hatchery/first-boot/hook" not found in container'],
      true,
    ],
    [['mount_entry: 2446 Failed to mount "/var/lib/hatchery/hooks/x" on "/usr/lib/lxc/rootfs"'], true],
    [['hookscript error for 105 on pre-start: command failed'], false],
    [['lxc_map_ids: 245 newuidmap failed to write mapping'], false],
  ])('%j is about a hook of ours: %s', (lines, isHook) => {
    const log = [
      ...lines,
      '__lxc_start: 2114 Failed to spawn container "105"',
      "TASK ERROR: startup for container '105' failed",
    ];
    expect(readStartLog(log)).toEqual({ why: lines.join('; '), isHook });
  });

  it('says nothing when it holds no more than the verdict', () => {
    expect(readStartLog(["TASK ERROR: startup for container '105' failed"])).toBeUndefined();
  });
});
