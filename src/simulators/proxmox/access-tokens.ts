import { randomUUID } from 'node:crypto';
import type { World, WorldToken } from '../world.js';
import { changeUserConfig, holdsOnGroups, needSelfOr, removeEntriesOf, userExists } from './access-config.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type Params, type ParamSpecs } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';
import { failure, parameterErrors } from './wire.js';

const INFO: ParamSpecs = {
  comment: OPTIONAL_TEXT,
  expire: { type: 'integer', optional: true, minimum: 0 },
  privsep: OPTIONAL_FLAG,
};
const TOKEN_PATH = '/access/users/{userid}/token/{tokenid}';

const permit: NonNullable<Route['permit']> = (account, path, _, world) =>
  needSelfOr(account, world, path['userid'] ?? '', () => holdsOnGroups(account, ['User.Modify']));

export const tokenRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/access/users/{userid}/token',
    op: 'access.tokens.list',
    kind: 'read',
    params: {},
    permit,
    handle({ pve: { world }, path }) {
      const userid = path['userid'] ?? '';
      userExists(world, userid);
      return {
        data: tokensOf(world, userid).map((token) => ({
          tokenid: token.id.slice(userid.length + 1),
          ...tokenInfo(token),
        })),
      };
    },
  },
  {
    method: 'GET',
    path: TOKEN_PATH,
    op: 'access.tokens.get',
    kind: 'read',
    params: {},
    permit,
    handle: (call) => ({ data: tokenInfo(tokenOfCall(call)) }),
  },
  {
    method: 'POST',
    path: TOKEN_PATH,
    op: 'access.tokens.create',
    kind: 'config-write',
    params: INFO,
    permit,
    handle: createToken,
  },
  {
    method: 'PUT',
    path: TOKEN_PATH,
    op: 'access.tokens.put',
    kind: 'config-write',
    params: {
      ...INFO,
      delete: {
        type: 'string',
        optional: true,
        format: FORMATS['pve-configid'],
        list: true,
        version: '9.1',
      },
    },
    permit,
    handle(call) {
      tokenOfCall(call);
      return changeUserConfig(call, 'updating token info failed', () => {
        const token = tokenOfCall(call);
        for (const key of call.params.list('delete')) {
          if (key === 'comment') delete token.comment;
          else if (key === 'expire') token.expire = 0;
          else throw failure(`unable to delete '${key}'`);
        }
        writeInfo(token, call.params);
        return tokenInfo(token);
      });
    },
  },
  {
    method: 'DELETE',
    path: TOKEN_PATH,
    op: 'access.tokens.delete',
    kind: 'config-write',
    params: {},
    permit,
    handle(call) {
      tokenOfCall(call);
      return changeUserConfig(call, 'deleting token failed', () => {
        const { id } = tokenOfCall(call);
        call.pve.world.tokens.delete(id);
        removeEntriesOf(call.pve.world, (ugid) => ugid === id);
      });
    },
  },
];

export function tokensOf(world: World, userid: string): WorldToken[] {
  return [...world.tokens.values()].filter(({ id }) => id.startsWith(`${userid}!`));
}

export function tokenInfo(token: WorldToken): Record<string, unknown> {
  return {
    privsep: token.privsep ? 1 : 0,
    expire: token.expire,
    ...(token.comment === undefined ? {} : { comment: token.comment }),
  };
}

function tokenOfCall({ pve: { world }, path }: PveCall): WorldToken {
  const [userid = '', tokenid = ''] = [path['userid'], path['tokenid']];
  userExists(world, userid);
  const token = world.tokens.get(`${userid}!${tokenid}`);
  if (!token) throw failure(`no such token '${tokenid}' for user '${userid}'`);
  return token;
}

function writeInfo(token: WorldToken, params: Params): void {
  token.privsep = params.flag('privsep') ?? token.privsep;
  token.expire = params.number('expire') ?? token.expire;
  const comment = params.text('comment') ?? '';
  if (comment !== '') token.comment = comment;
}

/** The value is shown here and never again. */
function createToken(call: PveCall): Promise<Handled> {
  const { pve, path, params } = call;
  const [userid = '', tokenid = ''] = [path['userid'], path['tokenid']];
  const id = `${userid}!${tokenid}`;
  userExists(pve.world, userid);
  if (pve.world.tokens.has(id)) throw parameterErrors({ tokenid: 'Token already exists.' });
  return changeUserConfig(call, 'generating token failed', () => {
    if (pve.world.tokens.has(id)) throw failure('Token already exists.');
    const token: WorldToken = { id, secret: randomUUID(), privsep: true, expire: 0 };
    writeInfo(token, params);
    pve.world.tokens.set(id, token);
    return { 'full-tokenid': id, info: tokenInfo(token), value: token.secret };
  });
}
