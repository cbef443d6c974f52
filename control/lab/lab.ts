/**
 * A test bed on one machine: hosts in network namespaces, joined by a switch.
 *
 *   h1 eth0 172.30.0.11/24 ──┐
 *                            br0 172.30.0.254/24 (switch namespace; etcd can run here)
 *   h2 eth0 172.30.0.12/24 ──┘
 *
 * Nothing of it touches the machine's own network. Mount points are shared with the machine, so
 * whatever a daemon writes must go to its host's folder (`--subnet-file`).
 */
import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Etcd } from './etcd.js'
import { KubeCluster } from './kube/cluster.js'
import { Host } from './host.js'
import { Netns } from './netns.js'
import {
  type LabRecord,
  keep,
  register,
  removeLab,
  removeStaleLabs,
  startTime,
} from './registry.js'

const SWITCH_ADDRESS = '172.30.0.254'
const SWITCH_ADDRESS6 = 'fd30::fe'
const DEFAULT_MTU = 1500

export interface LabOptions {
  /** 1..200, default 2. */
  readonly hosts?: number
  /** Whether the underlay has IPv6 beside IPv4, `fd30::11` on the first host; default false. */
  readonly ipv6?: boolean
  /** MTU of the underlay in bytes, default 1500. */
  readonly mtu?: number
  /** Folder for logs and state; default a temporary one, deleted with the lab. */
  readonly stateDir?: string
}

let labs = 0

export class Lab {
  readonly prefix: string
  readonly dir: string
  readonly hosts: readonly Host[]
  readonly switch: Netns
  readonly etcd: Etcd
  readonly #record: LabRecord
  #closed = false

  constructor(record: LabRecord, dir: string, count: number) {
    this.#record = record
    this.prefix = record.prefix
    this.dir = dir
    this.switch = new Netns(`${this.prefix}-sw`, join(dir, 'switch'))
    this.etcd = new Etcd(this.switch, SWITCH_ADDRESS)
    this.hosts = Array.from({ length: count }, (_, i) => {
      const name = `h${i + 1}`
      const number = 11 + i
      const addresses = [`172.30.0.${number}`, `fd30::${number}`] as const
      return new Host(name, `${this.prefix}-${name}`, join(dir, name), ...addresses)
    })
  }

  /** One host, counted from 1 as the names are. */
  host(number: number): Host {
    const host = this.hosts[number - 1]
    if (host === undefined) throw new RangeError(`the lab has no host ${number}`)
    return host
  }

  /** Starts the API of a Kubernetes in the switch namespace and waits until it answers. */
  async startKubernetes(): Promise<KubeCluster> {
    const cluster = new KubeCluster(this.switch, SWITCH_ADDRESS, 6443)
    await cluster.create()
    return cluster
  }

  /** Starts etcd in the switch namespace and waits until it answers. */
  async startEtcd(): Promise<Etcd> {
    await this.etcd.start()
    return this.etcd
  }

  /** Gives a host its interface, IPv4 address and default route: at the start, or after it lost them. */
  async connect(host: Host, mtu = DEFAULT_MTU): Promise<void> {
    await this.switch.ip(
      `link add ${host.name} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${host.netns}`,
      `link set ${host.name} master br0 up`,
    )
    await host.ip(
      `address add ${host.address}/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${SWITCH_ADDRESS}`,
    )
  }

  /** Creates namespaces and links; called once, by {@link createLab}. */
  async build(mtu: number): Promise<void> {
    await this.switch.create()
    await this.switch.ip(
      `link add br0 mtu ${mtu} type bridge forward_delay 0`,
      `address add ${SWITCH_ADDRESS}/24 dev br0`,
      'link set br0 up',
    )
    for (const host of this.hosts) {
      await host.create()
      await host.sysctl({ 'net.ipv4.ip_forward': 1 })
      await this.connect(host, mtu)
    }
  }

  /** Gives the underlay IPv6; called once, by {@link createLab}. */
  async addIpv6(): Promise<void> {
    await this.switch.ip(`address add ${SWITCH_ADDRESS6}/64 dev br0 nodad`)
    for (const host of this.hosts) {
      await host.sysctl({ 'net.ipv6.conf.all.forwarding': 1 })
      await host.ip(
        `address add ${host.address6}/64 dev eth0 nodad`,
        `route add default via ${SWITCH_ADDRESS6}`,
      )
    }
  }

  /** Ends every program (SIGTERM, then SIGKILL) and removes everything. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const place of this.#places()) {
      await Promise.all(place.processes.map((child) => child.stop()))
    }
    removeLab(this.#record)
  }

  /** Leaves everything running when this process ends; `removeLab` ends it later. */
  keep(): void {
    this.#closed = true
    for (const child of this.#places().flatMap((place) => place.processes)) child.release()
    keep(this.prefix)
  }

  #places(): Netns[] {
    // Pods first: whoever talks through a daemon ends before it does.
    return [...this.hosts.flatMap((host) => host.pods), ...this.hosts, this.switch]
  }
}

/**
 * Builds a lab; needs root. Removes labs whose process is dead before it begins.
 * @throws HeddleError HEDDLE_APPLY with iproute2's message; nothing is left behind then
 */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  removeStaleLabs()
  const count = options.hosts ?? 2
  if (!Number.isInteger(count) || count < 1 || count > 200) {
    throw new RangeError(`a lab has 1 to 200 hosts, not ${count}`)
  }
  const prefix = `hdl${process.pid}-${++labs}`
  const dir = options.stateDir ?? mkdtempSync(join(tmpdir(), `heddle-${prefix}-`))
  mkdirSync(dir, { recursive: true })
  const record: LabRecord = {
    prefix,
    pid: process.pid,
    startTime: startTime(process.pid) ?? '',
    ownDir: options.stateDir === undefined ? dir : null,
    kept: false,
  }
  register(record)
  try {
    const lab = new Lab(record, dir, count)
    await lab.build(options.mtu ?? DEFAULT_MTU)
    if (options.ipv6 === true) await lab.addIpv6()
    return lab
  } catch (fault) {
    removeLab(record)
    throw fault
  }
}
