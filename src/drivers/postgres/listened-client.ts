import pg from 'pg';

/**
 * A client that somebody always listens to. Between the moment the pool gives it away and the moment its user listens, an answer that says
 * "ready" and "I am going down" at once would end the process; the client knows by itself that it is of no use any more, and so does the pool.
 */
export class ListenedClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.on('error', () => {});
  }
}
