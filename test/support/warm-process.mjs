// A process of the product that has loaded its build and waits for the settings to begin with: a spare that stands in for a killed one
// at once. Argument: the build's folder.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const program = (path) => import(pathToFileURL(join(process.argv[2], path)).href);

await import('reflect-metadata');
for (const path of ['app/create-app.js', 'app/engine/engine.module.js', 'app/boot/prepare.js'])
  await program(path);
process.once('message', ({ env }) => {
  Object.assign(process.env, env);
  void program('app/main.js');
});
process.once('disconnect', () => process.exit(0));
process.send({ type: 'warm' });
