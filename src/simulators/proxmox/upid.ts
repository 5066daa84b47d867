export interface Upid {
  readonly node: string;
  readonly pid: number;
  readonly pstart: number;
  readonly startTime: number;
  readonly type: string;
  readonly id: string;
  readonly user: string;
}

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, '0');

export function formatUpid(upid: Upid): string {
  const { node, pid, pstart, startTime, type, id, user } = upid;
  return `UPID:${node}:${hex(pid)}:${hex(pstart)}:${hex(startTime)}:${type}:${id}:${user}:`;
}

const SHAPE =
  /^UPID:([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?):[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:[0-9A-Fa-f]{8}:[^:\s]+:[^:\s]*:[^:\s]+:$/;

/** The node of a well-formed UPID, else `undefined`. */
export function nodeOfUpid(text: string): string | undefined {
  return SHAPE.exec(text)?.[1];
}
