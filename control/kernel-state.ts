/**
 * What the kernel should hold for a running daemon: put together from its tunnels, backend, peers and options,
 * and brought about at the start and whenever the repair loop says so. A peer that changes in between has
 * its own entries changed at once, without a look at the thousands of others.
 */
import type { Backend } from './backend/backend.js'
import type { Tunnels } from './backend/tunnels.js'
import { HeddleError } from './errors.js'
import { carryOut, look } from './host/apply.js'
import { difference, entryOf, type Change } from './host/difference.js'
import { directRoutes } from './host/direct.js'
import { Echoes } from './host/echoes.js'
import type { RouteInfo } from './host/interface.js'
import { monitor } from './host/monitor.js'
import { isOurs, readRoutes } from './host/read.js'
import { blackholes, NOTHING, together, type HostState } from './host/state.js'
import { prefixesOf, type Lease, type LeaseSubnet } from './lease.js'
import type { Logger } from './log.js'
import { networksOf, type NetworkConfig } from './network-config.js'
import { reachedOf, type PeerChange, type Peers } from './peers.js'

export interface KernelStateOptions {
  readonly config: NetworkConfig
  /** The own subnet. */
  readonly subnet: LeaseSubnet
  /** The own subnet of last time, null = not known: a route about it that is not wanted is left over. */
  readonly former: LeaseSubnet | null
  readonly backend: Backend
  readonly tunnels: Tunnels
  readonly peers: Peers
  /** Whether addresses of the own subnet that no pod has lead nowhere. */
  readonly blackholeRoute: boolean
  /** Told when the kernel should be looked at soon. */
  readonly callForLook: () => void
}

export class KernelState {
  private readonly options: KernelStateOptions
  private readonly log: Logger
  /** Whether the store has told of all peers. */
  private knowsPeers = false
  /** What the kernel should hold as of the last look or announcement, and whether peers have changed since. */
  private wanted: HostState = NOTHING
  private isWantedStale = false
  /** With DirectRouting: others' routes as of the last change, which say what is reached without a gateway. */
  private hostRoutes: readonly RouteInfo[] = []
  /** Peers that have changed, whose entries are about to follow. */
  private readonly pending = new Map<PeerChange['key'], PeerChange>()
  private isFollowing = false
  /** Whether the kernel's announcements are listened to. */
  private isHeard = false
  /** Changes are made one batch after the other. */
  private turn: Promise<void> = Promise.resolve()
  /** Those that are being made for peers that changed. */
  private underWay: readonly Change[] = []
  /** Entries that were changed for such peers since the look under way began: it may have seen either. */
  private recent = new Set<string>()
  private readonly echoes = new Echoes()

  constructor(options: KernelStateOptions, log: Logger) {
    this.options = options
    this.log = log
  }

  /** The store has told of peers: the kernel follows at once; the engines know already. */
  notePeers(changes: readonly PeerChange[]): void {
    const { directRouting, kernel } = this.options.backend
    const isFirst = !this.knowsPeers
    this.isWantedStale = true
    this.knowsPeers = true
    if (isFirst) this.options.callForLook()
    else if (directRouting || kernel.length > 0) this.follow(changes)
  }

  /** Calls for a look when somebody else changes what should be there, until the signal fires. */
  watch(signal: AbortSignal): Promise<void> {
    const isEcho = (line: string) => this.echoes.has(line, performance.now())
    const onRunning = (isRunning: boolean): void => {
      this.isHeard = isRunning
      // For what was not told, before or from now on.
      this.options.callForLook()
    }
    return monitor(() => this.wantedNow(), isEcho, this.options.callForLook, onRunning, signal)
  }

  /** Whether the kernel tells of what a look would find, settings apart: not of every route that may lead to a host. */
  get isTold(): boolean {
    return this.isHeard && !this.options.backend.directRouting
  }

  /** Resolves when the entries of all peers that have changed have followed. */
  async settled(): Promise<void> {
    while (this.isFollowing) await this.turn
  }

  private follow(changes: readonly PeerChange[]): void {
    for (const change of changes) {
      const before = this.pending.get(change.key)?.before
      this.pending.set(change.key, before === undefined ? change : { ...change, before })
    }
    if (!this.isFollowing) void this.followAll()
  }

  private async followAll(): Promise<void> {
    this.isFollowing = true
    while (this.pending.size > 0) {
      await this.inTurn(() => this.changeEntries()).catch(() => {
        // Something is not as it was left.
        this.options.callForLook()
      })
    }
    this.isFollowing = false
  }

