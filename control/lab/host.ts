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
import { type SubnetEnv, addressAfter, waitForSubnetEnv } from './subnet-env.js'

/** The daemon's entry point, beside the folder this file is compiled into. */
export const HEDDLED = fileURLToPath(new URL('../main.js', import.meta.url))

export const BRIDGE = 'cni0'

export class Pod extends Netns {
  readonly address: string
  /** Empty in a network of IPv4 alone. */
  readonly address6: string
  /** The bridge's address, which is the pod's default route. */
  readonly gateway: string
  /** Interface of the host that leads to this pod. */
  readonly hostIface: string

  constructor(
    netns: string,
    dir: string,
    address: string,
    address6: string,
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
  /** The same of IPv6, in a lab that has it. */
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
   * Starts heddled on this host, with this host's subnet file.
   * @param store  value of `--store`, or null to pass the store in `args` (`--etcd-endpoints=…`)
   * @param iface  how it is told its interface
   * @param env    variables beside the lab's
   */
  startDaemon(
    store: string | null,
    args: readonly string[] = [],
    iface: readonly string[] = ['--iface=eth0'],
    env: Readonly<Record<string, string>> = {},
  ): Promise<ManagedProcess> {
    const own = [...iface, `--subnet-file=${this.subnetFile}`]
    const chosen = store === null ? [] : [`--store=${store}`]
    return this.spawn(process.execPath, [HEDDLED, ...chosen, ...own, ...args], {
      name: 'heddled',
      env,
    })
  }

  /** What the daemon told the container runtime; waits for it. */
  subnetEnv(timeoutMs?: number, signal?: AbortSignal): Promise<SubnetEnv> {
    return waitForSubnetEnv(this.subnetFile, timeoutMs, signal)
  }

  /** Creates the bridge from subnet.env. */
  async addBridge(env: SubnetEnv): Promise<void> {
    if (env.gateway6) await this.skipDuplicateDetection()
    await this.ip(
      `link add ${BRIDGE} mtu ${env.mtu} type bridge forward_delay 0`,
      ...addressOn(BRIDGE, env.gateway, env.prefixLen),
      ...addressOn(BRIDGE, env.gateway6, env.prefixLen6),
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
    const address6 = addressAfter(env.gateway6 ?? '', number)
    const netns = `${this.netns}-p${number}`
    const pod = new Pod(netns, join(this.dir, iface), address, address6, env.gateway, iface)
    await pod.create()
    if (env.gateway6) await pod.skipDuplicateDetection()
    this.pods.push(pod)
    await this.ip(
      `link add ${iface} mtu ${env.mtu} type veth peer name eth0 mtu ${env.mtu} netns ${netns}`,
      `link set ${iface} master ${BRIDGE} up`,
    )
    await pod.ip(
      ...addressOn('eth0', address, env.prefixLen),
      ...addressOn('eth0', address6, env.prefixLen6),
      'link set eth0 up',
      ...[env.gateway, env.gateway6].filter(Boolean).map((via) => `route add default via ${via}`),
    )
    return pod
  }
}

/** The command that gives a device an address, none for no address. */
function addressOn(device: string, address = '', prefixLen = 0): string[] {
  if (address === '') return []
  return [
    `address add ${address}/${prefixLen} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
  ]
}
