/**
 * One flannel network for a test: an etcd prefix of its own, and daemons on the hosts of a lab that
 * use it. Several networks share one lab and one etcd, since building those takes longer than a case.
 *
 * What etcd holds is read and written with etcdctl, so a test does not check our client against
 * itself. A network's daemons end with its test.
 */
import { join } from 'node:path'
import type { Test } from 'tap'
import { FIREWALL_MODE } from '../lab/firewall-mode.js'
import { HEDDLED, type Host } from '../lab/host.js'
import { createLab, type Lab } from '../lab/lab.js'
import type { ManagedProcess } from '../lab/process.js'
import { readStatus } from '../control-socket.js'
import type { Status } from '../status.js'
import { until } from './overlay.js'

const LOG_TAIL = 4000

/** How long a daemon may take to get somewhere on a machine that is busy with other things, ms. */
export const PATIENCE_MS = 20_000

/** A key as etcd holds it. */
export interface KeyRecord {
  readonly value: string
  /** Id of the etcd lease, 0 = none. */
  readonly lease: bigint
  readonly modRevision: number
}

/** How a daemon is started beside its flags. */
export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Program and arguments that go before the daemon's own command. */
  readonly wrapper?: readonly string[]
  /** Default `--iface=eth0`. */
  readonly iface?: readonly string[]
}

/** A lab with hosts and a running etcd, for the time of a test file. */
export async function createEtcdLab(t: Test, hosts: number): Promise<Lab> {
  const lab = await createLab({ hosts })
  t.teardown(() => lab.close())
  await lab.startEtcd()
  return lab
}

export class EtcdNetwork {
  readonly prefix: string
  readonly #name: string
  readonly #lab: Lab
  /** The latest daemon of each host. */
  readonly #daemons = new Map<Host, ManagedProcess>()

