/**
 * An overlay of real daemons in a lab, for the end-to-end tests: hosts with `heddled`, pods behind
 * their bridges, and what a test asks of them (status, settled counters, how long something takes).
 *
 * Made for one tap test: it goes with the test, and a test that failed prints the end of every
 * daemon's log first.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { FIREWALL_MODE } from '../lab/firewall-mode.js'
import type { Host, Pod } from '../lab/host.js'
import type { KubeCluster } from '../lab/kube/cluster.js'
import { createLab, type Lab } from '../lab/lab.js'
import type { ManagedProcess } from '../lab/process.js'
import { readStatus } from '../control-socket.js'
import type { Status } from '../status.js'

/** Why the tests of this folder cannot run here, false = they can. */
export const skip = process.getuid?.() === 0 ? false : 'needs root for network namespaces'

export const NETWORK = '10.5.0.0/16'

/** Where flannel keeps its keys in etcd unless told otherwise. */
export const PREFIX = '/coreos.com/network'

const LOG_TAIL = 4000

/** Several daemons may start at a time, on a machine with other things to do. */
const READY_MS = 40_000

/** No packet on its way waits longer for its turn, even where the machine is busy, ms. */
const QUIET_MS = 100

export interface OverlayOptions {
  /** Hosts in the lab. */
  readonly hosts: number
  /** The first so many hosts get a daemon at once; default all. */
  readonly daemons?: number
  /** Whether the underlay has IPv6 as well, default false. */
  readonly ipv6?: boolean
  /** MTU of the underlay, bytes; default 1500. */
  readonly mtu?: number
  /**
   * `file`: a directory; `etcd`: a real server in the switch namespace; `kubernetes`: an API there, with a node for
   * each host.
   */
  readonly store: 'file' | 'etcd' | 'kubernetes'
  /** Members of the network configuration beside its backend; default {@link NETWORK} alone. */
  readonly network?: Readonly<Record<string, unknown>>
  /** Members of the network configuration's Backend beside its type. */
  readonly backend?: Readonly<Record<string, unknown>>
}

/** Packets by `direction.verdict`, beside `direction.read` and `gauge.name`. */
export type Tally = ReadonlyMap<string, number>

export class Overlay {
  readonly lab: Lab
  /** Directory of the file store. */
  readonly directory: string
  /** The latest daemon of each host. */
  readonly daemons = new Map<Host, ManagedProcess>()
  readonly #options: OverlayOptions
  #cluster: KubeCluster | null = null

  constructor(lab: Lab, options: OverlayOptions) {
    this.lab = lab
    this.directory = join(lab.dir, 'store')
    this.#options = options
  }

  host(number: number): Host {
    return this.lab.host(number)
  }

