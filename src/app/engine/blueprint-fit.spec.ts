import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { blueprintSchema, type Blueprint } from '../../core/definitions.js';
import { compileWorkflow } from '../../plan/workflow.js';
import { STEPS } from '../../steps/index.js';
import { refuseMisfits } from './blueprint-fit.js';

const blueprint = (name: string): Blueprint =>
  blueprintSchema.parse(parse(readFileSync(`blueprints/${name}.yaml`, 'utf8')));
const workflows = ['student-vm', 'student-lxc-debian', 'student-lxc-desktop'].map((name) =>
  compileWorkflow(`${name}.yaml`, readFileSync(`workflows/${name}.yaml`, 'utf8'), STEPS),
);

it('lets the shipped blueprints through, and refuses a workflow for other machines', () => {
  const shipped = ['student-desktop', 'debian-12-lxc', 'debian-desktop-lxc'].map(blueprint);
  expect(() => refuseMisfits(shipped, workflows, STEPS)).not.toThrow();
  const refused = (name: string, workflow: string) => () =>
    refuseMisfits([{ ...blueprint(name), workflow }], workflows, STEPS);
  expect(refused('debian-desktop-lxc', 'student-vm')).toThrow(
    'step snippets of its workflow student-vm (put-snippets) is for blueprints with kind: qemu',
  );
  expect(refused('debian-12-lxc', 'student-lxc-desktop')).toThrow(
    'is for blueprints with source: { templates }',
  );
  expect(refused('debian-desktop-lxc', 'student-lxc-debian')).toThrow(
    'is for blueprints with source: { archive }',
  );
});
