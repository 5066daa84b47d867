import { randomUUID } from 'node:crypto';
import { XMLParser } from 'fast-xml-parser';

const SHELL = 'http://schemas.microsoft.com/wbem/wsman/1/windows/shell';
const TRANSFER = 'http://schemas.xmlsoap.org/ws/2004/09/transfer';
const SOAP_12 = 'http://www.w3.org/2003/05/soap-envelope';
const RESOURCE_URI = `${SHELL}/cmd`;
const ADDRESSING_FAULT = 'http://schemas.dmtf.org/wbem/wsman/1/wsman/fault';

const SHELL_ACTIONS = {
  [`${TRANSFER}/Create`]: 'create',
  [`${SHELL}/Command`]: 'command',
  [`${SHELL}/Send`]: 'send',
  [`${SHELL}/Receive`]: 'receive',
  [`${SHELL}/Signal`]: 'signal',
  [`${TRANSFER}/Delete`]: 'delete',
} as const;
type ShellAction = (typeof SHELL_ACTIONS)[keyof typeof SHELL_ACTIONS];

export interface ShellRequest {
  readonly action: ShellAction;
  readonly messageId: string;
  readonly shellId: string | undefined;
  readonly operationTimeoutMs: number;
  readonly options: ReadonlyMap<string, string>;
  readonly body: Node;
}

/** An element as the parser gives it: attributes begin with `@`, text is `#text`. */
export type Node = { readonly [name: string]: unknown };

/** A WSManFault; `http` is the status that carries it. */
export class WsmanFault extends Error {
  override readonly name = 'WsmanFault';
  constructor(
    readonly code: number,
    readonly subcode: string,
    message: string,
    readonly side: 'Sender' | 'Receiver' = 'Receiver',
  ) {
    super(message);
  }
}

export const FAULTS = {
  operationTimeout: (): WsmanFault =>
    new WsmanFault(
      2150858793,
      'w:TimedOut',
      'The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ',
    ),
  shellQuota: (limit: number): WsmanFault =>
    new WsmanFault(
      2150859173,
      'w:QuotaLimit',
      `The WS-Management service cannot process the request. This user is allowed a maximum number of ${limit} concurrent shells, which has been exceeded. Close existing shells or raise the quota for this user. `,
    ),
  operationQuota: (limit: number): WsmanFault =>
    new WsmanFault(
      2150859174,
      'w:QuotaLimit',
      `The WS-Management service cannot process the request. This user is allowed a maximum number of ${limit} concurrent operations, which has been exceeded. Close existing operations for this user, or raise the quota for this user. `,
    ),
  shellNotFound: (shellId: string): WsmanFault =>
    new WsmanFault(
      2150858843,
      'w:InvalidSelectors',
      `The request for the Windows Remote Shell with ShellId ${shellId} failed because the shell was not found on the server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server. Provide the correct ShellId or create a new shell and retry the operation. `,
      'Sender',
    ),
  invalidParameter: (what: string): WsmanFault =>
    new WsmanFault(
      2150858770,
      'w:SchemaValidationError',
      `The WS-Management service cannot process the request because ${what}. `,
      'Sender',
    ),
};

const parser = new XMLParser({
  ignoreAttributes: false,
  removeNSPrefix: true,
  attributeNamePrefix: '@',
  parseTagValue: false,
  trimValues: false,
});

export function child(node: unknown, name: string): Node | undefined {
  const value = typeof node === 'object' && node !== null ? (node as Node)[name] : undefined;
  if (value === undefined) return undefined;
  return typeof value === 'object' && value !== null ? (value as Node) : { '#text': value };
}

export function children(node: unknown, name: string): Node[] {
  const value = typeof node === 'object' && node !== null ? (node as Node)[name] : undefined;
  const list: unknown[] = value === undefined ? [] : Array.isArray(value) ? value : [value];
  return list.map((item) => (typeof item === 'object' && item !== null ? (item as Node) : { '#text': item }));
}

export function text(node: Node | undefined): string {
  const value = node?.['#text'];
  return typeof value === 'string' ? value.trim() : '';
}

export function attribute(node: Node, name: string): string | undefined {
  const value = node[`@${name}`];
  return typeof value === 'string' ? value : undefined;
}

/** Reads one request envelope; what a WS-Management service refuses is refused with its fault. */
export function readRequest(xml: string): ShellRequest {
  let envelope: Node | undefined;
  try {
    envelope = child(parser.parse(xml), 'Envelope');
  } catch {
    throw FAULTS.invalidParameter('the request does not contain a valid SOAP envelope');
  }
  if (envelope === undefined || !xml.includes(SOAP_12))
    throw FAULTS.invalidParameter('the request does not contain a valid SOAP envelope');
  const header = child(envelope, 'Header');
  const messageId = text(child(header, 'MessageID'));
  const action = SHELL_ACTIONS[text(child(header, 'Action')) as keyof typeof SHELL_ACTIONS] as
    ShellAction | undefined;
  if (messageId === '' || text(child(header, 'To')) === '')
    throw FAULTS.invalidParameter('the request has no MessageID or To header');
  if (action === undefined || text(child(header, 'ResourceURI')) !== RESOURCE_URI)
    throw new WsmanFault(
      2150858752,
      'wsa:ActionNotSupported',
      'The WS-Management service cannot process the request: the action or the resource URI is unknown. ',
      'Sender',
    );
  const selector = children(child(header, 'SelectorSet'), 'Selector').find(
    (one) => attribute(one, 'Name') === 'ShellId',
  );
  const options = children(child(header, 'OptionSet'), 'Option').map(
    (one) => [attribute(one, 'Name') ?? '', text(one)] as const,
  );
  return {
    action,
    messageId,
    shellId: selector === undefined ? undefined : text(selector),
    operationTimeoutMs: durationMs(text(child(header, 'OperationTimeout'))),
    options: new Map(options),
    body: child(envelope, 'Body') ?? {},
  };
}

