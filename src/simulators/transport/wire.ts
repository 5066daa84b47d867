/** A part of what a client sent. With `op` it begins a request; without, it goes where the request before it went. */
export interface RequestPiece {
  readonly bytes: Buffer;
  readonly op?: string;
  /** The other side will answer this request. */
  readonly awaitsAnswer?: boolean;
  /** The transport says this to the client by itself; nothing goes to the other side. */
  readonly reply?: Buffer;
}

/** A part of what the other side sent: of the answer to the oldest request that is not answered yet, or of nothing that was asked for. */
export interface AnswerPiece {
  readonly bytes: Buffer;
  /** The answer is whole with this piece: what the request did is done. */
  readonly endsAnswer: boolean;
}

/** Reads the two directions of one connection; keeps what it needs between the pieces. Throws at what is not its protocol. */
export interface Wire {
  requests(chunk: Buffer): RequestPiece[];
  answers(chunk: Buffer): AnswerPiece[];
}
