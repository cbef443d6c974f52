/**
 * The tunnels of a daemon: one, or one for each family. Each is a dataplane with a device, a socket
 * and engines of its own; here they are opened, started, told of routes and read as one.
 */
import {
  Dataplane,
  type DataplaneReport,
  type IngressCheckMode,
  type OffloadWish,
  type PeerEndpoint,
  type RoutePrefix,
  type SourceException,
} from '../dataplane/index.js'
import type { Backend, TunnelPlan } from './backend.js'
import { deviceFault, engineFault } from './device-faults.js'
import type { HeddleError } from './errors.js'
import type { ChosenInterface } from './host/interface.js'
import type { Family } from './host/preferred-address.js'
import { desiredForTun, joinStates, type HostState } from './host/state.js'
import type { LeaseSubnet } from './lease.js'
import type { Logger } from './log.js'
import type { NetworkConfig } from './network-config.js'
import type { Routes } from './peers.js'
import { formatAddr4, formatAddr6 } from './prefix.js'
import { describeRefusal } from './refusal.js'
import { joinOffloads, sumCounters } from './tunnel-sums.js'

export interface TunnelOptions {
  readonly busyPollUs: number
  readonly queues: number
  readonly ingressCheck: IngressCheckMode
  readonly ingressAllow: readonly SourceException[]
  readonly offload: OffloadWish
  readonly log: Logger
}

interface Tunnel {
  readonly plan: TunnelPlan
  readonly dataplane: Dataplane
  /** Outer address of this host. */
  readonly address: string
}

/** What a tunnel is, for the status. */
export interface TunnelReport {
  readonly device: string
  readonly mtu: number
  readonly receiveBuffer: number
  /** Own address on the underlay. */
  readonly address: string
  /** Inner families. */
  readonly carries: readonly Family[]
}

/** All tunnels together: counts are sums. */
export interface TunnelsReport extends Pick<
  DataplaneReport,
  'routes' | 'counters' | 'queues' | 'offloads'
> {
  readonly tunnels: readonly TunnelReport[]
}

export class Tunnels implements Routes {
  private readonly tunnels: readonly Tunnel[]
  private readonly log: Logger

  private constructor(tunnels: readonly Tunnel[], log: Logger) {
    this.tunnels = tunnels
    this.log = log
  }

  /**
   * Opens devices and sockets; nothing moves until `start()`.
   * @throws HeddleError when the kernel refuses one; what was opened before is closed again
   */
  static async open(
    { tunnels: plans, port }: Backend,
    external: ChosenInterface,
    options: TunnelOptions,
  ): Promise<Tunnels> {
    const opened: Tunnel[] = []
    try {
      for (const plan of plans) opened.push(openTunnel(plan, port, external, options))
    } catch (error) {
      await Promise.all(opened.map(({ dataplane }) => dataplane.close()))
      throw error
    }
    return new Tunnels(opened, options.log)
  }

  /** What pods may send through any of them, bytes. */
  get mtu(): number {
    return Math.min(...this.tunnels.map(({ plan }) => plan.mtu))
  }

  /** What the kernel should hold for them. */
  desired({ ipv4, ipv6 }: NetworkConfig, { v4, v6 }: LeaseSubnet): HostState {
    const states = this.tunnels.map(({ plan: { carries, mtu }, dataplane: { device } }) => {
      const four = carries.includes('ipv4') && ipv4 && v4 && { network: ipv4.network, subnet: v4 }
      const six = carries.includes('ipv6') && ipv6 && v6 && { network: ipv6.network, subnet: v6 }
      return desiredForTun(device, mtu, four || null, six || null)
    })
    return joinStates(states)
  }

