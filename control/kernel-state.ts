/**
 * What the kernel should hold for a running daemon: put together from its tunnels, backend, peers and options,
 * and brought about at the start and whenever the repair loop says so.
 */
import type { Backend } from './backend/backend.js'
import type { Tunnels } from './backend/tunnels.js'
import { HeddleError } from './errors.js'
import { reconcile } from './host/apply.js'
import { directRoutes } from './host/direct.js'
import { monitor } from './host/monitor.js'
import { readRoutes } from './host/read.js'
import { blackholes, NOTHING, together, type HostState } from './host/state.js'
import type { LeaseSubnet } from './lease.js'
import type { Logger } from './log.js'
import type { NetworkConfig } from './network-config.js'
import type { Peers } from './peers.js'
import { formatPrefix4, formatPrefix6 } from './prefix.js'

export interface KernelStateOptions {
  readonly config: NetworkConfig
  /** The own subnet. */
  readonly subnet: LeaseSubnet
  readonly backend: Backend
  readonly tunnels: Tunnels
  readonly peers: Peers
  /** Whether addresses of the own subnet that no pod has lead nowhere. */
  readonly blackholeRoute: boolean
}

export class KernelState {
  private readonly options: KernelStateOptions
  private readonly log: Logger
  /** Whether the store has told of all peers. */
  private knowsPeers = false
  /** What the kernel should hold as of the last look. */
  private wanted: HostState = NOTHING

  constructor(options: KernelStateOptions, log: Logger) {
    this.options = options
    this.log = log
  }

  /**
   * The store has told of peers.
   * @returns whether the kernel should follow at once; the engines know already
   */
  notePeers(): boolean {
    const { directRouting, kernel } = this.options.backend
    const isFirst = !this.knowsPeers
    this.knowsPeers = true
    return isFirst || directRouting || kernel.length > 0
  }

  /** Tells of changes to what should be there, whoever makes them, until the signal fires. */
  watch(onChange: () => void, signal: AbortSignal): Promise<void> {
    return monitor(() => this.wanted, onChange, signal)
  }

  /**
   * What the kernel should hold now: devices, what it needs to reach peers itself, routes past both with
   * DirectRouting, blackholes.
   */
  private async desired(): Promise<HostState> {
    const { tunnels, backend, peers, config, subnet } = this.options
    const { kernel, directRouting } = backend
    const paths = [...backend.tunnels, ...kernel]
    const direct = directRouting ? directRoutes(peers.reached(paths), await readTables(config)) : []
    const unused = this.options.blackholeRoute ? blackholes(subnet) : []
    const past = new Set(direct.map(({ destination }) => destination))
    return together([
      tunnels.desired(),
      ...kernel.map((path) => {
        const reached = peers.reached([path]).filter(({ destination }) => !past.has(destination))
        return path.desired(subnet, reached)
      }),
      { ...NOTHING, routes: [...direct, ...unused], networks: networksOf(config) },
    ])
  }

  /** Brings the kernel to that. @throws HEDDLE_APPLY for what it refuses, and for somebody else's route in the way */
  async apply(): Promise<void> {
    this.wanted = await this.desired()
    const { changes, conflicts } = await reconcile(this.wanted, this.knowsPeers)
    for (const change of changes) this.log.verbose(1, `applied ${JSON.stringify(change)}`)
    const conflict = conflicts[0]
    if (conflict !== undefined) {
      throw new HeddleError(
        'HEDDLE_APPLY',
        `the route to ${conflict.wanted.destination} leads to ${conflict.found.device}, not to ${conflict.wanted.device}; if nothing needs it, remove it: ip route del ${conflict.found.destination} dev ${conflict.found.device}`,
      )
    }
  }
}

/** The main tables of the families that a configuration has. */
async function readTables({ ipv6 }: NetworkConfig) {
  const [routes4, routes6] = await Promise.all([readRoutes(4), ipv6 === null ? [] : readRoutes(6)])
  return [...routes4, ...routes6]
}

/** The networks of a configuration, as text. */
export function networksOf({ ipv4, ipv6 }: NetworkConfig): string[] {
  return [
    ...(ipv4 === null ? [] : [formatPrefix4(ipv4.network)]),
    ...(ipv6 === null ? [] : [formatPrefix6(ipv6.network)]),
  ]
}
