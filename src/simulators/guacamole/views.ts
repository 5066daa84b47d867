import { ROOT, type GuacamoleModel } from './guacamole-model.js';
import type { Rights } from './rights.js';

/** Objects as the REST layer gives them: no parameters, no password. */
export function connectionView(model: GuacamoleModel, id: string): object {
  const { name, parent, protocol, attributes } = model.connection(id);
  return { name, identifier: id, parentIdentifier: parent, protocol, attributes, activeConnections: 0 };
}

export function groupView(model: GuacamoleModel, id: string): object {
  if (id === ROOT)
    return { name: ROOT, identifier: ROOT, type: 'ORGANIZATIONAL', activeConnections: 0, attributes: {} };
  const { name, parent, type, attributes } = model.group(id);
  return { name, identifier: id, parentIdentifier: parent, type, activeConnections: 0, attributes };
}

export function userView(model: GuacamoleModel, login: string): object {
  return { username: login, attributes: model.user(login).attributes };
}

/** A group with all below it that the user may read; empty lists are left out. */
export function treeView(model: GuacamoleModel, id: string, rights: Rights): object {
  const groups = [...model.world.groups]
    .filter(([child, group]) => group.parent === id && rights.has('connectionGroup', child, 'READ'))
    .map(([child]) => treeView(model, child, rights));
  const connections = [...model.world.connections]
    .filter(([child, connection]) => connection.parent === id && rights.has('connection', child, 'READ'))
    .map(([child]) => connectionView(model, child));
  return {
    ...groupView(model, id),
    ...(groups.length > 0 && { childConnectionGroups: groups }),
    ...(connections.length > 0 && { childConnections: connections }),
  };
}
