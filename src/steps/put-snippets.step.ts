import { defineStep } from '../plan/step.js';
import { allDone } from './all-done.js';
import { noOutput, onMachine, type OnMachine } from './machine-step.js';
import { putSnippets, snippetFilesEffect, snippetLocks, unlessUnreachable } from './snippet-files.js';

/**
 * Before the guest is made, so that they outlive it when all is undone. Every start reads them anew, wherever it is: on a storage that is not
 * shared each node that may start the guest gets them. One that is away, besides the guest's own, lacks them, and the cluster's check says so.
 */
export const putSnippetFiles = defineStep<OnMachine, object>({
  id: 'put-snippets',
  version: 1,
  only: { kind: 'qemu' },
  summary: 'Put the cloud-init files of the machine on the nodes that may start it',
  input: onMachine,
  output: noOutput,
  locks: ({ machine }) =>
    snippetLocks(machine.cluster, machine.snippets?.files.map(({ name }) => name) ?? []),
  effects: ({ machine }) =>
    machine.snippets === undefined ? [] : [snippetFilesEffect(machine, machine.snippets, machine.snippets)],
  timeout: '3m',
  retry: { attempts: 8, first: '2s', max: '1m' },
  unskippable: 'without its cloud-init files the machine does not start',
  lateWrites: 'A late file has the same name and content: it replaces itself.',
  async act({ machine }, ports, { call }) {
    const { snippets } = machine;
    if (snippets === undefined) return {};
    const files = ports.nodeFiles(machine.cluster);
    const [own = machine.node, ...others] = snippets.nodes;
    await putSnippets(files, own, snippets, call);
    if (snippets.shared) return {};
    await allDone(others.map((node) => putSnippets(files, node, snippets, call).catch(unlessUnreachable)));
    return {};
  },
});
