// Imports go one way: core <- ports, plan <- engine, steps <- drivers, app. Each rule names who may be imported; the rest is refused.
const SPEC = '[.]spec[.]ts$';
const only = (from, ...allowed) => ({
  name: `${from}-imports`,
  comment: `src/${from} may import ${allowed.join(', ') || 'nothing else of ours'}`,
  severity: 'error',
  from: { path: `^src/${from}/`, pathNot: SPEC },
  to: { path: '^src/', pathNot: [from, ...allowed].map((part) => `^src/${part}`) },
});
const packagesOnly = (from, name, packages) => ({
  name,
  severity: 'error',
  from: { path: `^src/${from}/`, pathNot: SPEC },
  to: { dependencyTypes: ['npm'], pathNot: `node_modules/(${packages})/` },
});

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    // The generated client has cycles among its types.
    { name: 'no-cycles', severity: 'error', from: { pathNot: '^src/client/' }, to: { circular: true } },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    only('core'),
    // Ports and plan are one layer: steps are described in terms of ports, the run store keeps compiled plans.
    only('ports', 'core/', 'plan/'),
    only('plan', 'core/', 'ports/'),
    only('engine', 'core/', 'ports/', 'plan/'),
    only('steps', 'core/', 'ports/', 'plan/'),
    only('drivers', 'core/', 'ports/', 'plan/', 'engine/.*[.]ts$'),
    only('simulators', 'core/'),
    only('client'),
    only('app', 'core/', 'ports/', 'plan/', 'engine/', 'steps/', 'drivers/'),
    {
      // The folder tells it where a running demo is.
      ...only('cli', 'core/', 'client/', 'drivers/embedded/state-folder[.]ts$'),
      from: { path: '^src/cli/', pathNot: ['^src/cli/demo/', SPEC] },
    },
    {
      // The demo starts a whole service and judges it: it also knows the embedded stores and the journal's checker.
      ...only('cli', 'core/', 'client/', 'drivers/embedded/', 'simulators/journal/'),
      name: 'demo-imports',
      from: { path: '^src/cli/demo/', pathNot: SPEC },
    },
    {
      name: 'nest-only-in-app',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/app/' },
      to: { path: 'node_modules/(@nestjs|@bull-board|express|rxjs)/' },
    },
    packagesOnly('core', 'core-packages', 'zod|yaml|csv-parse|read-excel-file|uuid'),
    packagesOnly('plan', 'plan-packages', 'zod|yaml'),
    packagesOnly('(engine|steps|ports)', 'engine-packages', 'zod|uuid'),
    {
      name: 'no-spec-in-product',
      severity: 'error',
      from: { path: '^src/', pathNot: SPEC },
      to: { path: '[.]spec[.]ts$|^test/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
