/**
 * The daemon's run, top to bottom:
 *
 *     network config → interface → devices → lease → kernel state → peers → engine → subnet.env
 *         → (watch peers | keep the lease | repair the kernel state) → stop
 *
 * It ends when its signal fires, when the lease is lost or evicted, or when a step that it cannot do
 * without fails. On the way out the engine is stopped first and the TUN device goes, unless it is kept, or left open for
 * the program to start anew; the lease, the subnet file and the peers' knowledge of us stay, as flannel leaves them.
 */
import { addressNeeds, createBackend, type Backend } from './backend/backend.js'
import { compact } from './compaction.js'
import { describeError } from './errors.js'
import { Handover, type HandedTunnel } from './handover.js'
import { lockKept } from './instance.js'
import { Firewall, type FirewallOptions } from './firewall/firewall.js'
import { whyNoVxlan } from './host/apply.js'
import { runCommand } from './host/command.js'
import { demandBridgeNetfilter } from './host/firewall.js'
import { chooseInterface, type ChosenInterface } from './host/interface.js'
import { readAddresses, readRoutes, readWay } from './host/read.js'
import { KernelState } from './kernel-state.js'
import { formatSubnet, type LeaseSubnet } from './lease.js'
import { LeaseWatcher } from './lease-watcher.js'
import type { Leasing } from './leasing.js'
import type { NetworkConfig } from './network-config.js'
import { Peers } from './peers.js'
import { RepairLoop } from './repair-loop.js'
import { describeRunning, type Running } from './running.js'
import type { Status } from './status.js'
import { isAborted, isAbortError, sleep } from './store/abort.js'
import { awaitConfig, persist } from './store/patience.js'
import { writeSubnetFile } from './subnet-file.js'
import { logOffloads } from './offload-log.js'
import { openBackend, type OpeningOptions } from './backend/opening.js'
import { closeTunnels, leaveTunnels, Tunnels, type EngineWatcher } from './backend/tunnels.js'
import { Turns } from './turns.js'

/** How long a program that may start anew asks the store. */
const STORE_LIMIT_MS = 2000
/** How long engines wait for the first list of peers; without one they begin with an empty table. */
const FIRST_PEERS_MS = 1000
/** Unreadable keys that are remembered, so that each is named once. */
const MAX_SKIPPED = 1000

export interface AgentOptions extends OpeningOptions {
  readonly leasing: Leasing
  /** Values of --iface, in order. */
  readonly ifaces: readonly string[]
  /** Values of --iface-regex, in order. */
  readonly ifaceRegexes: readonly string[]
  /** Value of --iface-can-reach, null = not given. */
  readonly ifaceCanReach: string | null
  /** Value of --public-ip, null = not given. */
  readonly publicIP: string | null
  /** Value of --public-ipv6, null = not given. */
  readonly publicIPv6: string | null
  readonly subnetFile: string
  /** The subnet of last time, read back from the subnet file. */
  readonly previous: LeaseSubnet | null
  readonly firewall: FirewallOptions
  /** Whether addresses of the own subnet that no pod has lead nowhere. */
  readonly blackholeRoute: boolean
  /** Called before the engines stop for a {@link Handover}, for what need not be done while they stand still. */
  readonly onLeaving: () => Promise<void>
  /** Called once, when subnet.env is written and packets flow. */
  readonly onReady: () => void
}

export class Agent {
  /** Devices that are left open, after a run whose signal fired for a {@link Handover}. */
  left: readonly HandedTunnel[] = []
  private readonly options: AgentOptions
  private readonly startedAt = new Date().toISOString()
  private running: Running | null = null
  private isReady = false
  private isStoreReachable = true
  private readonly turns = new Turns()
  private readonly skipped = new Map<string, string>()
  private readonly repairs: RepairLoop

  constructor(options: AgentOptions) {
    this.options = options
    this.repairs = new RepairLoop(options.log)
  }

