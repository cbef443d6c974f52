/**
 * The tunnels of a running daemon: opened together, told of the own subnet, started, reported and
 * closed together.
 */
import {
  Dataplane,
  describeCounters,
  type CountersReport,
  type DataplaneOptions,
} from '../../dataplane/index.js'
import type { Backend, Tunnel } from './backend.js'
import { deviceFault, engineFault } from './device-faults.js'
import type { ChosenInterface } from '../host/interface.js'
import { desiredForTun, together, type HostState } from '../host/state.js'
import type { LeaseSubnet } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import { formatAddr4, formatAddr6 } from '../prefix.js'
import type { TunnelStatus } from '../status.js'

/** A tunnel with the dataplane that runs it. */
export interface OpenTunnel {
  readonly tunnel: Tunnel
  readonly dataplane: Dataplane
}

/** What all tunnels have in common. */
export type TunnelOptions = Pick<
  DataplaneOptions,
  'busyPollUs' | 'queues' | 'offload' | 'ingressCheck' | 'exceptions' | 'onGivenUp' | 'onRefused'
>

export class Tunnels {
  readonly list: readonly OpenTunnel[]
  private readonly config: NetworkConfig
  private readonly subnet: LeaseSubnet

  constructor(list: readonly OpenTunnel[], config: NetworkConfig, subnet: LeaseSubnet) {
    this.list = list
    this.config = config
    this.subnet = subnet
  }

  /** What the kernel should hold for them. */
  desired(): HostState {
    const { ipv4, ipv6 } = this.config
    const { v4, v6 } = this.subnet
    return together(
      this.list.map(({ tunnel, dataplane }) =>
        desiredForTun(
          dataplane.device,
          tunnel.mtu,
          tunnel.ipv4 && ipv4 !== null ? { network: ipv4.network, subnet: v4 } : null,
          tunnel.ipv6 && ipv6 !== null && v6 !== null
            ? { network: ipv6.network, subnet: v6 }
            : null,
        ),
      ),
    )
  }

  /** Starts the engines; the devices must be up. @param onFailure  told of an engine that dies */
  start(onFailure: (error: Error) => void): void {
    const { v4, v6 } = this.subnet
    const podMtu = Math.min(...this.list.map(({ tunnel }) => tunnel.mtu))
    for (const { tunnel, dataplane } of this.list) {
      if (tunnel.ipv4) dataplane.addLocal(v4)
      if (tunnel.ipv6 && v6 !== null) dataplane.addLocal(v6)
      const local = {
        ipv4: tunnel.ipv4 ? formatAddr4(v4.addr) : null,
        ipv6: tunnel.ipv6 && v6 !== null ? formatAddr6(v6.addr) : null,
      }
      const onExit = (error: Error): void => {
        onFailure(engineFault(error, dataplane.device))
      }
      dataplane.start(local, tunnel.mtu, onExit, podMtu)
    }
  }

  /** Each for itself, the first one first. */
  report(): TunnelStatus[] {
    return this.list.map(({ tunnel, dataplane }) => {
      const { device, receiveBuffer, ...report } = dataplane.report()
      return {
        device: { name: device, mtu: tunnel.mtu, receiveBuffer },
        outer: `ipv${tunnel.outer}`,
        inner: [...(tunnel.ipv4 ? ['ipv4'] : []), ...(tunnel.ipv6 ? ['ipv6'] : [])],
        routes: report.routes,
        counters: report.counters,
        queues: report.queues,
        offloads: report.offloads,
      }
    })
  }

  /** The counters of all, added up, as of the last report. */
  total(): CountersReport {
    return describeCounters(this.list.flatMap(({ dataplane }) => dataplane.counters))
  }
}

/**
 * Opens the devices and sockets of a backend's tunnels; nothing moves until they are started.
 * @throws HeddleError that names what is in the way; what was opened before is closed again
 */
export async function openTunnels(
  { tunnels }: Backend,
  external: ChosenInterface,
  options: TunnelOptions,
): Promise<OpenTunnel[]> {
  const list: OpenTunnel[] = []
  for (const tunnel of tunnels) {
    const { device, port, encap, outer, ipv6 } = tunnel
    const bindAddress = (outer === 4 ? external.address : external.address6) ?? ''
    try {
      const dataplane = new Dataplane({ ...options, device, port, encap, bindAddress, ipv6 })
      list.push({ tunnel, dataplane })
    } catch (error) {
      await closeTunnels(list)
      throw deviceFault(error, bindAddress, port, device)
    }
  }
  return list
}

/** Stops the engines and closes the devices, which disappear. */
export async function closeTunnels(list: readonly OpenTunnel[]): Promise<void> {
  await Promise.all(list.map(({ dataplane }) => dataplane.close()))
}
