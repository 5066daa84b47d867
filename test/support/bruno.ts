import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** One request of a Bruno collection; fields that the file switches off with `~` are left out. */
export interface BrunoRequest {
  readonly name: string;
  readonly method: string;
  readonly url: string;
  readonly isSignedIn: boolean;
  readonly headers: Record<string, string>;
  readonly query: Record<string, string>;
  readonly path: Record<string, string>;
  readonly json: string | undefined;
  readonly form: Record<string, string> | undefined;
}

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

/** Every request below `folder`, by name. */
export async function readCollection(folder: string): Promise<ReadonlyMap<string, BrunoRequest>> {
  const names = (await readdir(folder, { recursive: true })).filter(
    (name) => name.endsWith('.bru') && !name.startsWith('environments'),
  );
  const requests = await Promise.all(
    names.map(async (name) => parseRequest(await readFile(join(folder, name), 'utf8'))),
  );
  return new Map(requests.map((request) => [request.name, request]));
}

/** Reads blocks `name {` ... `}` whose braces stand at the begin of a line. */
export function parseRequest(text: string): BrunoRequest {
  const blocks = new Map(
    [...text.matchAll(/^([a-z:-]+) \{\n(.*?)^\}$/gms)].map(([, name, body]) => [name!, body!]),
  );
  const method = METHODS.find((name) => blocks.has(name));
  const fields = (name: string): Record<string, string> => fieldsOf(blocks.get(name) ?? '');
  const { name } = fields('meta');
  const { url, auth } = method === undefined ? {} : fields(method);
  if (!method || !name || !url) throw new Error(`not a request:\n${text}`);
  const form = blocks.get('body:multipart-form');
  return {
    name,
    method: method.toUpperCase(),
    url,
    isSignedIn: auth === 'bearer',
    headers: fields('headers'),
    query: fields('params:query'),
    path: fields('params:path'),
    json: blocks.get('body:json'),
    form: form === undefined ? undefined : fieldsOf(form),
  };
}

function fieldsOf(body: string): Record<string, string> {
  const lines = body.split('\n').map((line) => /^ {2}([^~\s][^:]*):(.*)$/.exec(line));
  return Object.fromEntries(lines.flatMap((line) => (line ? [[line[1]!, line[2]!.trim()]] : [])));
}

/** Sends a request as Bruno does, with `variables` in place of `{{name}}`; `@file(x)` is read from `folder`. */
export async function sendRequest(
  request: BrunoRequest,
  variables: Readonly<Record<string, string>>,
  folder: string,
  signal?: AbortSignal,
): Promise<Response> {
  const fill = (text: string): string =>
    text.replaceAll(/\{\{(\w+)\}\}/g, (_all, name: string) => {
      const value = variables[name];
      if (value === undefined) throw new Error(`${request.name} needs the variable ${name}`);
      return value;
    });
  const path = fill(request.url).replaceAll(
    /\/:(\w+)/g,
    (_all, name: string) => `/${encodeURIComponent(fill(request.path[name] ?? ''))}`,
  );
  const url = new URL(path);
  for (const [name, value] of Object.entries(request.query)) url.searchParams.set(name, fill(value));
  const body = request.form ? await formData(request.form, fill, folder) : request.json && fill(request.json);
  return fetch(url, {
    method: request.method,
    headers: {
      ...request.headers,
      ...(request.json === undefined ? {} : { 'content-type': 'application/json' }),
      ...(request.isSignedIn ? { authorization: fill('Bearer {{token}}') } : {}),
    },
    ...(body ? { body } : {}),
    ...(signal ? { signal } : {}),
  });
}

async function formData(
  fields: Record<string, string>,
  fill: (text: string) => string,
  folder: string,
): Promise<FormData> {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    const file = /^@file\(([\w.-]+)\)$/.exec(value)?.[1];
    if (file === undefined) data.set(name, fill(value));
    else data.set(name, new Blob([await readFile(join(folder, file))]), file);
  }
  return data;
}