  /**
   * Starts the engines. The devices must be up.
   * @param onFailure  called for each engine that dies without having been stopped
   */
  start(subnet: LeaseSubnet, onFailure: (error: HeddleError) => void): void {
    for (const { plan, dataplane } of this.tunnels) {
      const v4 = plan.carries.includes('ipv4') ? subnet.v4 : null
      const v6 = plan.carries.includes('ipv6') ? subnet.v6 : null
      for (const prefix of [v4, v6]) if (prefix !== null) dataplane.addLocal(prefix)
      const local = { ipv4: v4 && formatAddr4(v4.addr), ipv6: v6 && formatAddr6(v6.addr) }
      dataplane.start(local, plan.mtu, (error) => {
        onFailure(engineFault(error, dataplane.device))
      })
      this.logOffloads(dataplane)
    }
  }

  /** One line about all offloads, and one for each that is not there although it is wanted. */
  private logOffloads(dataplane: Dataplane): void {
    const { device, offloads } = dataplane.report()
    const states = offloads.map(({ name, state }) => `${name} ${state}`).join(', ')
    this.log.info(`offloads of ${device}: ${states}`)
    for (const { name, state, detail } of offloads) {
      if (state === 'unavailable') this.log.warn(`offload ${name} is not available: ${detail}`)
      if (state === 'untested') this.log.warn(`offload ${name} could not be tested: ${detail}`)
    }
  }

  setRoute(prefix: RoutePrefix, peer: PeerEndpoint | 'no-ipv6'): void {
    this.carrying(prefix)?.setRoute(prefix, peer)
  }

  removeRoute(prefix: RoutePrefix): boolean {
    return this.carrying(prefix)?.removeRoute(prefix) ?? false
  }

  private carrying({ addr }: RoutePrefix): Dataplane | undefined {
    const family = typeof addr === 'number' ? 'ipv4' : 'ipv6'
    return this.tunnels.find(({ plan }) => plan.carries.includes(family))?.dataplane
  }

  report(): TunnelsReport {
    const reports = this.tunnels.map(({ dataplane }) => dataplane.report())
    return {
      tunnels: this.tunnels.map(({ plan: { mtu, carries }, address }, i) => ({
        device: reports[i]?.device ?? '',
        mtu,
        receiveBuffer: reports[i]?.receiveBuffer ?? 0,
        address,
        carries,
      })),
      routes: reports.reduce((sum, { routes }) => sum + routes, 0),
      counters: sumCounters(reports.map(({ counters }) => counters)),
      queues: reports.flatMap(({ queues }) => queues),
      offloads: joinOffloads(reports.map(({ offloads }) => offloads)),
    }
  }

  /** Stops the engines and closes the devices, which disappear. */
  async close(): Promise<void> {
    await Promise.all(this.tunnels.map(({ dataplane }) => dataplane.close()))
  }
}

function openTunnel(
  plan: TunnelPlan,
  port: number,
  external: ChosenInterface,
  options: TunnelOptions,
): Tunnel {
  const { device, encap, carries } = plan
  const { log } = options
  const address = external[plan.outer]?.local ?? ''
  const isV6 = plan.outer === 'ipv6'
  try {
    const dataplane = new Dataplane({
      device,
      encap,
      bindAddress: address,
      port,
      ipv6: carries.includes('ipv6'),
      busyPollUs: options.busyPollUs,
      queues: options.queues,
      offload: options.offload,
      ingressCheck: options.ingressCheck,
      exceptions: options.ingressAllow.filter(({ from }) => (typeof from === 'bigint') === isV6),
      onRefused: (refusal) => {
        log.warn(describeRefusal(refusal))
      },
      onGivenUp: ({ name, detail }) => {
        log.warn(
          `offload ${name} is given up: the kernel refuses it with ${detail}; packets go one by one until a restart`,
        )
      },
    })
    if (dataplane.whyFewerQueues !== null) {
      log.warn(`one engine only: the kernel takes no steering program: ${dataplane.whyFewerQueues}`)
    }
    return { plan, dataplane, address }
  } catch (error) {
    throw deviceFault(error, address, port, device)
  }
}
