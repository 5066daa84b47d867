import type { OpenAPIObject } from '@nestjs/swagger';

export function clientFiles(document: OpenAPIObject): Promise<ReadonlyMap<string, string>>;
export function brunoFiles(document: OpenAPIObject): ReadonlyMap<string, string>;
export function readFolder(folder: string): Promise<ReadonlyMap<string, string>>;