  /**
   * Runs until the signal fires.
   * @throws HeddleError for everything that ends the daemon by itself
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.runSteps(signal)
    } catch (error) {
      // A step that was under way when the signal fired: that is how it was told to end.
      if (!(signal.aborted && isAbortError(error))) throw error
    }
  }

  private async runSteps(signal: AbortSignal): Promise<void> {
    const { leasing, log } = this.options
    const config = await awaitConfig(() => leasing.readConfig(signal), log, signal)
    if (config === null) return
    demandBridgeNetfilter(config)
    const external = await this.findInterface(config, signal)
    const backend = await createBackend(config, external, {
      published: (own) => persist(() => leasing.published(own, signal), log, signal),
      whyNoVxlan,
      runCommand,
    })
    for (const note of backend.notes) log.info(note)
    const release = await lockKept(backend, config)
    try {
      await this.runBackend(config, external, backend, signal)
    } finally {
      release()
    }
  }

  private async runBackend(
    config: NetworkConfig,
    external: ChosenInterface,
    backend: Backend,
    signal: AbortSignal,
  ): Promise<void> {
    const { leasing, log } = this.options
    const open = await openBackend(backend, config, external, this.options)
    const why = open[0]?.dataplane.whyNoSteering ?? null
    if (why !== null) {
      log.warn(`one engine and one source port: ${why}`)
    }
    try {
      const tenure = await persist(() => leasing.take(config, backend.attrs, signal), log, signal)
      const { subnet } = tenure.lease
      const tunnels = new Tunnels(open, config, subnet)
      await backend.hooks?.leased(subnet)
      const { kernel, hooks } = backend
      const peers = new Peers({ tunnels: open, kernel, hooks }, subnet, log)
      const { firewall: wish, previous } = this.options
      const firewall = new Firewall(wish, config, subnet, previous, log)
      const { blackholeRoute } = this.options
      const callForLook = (): void => {
        this.repairs.now()
      }
      const kernelState = new KernelState(
        { config, subnet, former: previous, backend, tunnels, peers, blackholeRoute, callForLook },
        log,
      )
      this.running = { config, backend, tunnels, tenure, peers, firewall, kernelState }
      await kernelState.apply()
      await firewall.start(signal)
      await this.forward(this.running, signal)
    } finally {
      if (signal.reason instanceof Handover) {
        await this.options.onLeaving()
        this.left = await leaveTunnels(open)
      } else await closeTunnels(open)
    }
  }

  /** The daemon's status, null before the lease is ours. */
  status(): Status | null {
    if (this.running === null) return null
    return describeRunning(this.running, {
      state: this.isReady ? 'ready' : 'starting',
      startedAt: this.startedAt,
      store: { description: this.options.leasing.description, isReachable: this.isStoreReachable },
      skippedKeys: this.skipped.size,
    })
  }

  /** The own subnet as text, null before the lease is ours. */
  subnet(): string | null {
    return this.running === null ? null : formatSubnet(this.running.tenure.lease.subnet)
  }

  /** Why a program that starts now would not be ready soon, null = nothing speaks against it. */
  async whyNotAnew(): Promise<string | null> {
    const lost = this.running?.tunnels.list.find(({ state }) => state !== 'running')
    if (!this.isReady) return 'it is not ready yet'
    if (lost !== undefined) return `${lost.dataplane.device} is gone`
    if (!this.isStoreReachable) return 'the store is not reachable'
    return this.options.leasing.whyNot(AbortSignal.timeout(STORE_LIMIT_MS))
  }

  /** Whether every engine has turned lately. */
  areEnginesAlive(): boolean {
    return this.turns.areMoving(this.running?.tunnels.turns() ?? [], performance.now())
  }

  /** The store tells of its connection; shown in the status and, on changes, in the log. */
  noteConnection(isUp: boolean, detail: string): void {
    this.isStoreReachable = isUp
    if (isUp) this.options.log.info(`store reachable again: ${detail}`)
    else this.options.log.warn(`store not reachable, forwarding goes on as last told: ${detail}`)
  }

  /** The store skipped something that is no lease. */
  noteSkip(what: string, why: string): void {
    // The store tells again at every listing; the log and the count are of keys, not of sightings.
    if (this.skipped.get(what) === why) return
    if (this.skipped.size < MAX_SKIPPED) this.skipped.set(what, why)
    this.options.log.warn(`ignoring ${what}: ${why}`)
  }

