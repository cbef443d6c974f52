/**
 * The parts of a daemon that runs, and what its status says of them.
 */
import type { Backend } from './backend/backend.js'
import type { Tunnels } from './backend/tunnels.js'
import type { Firewall } from './firewall/firewall.js'
import type { KernelState } from './kernel-state.js'
import { formatSubnet } from './lease.js'
import type { Tenure } from './leasing.js'
import { networksOf, type NetworkConfig } from './network-config.js'
import type { Peers } from './peers.js'
import type { Status } from './status.js'
import { VERSION } from './version.js'

/** What is known once the devices are open and the lease is ours. */
export interface Running {
  readonly config: NetworkConfig
  readonly backend: Backend
  readonly tunnels: Tunnels
  readonly tenure: Tenure
  readonly peers: Peers
  readonly firewall: Firewall
  readonly kernelState: KernelState
}

/** The status of a running daemon. @param about  what it knows of itself and its store */
export function describeRunning(
  { config, backend, tunnels, tenure, peers, firewall }: Running,
  about: Pick<Status, 'state' | 'startedAt' | 'store' | 'skippedKeys'>,
): Status {
  const reports = tunnels.report()
  const first = reports[0] ?? null
  const devices = backend.kernel.flatMap(({ device }) => (device === null ? [] : [device]))
  const { lease } = tenure
  const { publicIP, publicIPv6 } = backend.attrs
  return {
    version: VERSION,
    pid: process.pid,
    ...about,
    backend: {
      type: config.backend.type,
      port: backend.port,
      dataplane: first !== null ? 'user' : backend.kernel.length > 0 ? 'kernel' : 'none',
    },
    device: first?.device ?? null,
    kernelDevices: devices,
    network: networksOf(config).join(),
    lease: {
      subnet: formatSubnet(lease.subnet),
      publicIP,
      publicIPv6,
      expiresAt: lease.expiresAt === null ? null : new Date(lease.expiresAt).toISOString(),
    },
    peers: peers.describe(),
    firewall: firewall.describe(),
    routes: reports.reduce((sum, { routes }) => sum + routes, 0),
    counters: tunnels.total(),
    queues: first?.queues ?? [],
    offloads: first?.offloads ?? [],
    tunnels: reports,
  }
}