  /** Changes the entries of the peers that have changed. */
  private async changeEntries(): Promise<void> {
    const peers = [...this.pending.values()]
    this.pending.clear()
    await this.readHostRoutes()
    const of = (when: 'before' | 'after') =>
      this.entriesOf(peers.flatMap(({ [when]: lease }) => (lease === null ? [] : [lease])))
    const was = of('before')
    const routes = was.routes.map((route) => ({ ...route, isOurs: true }))
    const { changes } = difference(of('after'), { ...was, routes })
    const due = this.withoutShared(changes)
    for (const change of due) this.recent.add(entryOf(change))
    this.underWay = due
    try {
      await this.make(due)
    } finally {
      this.underWay = []
    }
  }

  /** What the kernel needs to reach the hosts of some leases itself, and routes past tunnels with DirectRouting. */
  private entriesOf(leases: readonly Lease[]): HostState {
    const { backend, subnet, config } = this.options
    const { kernel, tunnels, directRouting } = backend
    const direct = directRouting
      ? directRoutes(reachedOf(leases, [...tunnels, ...kernel]), this.hostRoutes)
      : []
    const past = new Set(direct.map(({ destination }) => destination))
    const states = kernel.map((path) => {
      const reached = reachedOf(leases, [path]).filter(({ destination }) => !past.has(destination))
      return path.desired(subnet, reached)
    })
    return together([...states, { ...NOTHING, routes: direct, networks: networksOf(config) }])
  }

  /** A VTEP that two leases speak of, an old one and its successor, stays known while one of them is there. */
  private withoutShared(changes: readonly Change[]): readonly Change[] {
    if (changes.every(({ kind }) => kind !== 'forwarding-remove')) return changes
    const { forwarding } = this.entriesOf(this.options.peers.leases())
    const shared = new Set(forwarding.map(({ device, mac }) => `${device} ${mac}`))
    return changes.filter(
      (c) => c.kind !== 'forwarding-remove' || !shared.has(`${c.entry.device} ${c.entry.mac}`),
    )
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.turn.then(work)
    this.turn = mine.catch(() => undefined)
    return mine
  }

  private async make(changes: readonly Change[]): Promise<void> {
    for (const change of changes) this.log.verbose(1, `applied ${JSON.stringify(change)}`)
    this.echoes.await(changes, performance.now())
    await carryOut(changes)
  }

  /** What the kernel should hold now: devices, what leads to peers, blackholes. */
  private desired(): HostState {
    const { tunnels, peers, subnet, former, blackholeRoute } = this.options
    const unused = blackholeRoute ? blackholes(subnet) : []
    const networks = former === null ? [] : prefixesOf(former)
    return together([
      tunnels.desired(),
      this.entriesOf(peers.leases()),
      { ...NOTHING, routes: unused, networks },
    ])
  }

  /** What the kernel should hold, for comparing announcements with it. */
  private wantedNow(): HostState {
    if (this.isWantedStale) this.wanted = this.desired()
    this.isWantedStale = false
    return this.wanted
  }

  private async readHostRoutes(): Promise<void> {
    const { backend, config } = this.options
    if (backend.directRouting) this.hostRoutes = await readOthersRoutes(config)
  }

  /** Brings the kernel to that. @throws HEDDLE_APPLY for what it refuses, and for somebody else's route in the way */
  async apply(): Promise<void> {
    const recent = new Set(this.underWay.map(entryOf))
    this.recent = recent
    await this.readHostRoutes()
    this.wanted = this.desired()
    this.isWantedStale = false
    const { changes, conflicts } = await look(this.wanted, this.knowsPeers)
    await this.inTurn(() => this.make(changes.filter((change) => !recent.has(entryOf(change)))))
    const conflict = conflicts[0]
    if (conflict !== undefined) {
      throw new HeddleError(
        'HEDDLE_APPLY',
        `the route to ${conflict.wanted.destination} leads to ${conflict.found.device}, not to ${conflict.wanted.device}; if nothing needs it, remove it: ip route del ${conflict.found.destination} dev ${conflict.found.device}`,
      )
    }
  }
}

/** The main tables of the families that a configuration has: our own routes lead to pods, not to hosts, and there may be thousands. */
async function readOthersRoutes({ ipv6 }: NetworkConfig): Promise<RouteInfo[]> {
  const [routes4, routes6] = await Promise.all([readRoutes(4), ipv6 === null ? [] : readRoutes(6)])
  return [...routes4, ...routes6].filter((route) => !isOurs(route))
}
