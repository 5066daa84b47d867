// npm run chaos [-- OPTIONS]: classes that are made while everything around them breaks, judged by the simulators' journal (docs/reliability.md).
// Progress goes to stderr; the last line for each seed on stdout is one JSON object. The product runs from dist, as it would in service.
import { withBuilt } from './run-built.mjs';

await withBuilt(async (load) => {
  const { chaos } = await load('chaos/chaos.ts');
  process.exitCode = await chaos(process.argv.slice(2));
});
process.exit();
