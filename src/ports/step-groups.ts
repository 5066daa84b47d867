/** When groups of one kind go; `kind` is the first word of their keys. */
export interface GroupRule {
  readonly kind: string;
  readonly windowMs: number;
  readonly max: number;
}

/** Steps that gather in Postgres until a group of them goes, whichever worker their runs were with before. */
export interface StepGroups {
  /**
   * Lets groups go whose time has come: the window is over, the group is full, or nothing else is on its way to it. While one group of a key is
   * being made the next one gathers. The first of a group's steps leads it and is admitted to its slots for all of them.
   * Gives the milliseconds until the next window ends; `undefined` = none is open.
   */
  open(cluster: string, rules: readonly GroupRule[]): Promise<number | undefined>;
  /**
   * Steps that gather under the key of their leader, the owners of their machines in turns: a class does not stand in front of one machine of
   * somebody else.
   */
  gathered(leader: { id: string; groupKey: string }, limit: number): Promise<readonly string[]>;
}
