import type { JournalEntry } from '../journal.js';
import { internalError } from './guacamole-error.js';
import { ROOT, type GuacamoleModel, type JsonObject, type Removed } from './guacamole-model.js';
import { readPermissionPatch } from './permissions.js';
import type { Rights } from './rights.js';
import { connectionView, groupView, treeView, userView } from './views.js';

/** A line beside the one of the request: one per object or permission that changed. */
type Side = Pick<JournalEntry, 'op' | 'resource' | 'params'>;

export interface RouteResult {
  readonly status: number;
  readonly body?: unknown;
  readonly effect?: boolean;
  readonly resource?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly sides?: readonly Side[];
}

export interface Route {
  readonly op: string;
  readonly act: (rights: Rights, model: GuacamoleModel, body: unknown) => RouteResult;
}

const read = (op: string, view: (rights: Rights, model: GuacamoleModel) => unknown): Route => ({
  op,
  act: (rights, model) => ({ status: 200, body: view(rights, model) }),
});

/** The route of `<method> session/data/<source>/<segments>`; `undefined` = no such path. */
export function dataRoute(method: string, segments: readonly string[]): Route | undefined {
  const [collection = '', id, ...rest] = segments;
  if (collection === 'connections') return connectionRoute(method, id, rest.join('/'));
  if (collection === 'connectionGroups') return groupRoute(method, id, rest.join('/'));
  if (collection === 'users') return userRoute(method, id, rest.join('/'));
  if (collection === 'self' && method === 'GET') return selfRoute(segments.slice(1).join('/'));
  if (
    ['userGroups', 'sharingProfiles', 'activeConnections'].includes(collection) &&
    id === undefined &&
    method === 'GET'
  )
    return read(`guacamole.${collection}.list`, () => ({}));
  return undefined;
}

function connectionRoute(method: string, id: string | undefined, rest: string): Route | undefined {
  if (id === undefined) {
    if (method === 'GET')
      return read('guacamole.connection.list', (rights, model) =>
        Object.fromEntries(
          [...model.world.connections.keys()]
            .filter((one) => rights.has('connection', one, 'READ'))
            .map((one) => [one, connectionView(model, one)]),
        ),
      );
    if (method !== 'POST') return undefined;
    return {
      op: 'guacamole.connection.create',
      act: (rights, model, body) => {
        const wanted = objectOf(body);
        rights.needCreate('CREATE_CONNECTION', parentOf(wanted));
        const made = model.addConnection(wanted);
        rights.own('connection', made);
        const answer = { ...connectionView(model, made), parameters: model.connection(made).parameters };
        return {
          status: 200,
          body: answer,
          effect: true,
          resource: made,
          params: connectionFacts(model, made),
        };
      },
    };
  }
  if (rest === 'parameters' && method === 'GET')
    return read('guacamole.connection.parameters', (rights, model) => {
      model.connection(id);
      rights.need('connection', id, 'UPDATE');
      return model.connection(id).parameters;
    });
  if (rest !== '') return undefined;
  if (method === 'GET')
    return read('guacamole.connection.get', (rights, model) => {
      model.connection(id);
      rights.need('connection', id, 'READ');
      return connectionView(model, id);
    });
  if (method === 'PUT')
    return {
      op: 'guacamole.connection.update',
      act: (rights, model, body) => {
        model.connection(id);
        rights.need('connection', id, 'UPDATE');
        model.updateConnection(id, objectOf(body));
        return { status: 204, effect: true, resource: id, params: connectionFacts(model, id) };
      },
    };
  if (method !== 'DELETE') return undefined;
  return {
    op: 'guacamole.connection.delete',
    act: (rights, model) => {
      model.connection(id);
      rights.need('connection', id, 'DELETE');
      const { name, parent } = model.removeConnection(id);
      return { status: 204, effect: true, resource: id, params: { name, parent } };
    },
  };
}

function groupRoute(method: string, id: string | undefined, rest: string): Route | undefined {
  if (id === undefined) {
    if (method === 'GET')
      return read('guacamole.group.list', (rights, model) =>
        Object.fromEntries(
          [...model.world.groups.keys()]
            .filter((one) => rights.has('connectionGroup', one, 'READ'))
            .map((one) => [one, groupView(model, one)]),
        ),
      );
    if (method !== 'POST') return undefined;
    return {
      op: 'guacamole.group.create',
      act: (rights, model, body) => {
        const wanted = objectOf(body);
        rights.needCreate('CREATE_CONNECTION_GROUP', parentOf(wanted));
        const made = model.addGroup(wanted);
        rights.own('connectionGroup', made);
        const { name, parent } = model.group(made);
        return {
          status: 200,
          body: groupView(model, made),
          effect: true,
          resource: made,
          params: { name, parent },
        };
      },
    };
  }
  const needRead = (rights: Rights, model: GuacamoleModel): void => {
    if (id === ROOT) return;
    model.group(id);
    rights.need('connectionGroup', id, 'READ');
  };
  if (rest === 'tree' && method === 'GET')
    return read('guacamole.group.tree', (rights, model) => {
      needRead(rights, model);
      return treeView(model, id, rights);
    });
  if (rest !== '') return undefined;
  if (method === 'GET')
    return read('guacamole.group.get', (rights, model) => {
      needRead(rights, model);
      return groupView(model, id);
    });
  if (method === 'PUT')
    return {
      op: 'guacamole.group.update',
      act: (rights, model, body) => {
        model.group(id);
        rights.need('connectionGroup', id, 'UPDATE');
        model.updateGroup(id, objectOf(body));
        const { name, parent } = model.group(id);
        return { status: 204, effect: true, resource: id, params: { name, parent } };
      },
    };
  if (method !== 'DELETE') return undefined;
  return {
    op: 'guacamole.group.delete',
    act: (rights, model) => {
      const { name, parent } = model.group(id);
      rights.need('connectionGroup', id, 'DELETE');
      const inside = model.removeGroup(id).slice(0, -1);
      return {
        status: 204,
        effect: true,
        resource: id,
        params: { name, parent },
        sides: inside.map(cascaded),
      };
    },
  };
}

