/** A person's hand on the workers themselves. */
export interface Workers {
  /**
   * Asks a worker to take no new step; with its next heartbeat it hears of it, and when its hands are empty it ends, and its process with it
   * unless that serves the API too. With an audit line. False: no such worker lives, or it was asked already.
   */
  drain(workerId: string, actor: string): Promise<boolean>;
}
