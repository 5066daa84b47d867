import type { AnyStep } from '../plan/step.js';
import { allowMac } from './allow-mac.step.js';
import { cloneContainer } from './clone-container.step.js';
import { cloneTemplate } from './clone-template.step.js';
import { configureContainer } from './configure-container.step.js';
import { configureVm } from './configure-vm.step.js';
import { createContainer } from './create-container.step.js';
import { endFirstBoot } from './end-first-boot.step.js';
import { putSnippetFiles } from './put-snippets.step.js';
import { registerDesktop } from './register-desktop.step.js';
import { reserveVmid } from './reserve-vmid.step.js';
import { resizeDisk } from './resize-disk.step.js';
import { startContainer } from './start-container.step.js';
import { startVm } from './start-vm.step.js';
import { useSnippets } from './use-snippets.step.js';
import { waitAddress } from './wait-address.step.js';
import { waitFirstBoot } from './wait-first-boot.step.js';
import { writeContainerConfig } from './write-container-config.step.js';

/** Every step that workflows may use, by id. */
export const STEPS: ReadonlyMap<string, AnyStep> = new Map(
  [
    reserveVmid,
    cloneTemplate,
    configureVm,
    putSnippetFiles,
    useSnippets,
    cloneContainer,
    createContainer,
    configureContainer,
    resizeDisk,
    allowMac,
    startVm,
    startContainer,
    waitAddress,
    registerDesktop,
    writeContainerConfig,
    waitFirstBoot,
    endFirstBoot,
  ].map((step: AnyStep) => [step.id, step]),
);
