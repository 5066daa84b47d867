/** The remote systems that can be simulated. */
export const SIMULATOR_NAMES = ['proxmox', 'winrm', 'guacamole'] as const;
export type SimulatorName = (typeof SIMULATOR_NAMES)[number];

/** The wires that a transport can read, and so disturb. */
export const TRANSPORT_NAMES = ['redis', 'postgres', 'http'] as const;
export type TransportName = (typeof TRANSPORT_NAMES)[number];

export const isTransport = (sim: string): sim is TransportName =>
  (TRANSPORT_NAMES as readonly string[]).includes(sim);