function userRoute(method: string, login: string | undefined, rest: string): Route | undefined {
  if (login === undefined) {
    if (method === 'GET')
      return read('guacamole.user.list', (rights, model) =>
        Object.fromEntries(
          [...model.world.users.keys()]
            .filter((one) => rights.has('user', one, 'READ'))
            .map((one) => [one, userView(model, one)]),
        ),
      );
    if (method !== 'POST') return undefined;
    return {
      op: 'guacamole.user.create',
      act: (rights, model, body) => {
        rights.needCreate('CREATE_USER');
        const made = model.addUser(objectOf(body));
        rights.own('user', made);
        return {
          status: 200,
          body: userView(model, made),
          effect: true,
          resource: made,
          params: userFacts(model, made),
        };
      },
    };
  }
  const needRead = (rights: Rights, model: GuacamoleModel): void => {
    model.user(login);
    rights.need('user', login, 'READ');
  };
  if (rest === 'permissions' && method === 'PATCH') return permissionPatch(login);
  if ((rest === 'permissions' || rest === 'effectivePermissions') && method === 'GET')
    return read('guacamole.permission.get', (rights, model) => {
      needRead(rights, model);
      return model.permissionsOf(login).view();
    });
  if (rest === 'userGroups' && method === 'GET') return read('guacamole.user.groups', () => []);
  if (rest !== '') return undefined;
  if (method === 'GET')
    return read('guacamole.user.get', (rights, model) => {
      needRead(rights, model);
      return userView(model, login);
    });
  if (method === 'PUT')
    return {
      op: 'guacamole.user.update',
      act: (rights, model, body) => {
        model.user(login);
        rights.need('user', login, 'UPDATE');
        model.updateUser(login, objectOf(body));
        return { status: 204, effect: true, resource: login, params: userFacts(model, login) };
      },
    };
  if (method !== 'DELETE') return undefined;
  return {
    op: 'guacamole.user.delete',
    act: (rights, model) => {
      const params = userFacts(model, login);
      rights.need('user', login, 'DELETE');
      model.removeUser(login);
      return { status: 204, effect: true, resource: login, params };
    },
  };
}

function permissionPatch(login: string): Route {
  return {
    op: 'guacamole.permission.patch',
    act: (rights, model, body) => {
      model.user(login);
      const changes = readPermissionPatch(body);
      rights.needGrant(login, changes);
      const changed = model.changePermissions(login, changes);
      const sides = changed.map(({ op, kind, id, value }) => ({
        op: `guacamole.permission.${op}`,
        resource: login,
        params: { kind, id, permission: value },
      }));
      return { status: 204, effect: changed.length > 0, resource: login, sides };
    },
  };
}

function selfRoute(rest: string): Route | undefined {
  if (rest === '') return read('guacamole.self', (rights, model) => userView(model, rights.login));
  if (rest === 'permissions' || rest === 'effectivePermissions')
    return read('guacamole.self', (rights, model) => model.permissionsOf(rights.login).view());
  return undefined;
}

function objectOf(body: unknown): JsonObject {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw internalError();
  return body as JsonObject;
}

function parentOf(body: JsonObject): string {
  const parent = body['parentIdentifier'];
  return typeof parent === 'string' && parent !== '' ? parent : ROOT;
}

function connectionFacts(model: GuacamoleModel, id: string): Record<string, unknown> {
  const { name, parent, protocol, parameters } = model.connection(id);
  return { name, parent, protocol, hostname: parameters['hostname'], port: parameters['port'] };
}

/** The mark is whichever attribute speaks of the product. */
function userFacts(model: GuacamoleModel, login: string): Record<string, unknown> {
  const mark = Object.values(model.user(login).attributes).find((value) => value?.includes('hatchery'));
  return mark === undefined ? {} : { mark };
}

function cascaded({ kind, id, name, parent }: Removed): Side {
  const op = kind === 'connection' ? 'guacamole.connection.delete' : 'guacamole.group.delete';
  return { op, resource: id, params: { name, parent, cascade: true } };
}