  /** @param name  names prefix and folders; unique in its lab */
  constructor(t: Test, lab: Lab, name: string) {
    this.#lab = lab
    this.#name = name
    this.prefix = `/${name}/network`
    t.teardown(async () => {
      const running = [...this.#daemons.values()]
      for (const daemon of running) daemon.kill('SIGCONT')
      await Promise.all(running.map((daemon) => daemon.stop()))
      if (!t.passing()) process.stderr.write(this.#logs())
    })
  }

  /** Writes the network configuration; text goes as it is. */
  configure(config: object | string): Promise<void> {
    const text =
      typeof config === 'string' ? config : JSON.stringify({ ...FIREWALL_MODE, ...config })
    return this.#lab.etcd.put(`${this.prefix}/config`, text)
  }

  /** Where a host's daemon of this network writes its subnet. */
  subnetFile(host: Host): string {
    return join(host.dir, this.#name, 'subnet.env')
  }

  /** Flags of a daemon of this network. */
  flags(host: Host): string[] {
    return [
      `--etcd-endpoints=${this.#lab.etcd.endpoint}`,
      `--etcd-prefix=${this.prefix}`,
      `--subnet-file=${this.subnetFile(host)}`,
    ]
  }

  /** Starts a daemon, without waiting for anything. */
  async start(
    host: Host,
    args: readonly string[] = [],
    { env = {}, wrapper = [], iface = ['--iface=eth0'] }: StartOptions = {},
  ): Promise<ManagedProcess> {
    const all = [...wrapper, process.execPath, HEDDLED, ...this.flags(host), ...iface, ...args]
    const [command = '', ...rest] = all
    const daemon = await host.spawn(command, rest, { name: `heddled-${this.#name}`, env })
    this.#daemons.set(host, daemon)
    return daemon
  }

  daemon(host: Host): ManagedProcess {
    const daemon = this.#daemons.get(host)
    if (daemon === undefined) throw new Error(`${host.name} has no daemon`)
    return daemon
  }

  /** Starts daemons at once and waits until each is ready. */
  async startAll(hosts: readonly Host[], args: readonly string[] = []): Promise<Status[]> {
    await Promise.all(hosts.map((host) => this.start(host, args)))
    return Promise.all(hosts.map((host) => this.ready(host)))
  }

  status(host: Host): Promise<Status> {
    return readStatus(this.subnetFile(host))
  }

  /**
   * Waits until a daemon is ready.
   * @param peers  how many it must know, null = any number
   * @throws Error, with the end of its log, when it ended or the time is up
   */
  async ready(host: Host, peers: number | null = null): Promise<Status> {
    const seen: Status[] = []
    const daemon = this.daemon(host)
    await until(`${host.name} is ready`, PATIENCE_MS, async () => {
      if (!daemon.running) throw new Error(`the daemon ended:\n${daemon.stderr()}`)
      const status = await this.status(host).catch(() => null)
      if (status?.state !== 'ready') return false
      if (peers !== null && status.peers.length !== peers) return false
      return seen.push(status) > 0
    })
    const [status] = seen
    if (status === undefined) throw new Error(`${host.name} has no status`)
    return status
  }

  /** Subnets that a host's daemon has peers for, ascending. */
  async peers(host: Host): Promise<string[]> {
    return (await this.status(host)).peers.map((peer) => peer.subnet)
  }

  /** Waits until a host's peers are these subnets. @returns milliseconds that it took */
  untilPeers(host: Host, subnets: readonly string[]): Promise<number> {
    const wanted = [...subnets].sort().join(' ')
    return until(`${host.name} has the peers ${wanted}`, PATIENCE_MS, async () => {
      return (await this.peers(host)).sort().join(' ') === wanted
    })
  }

  /** Full key of a subnet such as `10.5.1.0/24`. */
  key(subnet: string): string {
    return `${this.prefix}/subnets/${subnet.replace('/', '-')}`
  }

  /** The lease keys of this network by subnet, as `10.5.1.0/24`. */
  async records(): Promise<Map<string, KeyRecord>> {
    const { stdout } = await this.ctl('get', '--prefix', this.key(''), '--write-out=fields')
    const column = (name: string) =>
      [...stdout.matchAll(new RegExp(`^"${name}" : (.*)$`, 'gm'))].map((match) => match[1] ?? '')
    const [keys, values] = [column('Key'), column('Value')]
    const [leases, revisions] = [column('Lease'), column('ModRevision')]
    return new Map(
      keys.map((key, i) => [
        String(JSON.parse(key)).slice(this.key('').length).replace('-', '/'),
        {
          value: String(JSON.parse(values[i] ?? '""')),
          lease: BigInt(leases[i] ?? 0),
          modRevision: Number(revisions[i]),
        },
      ]),
    )
  }

  /** The key of a subnet. @throws Error when there is none */
  async record(subnet: string): Promise<KeyRecord> {
    const found = (await this.records()).get(subnet)
    if (found === undefined) throw new Error(`no key for ${subnet}`)
    return found
  }

  /** Writes the key of a subnet, under an etcd lease of its own when a lifetime in seconds is given. */
  async put(subnet: string, value: string, ttl: number | null = null): Promise<void> {
    const lease = ttl === null ? [] : [`--lease=${await this.#grant(ttl)}`]
    await this.ctl('put', ...lease, '--', this.key(subnet), value)
  }

  async remove(subnet: string): Promise<void> {
    await this.ctl('del', this.key(subnet))
  }

  /** What a host of this address publishes: the bytes of flannel's `udp` backend since v0.15. */
  value(publicIP: string): string {
    return `{"PublicIP":"${publicIP}","PublicIPv6":null}`
  }

  /** Granted and remaining seconds of an etcd lease; null = there is no such lease. */
  async lifetime(lease: bigint): Promise<{ granted: number; left: number } | null> {
    const { stdout } = await this.ctl('lease', 'timetolive', lease.toString(16))
    const match = /TTL\((\d+)s\), remaining\((-?\d+)s\)/.exec(stdout)
    return match && { granted: Number(match[1]), left: Number(match[2]) }
  }

  /** Runs etcdctl. @throws Error when it fails */
  async ctl(...args: readonly string[]): Promise<{ stdout: string }> {
    const result = await this.#lab.etcd.ctl(...args)
    if (result.code !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${result.stderr}`)
    return result
  }

  async #grant(ttl: number): Promise<string> {
    const { stdout } = await this.ctl('lease', 'grant', String(ttl))
    const id = /^lease ([0-9a-f]+) granted/.exec(stdout)?.[1]
    if (id === undefined) throw new Error(`etcdctl lease grant said ${stdout}`)
    return id
  }

  #logs(): string {
    const texts = [...this.#daemons].map(([host, daemon]) => {
      return `--- heddled of ${host.name} (${JSON.stringify(daemon.status)}):\n${daemon.stderr().slice(-LOG_TAIL)}`
    })
    return `${texts.join('\n')}\n`
  }
}

/** The process of the lab's etcd, for signals. */
export function etcdProcess(lab: Lab): ManagedProcess {
  const server = lab.switch.processes.find((p) => p.running && / etcd --name/.test(p.command))
  if (server === undefined) throw new Error('etcd does not run')
  return server
}

/** First address of a subnet such as `10.5.1.0/24`: its host's on the overlay. */
export function baseOf(subnet: string): string {
  return subnet.replace(/\/\d+$/, '')
}
