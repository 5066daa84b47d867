import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../core/errors.js';
import { STEPS } from '../steps/index.js';
import { compileWorkflow, render } from './workflow.js';

const shipped = readFileSync(new URL('../../workflows/student-vm.yaml', import.meta.url), 'utf8');
const compile = (text: string) => compileWorkflow('student-vm.yaml', text, STEPS);
const findings = (text: string): string[] => {
  try {
    compile(text);
  } catch (error) {
    if (error instanceof HatcheryError) return error.problems.map((problem) => problem.detail);
    throw error;
  }
  return [];
};

describe('the shipped student workflow', () => {
  const plan = compile(shipped);

  it('keeps the order of its needs, and start waits for both the clone and the DHCP filter', () => {
    const keys = plan.steps.map((step) => step.key);
    for (const step of plan.steps)
      for (const need of step.needs) expect(keys.indexOf(need)).toBeLessThan(keys.indexOf(step.key));
    expect(plan.steps.find((step) => step.key === 'start')?.needs).toEqual(['use-snippets', 'allow-mac']);
  });

  it('ranks a step by the longest way that is left', () => {
    const rank = Object.fromEntries(plan.steps.map((step) => [step.key, step.rank]));
    expect(rank).toEqual({
      desktop: 1,
      address: 2,
      start: 3,
      'use-snippets': 4,
      resize: 5,
      configure: 6,
      clone: 7,
      snippets: 8,
      'allow-mac': 4,
      reserve: 9,
    });
  });

  it('has a version that changes with its meaning and not with its comments', () => {
    expect(compile(`# a comment\n${shipped}`).version).toBe(plan.version);
    expect(compile(shipped.replace('deadline: 15m', 'deadline: 16m')).version).not.toBe(plan.version);
  });
});

describe('a workflow file that is wrong', () => {
  const base = (step: string): string => `id: w\ninputs: { machine: Machine }\nsteps:\n  one: ${step}\n`;
  it.each([
    ['an unknown step', base('{ uses: nosuch }'), /4:\d+: step "one" uses "nosuch"/],
    ['an unknown key', base('{ uses: reserve-vmid, whith: {} }'), /"whith" is not a key of a step/],
    [
      'an unknown input',
      base('{ uses: reserve-vmid, with: { machine: 1, nose: 2 } }'),
      /has no input "nose"/,
    ],
    ['a missing input', base('{ uses: reserve-vmid }'), /lacks the input "machine"/],
    [
      'an unknown need',
      base('{ uses: reserve-vmid, needs: [two], with: { machine: "${{ inputs.machine }}" } }'),
      /needs "two"/,
    ],
    [
      'a wrong reference',
      base('{ uses: reserve-vmid, with: { machine: "${{ inputs.maschine }}" } }'),
      /"inputs.maschine" is no input/,
    ],
    [
      'an output that is not there',
      `${base('{ uses: reserve-vmid, with: { machine: "${{ inputs.machine }}" } }')}  two: { uses: reserve-vmid, needs: [one], with: { machine: "\${{ steps.one.nose }}" } }\n`,
      /"steps.one.nose" is no output/,
    ],
    [
      'an output of a step that need not be done',
      `${base('{ uses: reserve-vmid, with: { machine: "${{ inputs.machine }}" } }')}  two: { uses: reserve-vmid, with: { machine: "\${{ steps.one.vmid }}" } }\n`,
      /must need "one"/,
    ],
    [
      'a wrong expression',
      base('{ uses: reserve-vmid, with: { machine: "${{ inputs. }}" } }'),
      /the expression is wrong/,
    ],
    [
      'a wrong duration',
      base('{ uses: reserve-vmid, timeout: soon, with: { machine: "${{ inputs.machine }}" } }'),
      /"soon" is not a duration/,
    ],
    [
      'a wrong onFailure',
      base('{ uses: reserve-vmid, onFailure: shrug, with: { machine: "${{ inputs.machine }}" } }'),
      /undo, park or continue/,
    ],
    ['a doubled key', 'id: w\nid: x\n', /unique/i],
    ['no steps', 'id: w\ninputs: { machine: Machine }\n', /write steps/],
  ])('is refused with file, line and column: %s', (_name, text, expected) => {
    const found = findings(text);
    expect(found.join('\n')).toMatch(expected);
    for (const finding of found) expect(finding).toMatch(/^student-vm\.yaml:\d+:\d+: /);
  });

  it('is refused when its needs go round in a circle', () => {
    const text =
      'id: w\ninputs: { machine: Machine }\nsteps:\n  a: { uses: reserve-vmid, needs: [b], with: { machine: "${{ inputs.machine }}" } }\n  b: { uses: reserve-vmid, needs: [a], with: { machine: "${{ inputs.machine }}" } }\n';
    expect(findings(text).join()).toMatch(/circle/);
  });
});

it('renders maps, lists and expressions', () => {
  const template = {
    map: { a: { expression: { op: 'ref', path: ['inputs', 'x'] } }, b: { list: [{ literal: 1 }] } },
  } as const;
  expect(render(template, { inputs: { x: 'y' } })).toEqual({ a: 'y', b: [1] });
});
