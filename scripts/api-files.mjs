// What is generated from the API description and committed: src/client (hey-api) and docs/api (Bruno, one file per operation).
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { createClient } from '@hey-api/openapi-ts';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

/** Generates the typed client; gives file contents by path below src/client. */
export async function clientFiles(document) {
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-client-'));
  try {
    const input = join(folder, 'openapi.json');
    await writeFile(input, JSON.stringify(document));
    await createClient({
      input,
      output: { path: join(folder, 'out'), module: { extension: '.js' } },
      plugins: ['@hey-api/client-fetch', '@hey-api/typescript', '@hey-api/sdk'],
      logs: { level: 'silent' },
    });
    const files = await readFolder(join(folder, 'out'));
    // Node's types have no global BodyInit, which is the browser's name of the same type.
    for (const [name, text] of files)
      files.set(name, text.replaceAll(/\bBodyInit\b/g, "RequestInit['body']"));
    return files;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Every file below `folder` by its relative path. */
export async function readFolder(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const texts = await Promise.all(
    files.map(async (file) => [relative(folder, file), await readFile(file, 'utf8')]),
  );
  return new Map(texts.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The Bruno collection; gives file contents by path below docs/api. */
export function brunoFiles(document) {
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })),
  );
  const files = new Map([
    ['bruno.json', `${JSON.stringify({ version: '1', name: 'Hatchery', type: 'collection' }, null, 2)}\n`],
    [
      'class.csv',
      'login;nom;prénom;mail;groupe\njdupont;Dupont;Jeanne;jeanne.dupont@example.org;A\nmmartin;Martin;Malik;malik.martin@example.org;B\n',
    ],
    ['more.csv', 'login;nom;prénom;mail;groupe\nsdurand;Durand;Sasha;sasha.durand@example.org;A\n'],
    ['openapi.json', `${JSON.stringify(document, null, 2)}\n`],
    [
      'environments/local.bru',
      block('vars', { baseUrl: 'http://127.0.0.1:3000', ...VARIABLES }) + 'vars:secret [\n  token\n]\n',
    ],
  ]);
  operations.forEach(({ path, method, operation }, index) => {
    const [tag = 'other'] = operation.tags ?? [];
    files.set(
      `${tag}/${operation.operationId}.bru`,
      requestFile(document, path, method, operation, index + 1),
    );
  });
  return files;
}

/** Stands where a path names something; set them in an environment. */
const VARIABLES = {
  batch: 'l3-info',
  machineId: '',
  runId: '',
  step: 'desktop',
  effect: '',
  task: '',
  tokenId: '',
  workerId: '',
  cluster: 'main',
  vmid: '',
};
const PATH_VARIABLE = {
  batches: 'batch',
  machines: 'machineId',
  runs: 'runId',
  tokens: 'tokenId',
  clusters: 'cluster',
  admin: 'workerId',
};
const FORM_VALUES = {
  roster: '@file(class.csv)',
  blueprint: 'student-desktop',
  name: '{{batch}}',
  skipExisting: 'false',
  notifyUrl: 'http://127.0.0.1:9/done',
};

function requestFile(document, path, method, operation, seq) {
  const parameters = operation.parameters ?? [];
  const [media] = Object.keys(operation.requestBody?.content ?? {});
  const body = { 'multipart/form-data': 'multipartForm', 'application/json': 'json' }[media] ?? 'none';
  const auth = (operation.security ?? []).length > 0 ? 'bearer' : 'none';
  const named = (where) => parameters.filter((parameter) => parameter.in === where);
  const optional = (parameter) => [
    `${parameter.required ? '' : '~'}${parameter.name}`,
    String(parameter.schema?.default ?? (parameter.name in VARIABLES ? `{{${parameter.name}}}` : '')),
  ];
  const parts = [
    block('meta', { name: operation.operationId, type: 'http', seq }),
    block(method, { url: `{{baseUrl}}${path.replaceAll(/\{(\w+)\}/g, ':$1')}`, body, auth }),
    block('params:query', Object.fromEntries(named('query').map(optional))),
    block(
      'params:path',
      Object.fromEntries(
        named('path').map(({ name }) => [
          name,
          `{{${name in VARIABLES ? name : PATH_VARIABLE[path.split('/')[3]]}}}`,
        ]),
      ),
    ),
    block('headers', Object.fromEntries(named('header').map(optional))),
    auth === 'bearer' ? block('auth:bearer', { token: '{{token}}' }) : '',
    bodyBlock(document, operation, media),
    `docs {\n${indent(operation.summary)}\n}\n`,
  ];
  return parts.filter((part) => part !== '').join('\n');
}

function bodyBlock(document, operation, media) {
  const schema = operation.requestBody?.content?.[media]?.schema;
  if (media === 'application/json') {
    const { example } = resolve(document, schema);
    return `body:json {\n${indent(JSON.stringify(example ?? {}, null, 2))}\n}\n`;
  }
  if (media !== 'multipart/form-data') return '';
  const required = new Set(schema.required);
  return block(
    'body:multipart-form',
    Object.fromEntries(
      Object.keys(schema.properties).map((name) => [
        `${required.has(name) ? '' : '~'}${name}`,
        formValue(operation, name),
      ]),
    ),
  );
}

const formValue = (operation, name) =>
  name === 'roster' && operation.operationId === 'addMachines'
    ? '@file(more.csv)'
    : (FORM_VALUES[name] ?? '');

const resolve = (document, schema) =>
  schema.$ref ? document.components.schemas[schema.$ref.split('/').at(-1)] : schema;

const indent = (text) => text.split('\n').map((line) => `  ${line}`).join('\n'); // prettier-ignore

function block(name, values) {
  const lines = Object.entries(values).map(([key, value]) => `  ${key}: ${value}`.trimEnd());
  return lines.length === 0 ? '' : `${name} {\n${lines.join('\n')}\n}\n`;
}