  /** Of an overlay with it. */
  get cluster(): KubeCluster {
    if (this.#cluster === null) throw new Error('this overlay has no Kubernetes')
    return this.#cluster
  }

  /** Starts the server of the store, if it has one. */
  async startStore(): Promise<void> {
    if (this.#options.store === 'etcd') await this.lab.startEtcd()
    if (this.#options.store !== 'kubernetes') return
    this.#cluster = await this.lab.startKubernetes()
    for (const [i, { name }] of this.lab.hosts.entries()) {
      await this.#cluster.addNode(name, podCIDRs(i + 1, this.#options.network))
    }
  }

  /** Writes the network configuration to the store. */
  async configure(config: object): Promise<void> {
    const text = JSON.stringify({ ...FIREWALL_MODE, ...config })
    if (this.#options.store === 'etcd') await this.lab.etcd.put(`${PREFIX}/config`, text)
    else if (this.#options.store === 'kubernetes') writeFileSync(this.netConfig, text)
    else {
      mkdirSync(this.directory, { recursive: true })
      writeFileSync(join(this.directory, 'config'), text)
    }
  }

  /**
   * Starts a host's daemon, without waiting for anything.
   * @param iface  how it is told its interface, default `--iface=eth0`
   */
  async start(
    host: Host,
    args: readonly string[] = [],
    iface?: readonly string[],
  ): Promise<ManagedProcess> {
    const daemon = await host.startDaemon(null, [...this.#storeFlags(), ...args], iface, {
      NODE_NAME: host.name,
    })
    this.daemons.set(host, daemon)
    return daemon
  }

  /** File with the network configuration of an overlay with Kubernetes. */
  get netConfig(): string {
    return join(this.lab.dir, 'net-conf.json')
  }

  #storeFlags(): string[] {
    switch (this.#options.store) {
      case 'etcd':
        return [`--etcd-endpoints=${this.lab.etcd.endpoint}`]
      case 'kubernetes':
        return [
          '--kube-subnet-mgr',
          `--kubeconfig-file=${this.cluster.kubeconfig}`,
          `--net-config-path=${this.netConfig}`,
        ]
      case 'file':
        return [`--store=file:${this.directory}`]
    }
  }

  /** The running daemon of a host. */
  daemon(host: Host): ManagedProcess {
    const daemon = this.daemons.get(host)
    if (daemon === undefined) throw new Error(`${host.name} has no daemon`)
    return daemon
  }

  /** Waits until a host's daemon is ready and knows so many peers. @returns its status then */
  async ready(host: Host, peers: number): Promise<Status> {
    const seen: Status[] = []
    await until(`${host.name} is ready with ${peers} peers`, READY_MS, async () => {
      const status = await readStatus(host.subnetFile).catch(() => null)
      if (status?.state !== 'ready' || status.peers.length !== peers) return false
      seen.push(status)
      return true
    })
    const [status] = seen
    if (status === undefined) throw new Error(`${host.name} has no status`)
    return status
  }

  /** Gives a host its bridge, if it has none yet, and one more pod. */
  async addPod(host: Host): Promise<Pod> {
    if (host.pods.length === 0) await host.addBridge(await host.subnetEnv())
    return host.addPod()
  }

  status(host: Host): Promise<Status> {
    return readStatus(host.subnetFile)
  }

  /** The counters of a host once no packet is on its way any more: two equal readings in a row. */
  async settled(host: Host): Promise<Tally> {
    let last = tally(await this.status(host))
    await until(`the counters of ${host.name} stand still`, 10_000, async () => {
      await sleep(QUIET_MS)
      const now = tally(await this.status(host))
      const isSame = [...now].every(([name, n]) => isIdleCount(name) || last.get(name) === n)
      last = now
      return isSame
    })
    return last
  }

  /** The end of each daemon's log. */
  logs(): string {
    const texts = [...this.daemons].map(([host, daemon]) => {
      const status = daemon.status === null ? 'running' : JSON.stringify(daemon.status)
      const said = readFileSync(`${daemon.log}.err`, 'utf8').slice(-LOG_TAIL)
      return `--- heddled of ${host.name} (${status}):\n${said}`
    })
    return `${texts.join('\n')}\n`
  }
}

/**
 * Builds an overlay for a test, all daemons ready and acquainted.
 * @param t  its teardown takes everything down again
 */
export async function createOverlay(t: Test, options: OverlayOptions): Promise<Overlay> {
  const lab = await createLab({
    hosts: options.hosts,
    ipv6: options.ipv6 ?? false,
    ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
  })
  const overlay = new Overlay(lab, options)
  t.teardown(async () => {
    if (!t.passing()) process.stderr.write(overlay.logs())
    await lab.close()
  })
  await overlay.startStore()
  await overlay.configure({
    ...(options.network?.['EnableIPv4'] === false ? {} : { Network: NETWORK }),
    ...options.network,
    Backend: { Type: 'udp', ...options.backend },
  })
  const first = lab.hosts.slice(0, options.daemons ?? options.hosts)
  try {
    await Promise.all(first.map((host) => overlay.start(host)))
    await Promise.all(first.map((host) => overlay.ready(host, first.length - 1)))
  } catch (fault) {
    process.stderr.write(overlay.logs())
    throw fault
  }
  return overlay
}

/** What a controller manager would give to the node of a host. */
function podCIDRs(number: number, network: OverlayOptions['network'] = {}): string[] {
  const v4 = network['EnableIPv4'] === false ? [] : [`10.5.${String(number)}.0/24`]
  const v6 = network['EnableIPv6'] === true ? [`fd00:5:0:${String(number)}::/64`] : []
  return [...v4, ...v6]
}

/**
 * Polls a condition.
 * @returns milliseconds that passed until it held
 * @throws  Error that names the condition when the time is up
 */
export async function until(
  what: string,
  timeoutMs: number,
  holds: () => boolean | Promise<boolean>,
): Promise<number> {
  const start = performance.now()
  for (;;) {
    if (await holds()) return performance.now() - start
    if (performance.now() - start > timeoutMs) {
      throw new Error(`after ${timeoutMs} ms still not so: ${what}`)
    }
    await sleep(10)
  }
}

/** Every counter of a status by its name. */
export function tally(status: Status): Tally {
  const { egress, ingress, gauges } = status.counters
  const counts = new Map<string, number>()
  for (const [direction, report] of Object.entries({ egress, ingress })) {
    counts.set(`${direction}.read`, report.read)
    for (const [verdict, { packets }] of Object.entries(report.verdicts)) {
      counts.set(`${direction}.${verdict}`, packets)
    }
  }
  for (const [name, n] of Object.entries(gauges)) counts.set(`gauge.${name}`, n)
  return counts
}

/** Counts that move without packets. */
function isIdleCount(name: string): boolean {
  return name === 'gauge.waits' || name === 'gauge.breaths'
}

/** What was counted between two readings: the verdicts and gauges that moved. */
export function counted(before: Tally, after: Tally): Record<string, number> {
  const moved: Record<string, number> = {}
  for (const [name, n] of after) {
    const delta = n - (before.get(name) ?? 0)
    if (delta !== 0 && !isIdleCount(name)) moved[name] = delta
  }
  return moved
}

/** Verdicts of a direction, added up: what must be equal to the packets read. */
export function sumOfVerdicts(counts: Tally, direction: 'egress' | 'ingress'): number {
  let sum = 0
  for (const [name, n] of counts) {
    if (name.startsWith(`${direction}.`) && name !== `${direction}.read`) sum += n
  }
  return sum
}

/** The invariant of the engine: each packet read is exactly one of forwarded or one named drop. */
export function assertAccounted(t: Test, name: string, counts: Tally): void {
  for (const direction of ['egress', 'ingress'] as const) {
    t.equal(
      counts.get(`${direction}.read`),
      sumOfVerdicts(counts, direction),
      `${name}: ${direction}: packets read = sum of verdicts`,
    )
  }
}

/** Address of a host on the overlay: the base of its subnet, which its TUN device carries. */
export async function overlayAddress(host: Host): Promise<string> {
  return (await host.subnetEnv()).gateway.replace(/\.\d+$/, '.0')
}

/** Interface names in a host's namespace. */
export async function links(host: Host): Promise<string[]> {
  const { stdout } = await host.run('ip', ['-json', 'link', 'show'])
  return (JSON.parse(stdout) as { ifname: string }[]).map((link) => link.ifname)
}
