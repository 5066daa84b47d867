import { X509Certificate } from 'node:crypto';
import type { SimReply, SimRequest } from '../http.js';
import type { Certificate } from '../tls.js';
import { NtlmAcceptor } from './ntlm-acceptor.js';

interface WinrmAccount {
  readonly domain: string;
  readonly username: string;
  readonly password: string;
}

type SignInVerdict = { readonly actor: string } | { readonly reply: SimReply };

/** Basic and Negotiate (raw NTLM messages). NTLM signs in the connection: later requests on the socket need no header. */
export class WinrmAuth {
  readonly #handshakes = new WeakMap<object, NtlmAcceptor>();
  readonly #signedIn = new WeakMap<object, string>();
  readonly #certificate: Buffer;

  constructor(
    private readonly account: WinrmAccount,
    private readonly computer: string,
    certificate: Certificate,
  ) {
    this.#certificate = new X509Certificate(certificate.certPem).raw;
  }

  signIn(request: SimRequest): SignInVerdict {
    const [scheme = '', token = ''] = (request.headers.authorization ?? '').split(' ');
    if (scheme.toLowerCase() === 'basic') return this.#basic(token);
    if (scheme.toLowerCase() === 'negotiate') return this.#negotiate(request, Buffer.from(token, 'base64'));
    const known = this.#signedIn.get(request.socket);
    return known === undefined ? this.#refuse() : { actor: known };
  }

  #basic(token: string): SignInVerdict {
    const text = Buffer.from(token, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    const password = this.#passwordOf(text.slice(0, colon));
    return colon > 0 && password !== undefined && password === text.slice(colon + 1)
      ? { actor: this.#actor }
      : this.#refuse();
  }

  #negotiate(request: SimRequest, message: Buffer): SignInVerdict {
    const type = NtlmAcceptor.typeOf(message);
    if (type === 1) {
      const acceptor = new NtlmAcceptor({
        computer: this.computer,
        domain: this.account.domain,
        certificate: this.#certificate,
        passwordOf: (user) => this.#passwordOf(user),
      });
      this.#handshakes.set(request.socket, acceptor);
      this.#signedIn.delete(request.socket);
      return this.#refuse(`Negotiate ${acceptor.challenge(message).toString('base64')}`);
    }
    const acceptor = this.#handshakes.get(request.socket);
    this.#handshakes.delete(request.socket);
    if (type !== 3 || acceptor === undefined || !acceptor.verify(message).ok) return this.#refuse();
    this.#signedIn.set(request.socket, this.#actor);
    return { actor: this.#actor };
  }

  get #actor(): string {
    return `${this.account.domain}\\${this.account.username}`;
  }

  /** `user`, `DOMAIN\\user` and `user@domain.test` name the same account. */
  #passwordOf(user: string): string | undefined {
    const plain = user.replace(/^.*\\/, '').replace(/@.*$/, '');
    return plain.toLowerCase() === this.account.username.toLowerCase() ? this.account.password : undefined;
  }

  #refuse(challenge?: string): SignInVerdict {
    const offers = challenge === undefined ? ['Negotiate', 'Basic realm="WSMAN"'] : [challenge];
    return {
      reply: { status: 401, headers: { server: 'Microsoft-HTTPAPI/2.0', 'www-authenticate': offers } },
    };
  }
}
