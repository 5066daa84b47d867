import 'reflect-metadata';
import { describeApi } from './openapi-document.js';

process.stdout.write(`${JSON.stringify(await describeApi(), null, 2)}\n`);
