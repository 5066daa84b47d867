// Makes a fresh clone runnable: installs what is missing or out of date, builds what changed. Plain Node, no dependency.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..');
const at = (...parts) => join(root, ...parts);

export function ready() {
  checkNode();
  if (isInstallNeeded()) {
    say('Installing packages (once, about a minute) ...');
    run(
      npm(['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error']),
      'npm ci',
    );
  }
  // An installation for production has neither the sources nor the compiler, and needs neither.
  const nest = at('node_modules', '@nestjs', 'cli', 'bin', 'nest.js');
  if (!existsSync(at('src')) || !existsSync(nest)) {
    if (existsSync(at('dist'))) return;
    fail('There is no build in dist/ and no compiler to make one: run npm ci, then npm run build.');
  }
  const sources = digestOfSources();
  if (readIfThere(at('dist', '.built-from')) === sources) return;
  say('Building ...');
  run([process.execPath, [nest, 'build']], 'npm run build');
  writeFileSync(at('dist', '.built-from'), sources);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if ((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major >= 24) return;
  fail(`Hatchery needs Node 20.19 or later, 22.12 or later, or 24: this is ${process.versions.node}.`);
}

/** npm writes node_modules/.package-lock.json last, so it is missing after an installation that was cut off. */
function isInstallNeeded() {
  const installed = at('node_modules', '.package-lock.json');
  return !existsSync(installed) || statSync(installed).mtimeMs < statSync(at('package-lock.json')).mtimeMs;
}

/** Names, sizes and times of everything that the build reads: also notices a file that went away or came from an older branch. */
function digestOfSources() {
  const hash = createHash('sha256');
  const add = (path) => {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  };
  for (const name of ['.swcrc', 'nest-cli.json', 'tsconfig.json', 'package-lock.json']) add(at(name));
  for (const entry of readdirSync(at('src'), { recursive: true, withFileTypes: true }).sort(byPath))
    if (entry.isFile()) add(join(entry.parentPath ?? entry.path, entry.name));
  return hash.digest('hex');
}

const byPath = (a, b) => (pathOf(a) < pathOf(b) ? -1 : 1);
const pathOf = (entry) => join(entry.parentPath ?? entry.path, entry.name);

/** The npm that started us, or the one on PATH. */
function npm(args) {
  const own = process.env.npm_execpath;
  return own && /\.c?js$/.test(own) ? [process.execPath, [own, ...args]] : ['npm', args];
}

/** What the command prints goes to stderr: stdout belongs to whoever asked for JSON. */
function run([command, args], name) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(`${name} failed${error ? `: ${error.message}` : ''}. Its messages are above.`);
}

const readIfThere = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : undefined);
const say = (line) => process.stderr.write(`${line}\n`);

function fail(sentence) {
  say(sentence);
  process.exit(1);
}
