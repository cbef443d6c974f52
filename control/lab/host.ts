/**
 * A host of the lab and the pods on it.
 *
 *   pod eth0 ── pod1 ┐
 *                    cni0 ── (forwarding) ── eth0 ── switch
 *   pod eth0 ── pod2 ┘
 *
 * Bridge and pods are configured from subnet.env alone, the way docker0 or cni0 would be.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { HeddleError } from '../errors.js'
import { Netns } from './netns.js'
import type { ManagedProcess } from './process.js'
import { type SubnetEnv, addressAfter, addressAfter6, waitForSubnetEnv } from './subnet-env.js'

/** The daemon's entry point, beside the folder this file is compiled into. */
export const HEDDLED = fileURLToPath(new URL('../main.js', import.meta.url))

export const BRIDGE = 'cni0'

export class Pod extends Netns {
  readonly address: string
  /** Null unless the network is dual-stack. */
  readonly address6: string | null
  /** The bridge's address, which is the pod's default route. */
  readonly gateway: string
  /** Interface of the host that leads to this pod. */
  readonly hostIface: string

  constructor(
    netns: string,
    dir: string,
    address: string,
    address6: string | null,
    gateway: string,
    hostIface: string,
  ) {
    super(netns, dir)
    this.address = address
    this.address6 = address6
    this.gateway = gateway
    this.hostIface = hostIface
  }
}

export class Host extends Netns {
  /** `h1`, `h2` … */
  readonly name: string
  /** Underlay address, on `eth0`. */
  readonly address: string
  /** Its IPv6 address there, in a lab with IPv6. */
  readonly address6: string
  /** Where this host's daemon writes its subnet.env. */
  readonly subnetFile: string
  readonly pods: Pod[] = []
  #env: SubnetEnv | null = null

  constructor(name: string, netns: string, dir: string, address: string, address6: string) {
    super(netns, dir)
    this.name = name
    this.address = address
    this.address6 = address6
    this.subnetFile = join(dir, 'subnet.env')
  }

  /**
   * Starts heddled on this host, with `--iface=eth0` and this host's subnet file.
   * @param store  value of `--store`, or null to pass the store in `args` (`--etcd-endpoints=…`)
   */
  startDaemon(store: string | null, args: readonly string[] = []): Promise<ManagedProcess> {
    const own = ['--iface=eth0', `--subnet-file=${this.subnetFile}`]
    const chosen = store === null ? [] : [`--store=${store}`]
    return this.spawn(process.execPath, [HEDDLED, ...chosen, ...own, ...args], { name: 'heddled' })
  }

  /** What the daemon told the container runtime; waits for it. */
  subnetEnv(timeoutMs?: number, signal?: AbortSignal): Promise<SubnetEnv> {
    return waitForSubnetEnv(this.subnetFile, timeoutMs, signal)
  }

  /** Creates the bridge from subnet.env. */
  async addBridge(env: SubnetEnv): Promise<void> {
    await this.ip(
      `link add ${BRIDGE} mtu ${env.mtu} type bridge forward_delay 0`,
      `address add ${env.gateway}/${env.prefixLen} dev ${BRIDGE}`,
      ...(env.ipv6 === null
        ? []
        : [`address add ${env.ipv6.gateway}/${env.ipv6.prefixLen} dev ${BRIDGE} nodad`]),
      `link set ${BRIDGE} up`,
    )
    this.#env = env
  }

  /** Attaches one more pod to the bridge, at the next free address. */
  async addPod(): Promise<Pod> {
    const env = this.#env
    if (env === null) throw new HeddleError('HEDDLE_APPLY', `${this.name} has no bridge yet`)
    const number = this.pods.length + 1
    const iface = `pod${number}`
    const address = addressAfter(env.gateway, number)
    const address6 = env.ipv6 && addressAfter6(env.ipv6.gateway, number)
    const netns = `${this.netns}-p${number}`
    const pod = new Pod(netns, join(this.dir, iface), address, address6, env.gateway, iface)
    await pod.create()
    this.pods.push(pod)
    await this.ip(
      `link add ${iface} mtu ${env.mtu} type veth peer name eth0 mtu ${env.mtu} netns ${netns}`,
      `link set ${iface} master ${BRIDGE} up`,
    )
    await pod.ip(
      `address add ${address}/${env.prefixLen} dev eth0`,
      'link set eth0 up',
      `route add default via ${env.gateway}`,
      ...(env.ipv6 === null
        ? []
        : [
            `address add ${String(address6)}/${env.ipv6.prefixLen} dev eth0 nodad`,
            `route add default via ${env.ipv6.gateway} dev eth0`,
          ]),
    )
    return pod
  }
}
