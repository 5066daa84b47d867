// npm run check: format, lint, types, import direction and cycles, dead code, lockfile. All run; each failure is printed.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ready, root } from './ready.mjs';

const bin = (name, ...args) => [join(root, 'node_modules', '.bin', name), args];
const node = (script, ...args) => [process.execPath, [join(root, script), ...args]];
const CODE = ['src', 'test', 'scripts', 'bin'];

const checks = {
  format: bin('prettier', '--check', '--log-level=warn', '--cache', '.'),
  lint: bin('oxlint', '--type-aware', '--disable-nested-config', '--quiet', ...CODE),
  types: node('node_modules/typescript-native/bin/tsc', '-p', 'tsconfig.check.json'),
  'import direction': bin('depcruise', 'src', '--config', '.dependency-cruiser.cjs'),
  'dead code': bin('knip', '--no-progress'),
  lockfile: node('scripts/check-lock.mjs'),
};

function run([command, args]) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (text) => (output += text));
    child.stderr.on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}

ready();
const waiting = Object.entries(checks);
const results = [];
async function worker() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [name, command] = next;
    results.push({ name, ...(await run(command)) });
  }
}
await Promise.all([worker(), worker()]);
for (const { name, ok, output } of results)
  if (!ok) process.stdout.write(`\n--- ${name}\n${output.trimEnd()}\n`);
process.stdout.write('\n');
for (const { name, ok } of results) process.stdout.write(`${ok ? 'ok    ' : 'FAILED'}  ${name}\n`);
process.exitCode = results.every(({ ok }) => ok) ? 0 : 1;
