import type { Hypervisor } from '../ports/hypervisor.js';
import { StepWait, type StepRun } from '../plan/step.js';

/**
 * Gives up the machine's VMID, under which a guest of somebody else was found, and takes the next free one.
 * When it bears the mark of another deployment, the cluster is stopped: two deployments take their numbers from one range.
 */
export async function burnVmid(hypervisor: Hypervisor, run: StepRun, why: string): Promise<StepWait> {
  const { vmid, identity } = run.machine;
  const mark = await hypervisor.readMark(vmid, run.call);
  const wait = await replaceVmid(hypervisor, run, `a foreign guest has it: ${why}`);
  // After the id is given up: the watch does not look at guests whose id a machine of ours holds.
  if (mark?.vmid === vmid && mark.deployment !== identity.deployment)
    await run.reportIntruder({ vmid, by: { deployment: mark.deployment } });
  return wait;
}

/** Takes the next VMID; the old one rests, and a person finds the note at its reservation. */
export async function replaceVmid(hypervisor: Hypervisor, run: StepRun, note: string): Promise<StepWait> {
  const { vmid } = run.machine;
  const { guests } = await hypervisor.inventory({ maxAgeMs: 0, signal: run.call.signal });
  await run.replaceVmid(new Set([...guests.map((guest) => guest.vmid), vmid]), note);
  return new StepWait(0, `VMID ${vmid} is burnt`);
}
