import { expect, it } from 'vitest';
import { copiesOf } from './archives.js';

const archive = (node: string, file: string, storage = 'local') => ({
  node,
  volume: `${storage}:vztmpl/${file}`,
});
const OLD = 'debian-12-standard_12.7-1_amd64.tar.zst';
const NEW = 'debian-12-standard_12.12-1_amd64.tar.zst';

it('takes the newest archive of a name, one copy for each node that has it', () => {
  const all = [
    archive('pve2', NEW),
    archive('pve1', NEW),
    archive('pve1', NEW, 'nas'),
    archive('pve1', OLD),
    archive('pve3', OLD),
    archive('pve3', 'debian-12-standard-of-bob_99_amd64.tar.zst'),
  ];
  expect(copiesOf('debian-12-standard', all)).toEqual([archive('pve1', NEW), archive('pve2', NEW)]);
  expect(copiesOf(OLD, all)).toEqual([archive('pve1', OLD), archive('pve3', OLD)]);
  expect(copiesOf('debian', all)).toEqual([]);
});