  private async findInterface(
    config: NetworkConfig,
    signal: AbortSignal,
  ): Promise<ChosenInterface> {
    const needs = addressNeeds(config)
    const [interfaces, routes, routes6] = await Promise.all([
      readAddresses(),
      readRoutes(4),
      needs.ipv6 === 'unused' ? [] : readRoutes(6),
    ])
    const { leasing, ifaces, ifaceRegexes: regexes, ifaceCanReach: to, log } = this.options
    const given = await persist(() => leasing.givenAddresses(signal), log, signal)
    const publicIP = given.publicIP ?? this.options.publicIP
    const publicIPv6 = given.publicIPv6 ?? this.options.publicIPv6
    const canReach = to === null ? null : { address: to, way: await readWay(to) }
    const addresses = { publicIP, publicIPv6 }
    const request = { interfaces, routes, routes6, needs, ifaces, regexes, canReach, ...addresses }
    const chosen = chooseInterface(request)
    for (const note of chosen.notes) log.info(note)
    return chosen
  }

  /** Starts the engine, tells the world, and keeps everything up until something ends it. */
  private async forward(running: Running, signal: AbortSignal): Promise<void> {
    const { tunnels, tenure, config, backend, firewall, kernelState } = running
    const { subnet } = tenure.lease
    const over = new AbortController()
    const both = AbortSignal.any([signal, over.signal])
    let onFailure: (error: Error) => void = () => undefined
    const engineDied = new Promise<never>((_resolve, reject) => {
      onFailure = reject
    })
    const watcher: EngineWatcher = {
      onFailure,
      onLost: (device) => {
        this.options.log.warn(`${device} was deleted, it is made anew`)
        this.repairs.now()
      },
    }
    let onPeers: () => void = () => undefined
    const peersKnown = new Promise<void>((resolve) => {
      onPeers = resolve
    })
    const chores = [
      this.watch(running, onPeers, both),
      tenure.renew(both),
      kernelState.watch(both),
      firewall.keep(both),
    ]
    const compacting = compact(both)
    try {
      let failed = Promise.race([engineDied, ...chores])
      failed.catch(() => undefined)
      // What came before is told from a table that knows its way.
      await Promise.race([peersKnown, sleep(FIRST_PEERS_MS, both), failed])
      if (isAborted(both)) return
      tunnels.start(watcher)
      logOffloads(tunnels.report(), this.options.log)
      const repairing = this.repairs.run(
        () => this.repair(running, watcher),
        () => kernelState.isTold,
        both,
      )
      chores.push(repairing)
      failed = Promise.race([failed, repairing])
      failed.catch(() => undefined)
      await this.announce(config, subnet, backend.mtu)
      await failed
    } finally {
      this.isReady = false
      over.abort()
      engineDied.catch(() => undefined)
      await Promise.allSettled([...chores, compacting, kernelState.settled()])
    }
  }

  /** Writes subnet.env and reports readiness. A file that cannot be written leaves us unready. */
  private async announce(config: NetworkConfig, subnet: LeaseSubnet, mtu: number): Promise<void> {
    const { leasing, subnetFile, firewall, log, onReady } = this.options
    try {
      await writeSubnetFile(subnetFile, {
        network: config.ipv4?.network ?? null,
        ipv6Network: config.ipv6?.network ?? null,
        subnet,
        mtu,
        ipMasq: firewall.masquerade,
      })
    } catch (error) {
      log.warn(`Failed to write subnet file ${subnetFile}: ${describeError(error)}`)
      return
    }
    log.info(`Wrote subnet file to ${subnetFile}`)
    this.isReady = true
    log.info('flannel is ready')
    leasing.noteReady()
    onReady()
  }

  /**
   * Follows the leases of the network: peers into the table, the own one to its tenure.
   * @param onPeers  told when the table has them
   */
  private async watch(running: Running, onPeers: () => void, signal: AbortSignal): Promise<void> {
    const { tenure, peers, kernelState } = running
    const watcher = new LeaseWatcher(tenure.lease.subnet)
    this.options.log.info('Watching for new subnet leases')
    for await (const event of this.options.leasing.watch(signal)) {
      const changes = watcher.apply(event)
      kernelState.notePeers(peers.apply(changes))
      onPeers()
      if (changes.own !== null) {
        await tenure.observe(changes.own === 'gone' ? null : changes.own, signal)
      }
    }
  }

  /**
   * Puts back what somebody else removed from the kernel: devices first, then what is on them and leads
   * to them, then their engines.
   */
  private async repair(running: Running, watcher: EngineWatcher): Promise<void> {
    const { tunnels, peers, kernelState } = running
    const anew = await tunnels.reopen()
    if (anew.length > 0) peers.restore()
    await kernelState.apply()
    tunnels.start(watcher)
    for (const device of anew) this.options.log.info(`${device} is there again`)
  }
}