const DEFAULT_OPERATION_TIMEOUT_MS = 60_000;
/** Of an ISO 8601 duration. */
export function durationMs(iso: string): number {
  const match = /^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?$/.exec(iso);
  if (match === null || iso === 'PT') return DEFAULT_OPERATION_TIMEOUT_MS;
  const [, hours = '0', minutes = '0', seconds = '0'] = match;
  return (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
}

export const escapeXml = (value: string): string =>
  value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const NAMESPACES =
  `xmlns:s="${SOAP_12}" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:x="${TRANSFER}" ` +
  `xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="${SHELL}" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"`;

function envelope(action: string, relatesTo: string | undefined, body: string): string {
  const relates = relatesTo === undefined ? '' : `<a:RelatesTo>${escapeXml(relatesTo)}</a:RelatesTo>`;
  return (
    `<s:Envelope xml:lang="en-US" ${NAMESPACES}><s:Header><a:Action>${action}</a:Action>` +
    `<a:MessageID>uuid:${randomUUID().toUpperCase()}</a:MessageID><a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>${relates}` +
    `</s:Header><s:Body>${body}</s:Body></s:Envelope>`
  );
}

export function faultEnvelope(fault: WsmanFault, relatesTo: string | undefined, machine: string): string {
  const detail =
    `<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="${fault.code}" Machine="${machine}">` +
    `<f:Message>${escapeXml(fault.message)}</f:Message></f:WSManFault>`;
  return envelope(
    ADDRESSING_FAULT,
    relatesTo,
    `<s:Fault><s:Code><s:Value>s:${fault.side}</s:Value><s:Subcode><s:Value>${fault.subcode}</s:Value></s:Subcode></s:Code>` +
      `<s:Reason><s:Text xml:lang="en-US">${escapeXml(fault.message)}</s:Text></s:Reason><s:Detail>${detail}</s:Detail></s:Fault>`,
  );
}

export interface Output {
  readonly stdout: readonly Buffer[];
  readonly stderr: readonly Buffer[];
  /** Present once the command is done. */
  readonly exitCode?: number;
}

export const ANSWERS = {
  create: (relatesTo: string, shellId: string, owner: string): string =>
    envelope(
      `${TRANSFER}/CreateResponse`,
      relatesTo,
      `<x:ResourceCreated><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address><a:ReferenceParameters>` +
        `<w:ResourceURI>${RESOURCE_URI}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">${shellId}</w:Selector></w:SelectorSet>` +
        `</a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>${shellId}</rsp:ShellId><rsp:ResourceUri>${RESOURCE_URI}</rsp:ResourceUri>` +
        `<rsp:Owner>${escapeXml(owner)}</rsp:Owner><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>`,
    ),
  command: (relatesTo: string, commandId: string): string =>
    envelope(
      `${SHELL}/CommandResponse`,
      relatesTo,
      `<rsp:CommandResponse><rsp:CommandId>${commandId}</rsp:CommandId></rsp:CommandResponse>`,
    ),
  send: (relatesTo: string): string => envelope(`${SHELL}/SendResponse`, relatesTo, '<rsp:SendResponse/>'),
  receive: (relatesTo: string, commandId: string, output: Output): string => {
    const done = output.exitCode !== undefined;
    const stream = (name: 'stdout' | 'stderr'): string => {
      const chunks = output[name].map(
        (chunk) =>
          `<rsp:Stream Name="${name}" CommandId="${commandId}">${chunk.toString('base64')}</rsp:Stream>`,
      );
      if (done) chunks.push(`<rsp:Stream Name="${name}" CommandId="${commandId}" End="true"></rsp:Stream>`);
      return chunks.join('');
    };
    const state = done
      ? `<rsp:CommandState CommandId="${commandId}" State="${SHELL}/CommandState/Done"><rsp:ExitCode>${output.exitCode}</rsp:ExitCode></rsp:CommandState>`
      : `<rsp:CommandState CommandId="${commandId}" State="${SHELL}/CommandState/Running"/>`;
    return envelope(
      `${SHELL}/ReceiveResponse`,
      relatesTo,
      `<rsp:ReceiveResponse>${stream('stdout')}${stream('stderr')}${state}</rsp:ReceiveResponse>`,
    );
  },
  signal: (relatesTo: string): string =>
    envelope(`${SHELL}/SignalResponse`, relatesTo, '<rsp:SignalResponse/>'),
  delete: (relatesTo: string): string => envelope(`${TRANSFER}/DeleteResponse`, relatesTo, ''),
};
