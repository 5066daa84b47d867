import { expect, it } from 'vitest';
import { withSnippets } from './snippets.js';

it('names snippets by part and leaves the other parts as they are', () => {
  const own = { user: 'nas:snippets/u.yaml', vendor: 'nas:snippets/v.yaml' };
  expect(withSnippets('', own)).toBe('user=nas:snippets/u.yaml,vendor=nas:snippets/v.yaml');
  expect(withSnippets('meta=local:snippets/m.yaml,user=local:snippets/old.yaml', own)).toBe(
    'meta=local:snippets/m.yaml,user=nas:snippets/u.yaml,vendor=nas:snippets/v.yaml',
  );
  expect(withSnippets(withSnippets('', own), own)).toBe(withSnippets('', own));
});
