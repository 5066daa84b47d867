/** The step was given to somebody else: this attempt's result counts no more. Never leaves the engine. */
export class StaleHolder extends Error {
  constructor() {
    super('the step is held under a newer epoch');
  }
}
