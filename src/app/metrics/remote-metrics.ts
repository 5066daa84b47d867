/** What drivers report of each call to a remote system. */
export interface RemoteMetrics {
  /** `outcome` is `ok` or an error code. */
  observe(system: string, op: string, seconds: number, outcome: string): void;
}
