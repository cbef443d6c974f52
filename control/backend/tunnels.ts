/**
 * The tunnels of a running daemon: opened together, told of the own subnet, started, reported and
 * closed together; each one opened again when somebody deletes its device.
 */
import {
  Dataplane,
  describeCounters,
  type CountersReport,
  type DataplaneOptions,
  type OpenDevices,
} from '../../dataplane/index.js'
import type { HandedTunnel } from '../handover.js'
import type { ChosenInterface } from '../host/interface.js'
import { desiredForTun, together, type HostState } from '../host/state.js'
import type { LeaseSubnet } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import { formatAddr4, formatAddr6 } from '../prefix.js'
import type { TunnelStatus } from '../status.js'
import type { Backend, Tunnel } from './backend.js'
import { deviceFault, engineFault, isDeviceGone } from './device-faults.js'
import { OpenTunnel } from './open-tunnel.js'

/** What all tunnels have in common. */
export type TunnelOptions = Pick<
  DataplaneOptions,
  | 'busyPollUs'
  | 'queues'
  | 'keepDevice'
  | 'offload'
  | 'ingressCheck'
  | 'exceptions'
  | 'onGivenUp'
  | 'onRefused'
>

/** Who is told of engines that end by themselves. */
export interface EngineWatcher {
  /** A device was deleted: `reopen()` makes it anew. */
  onLost(device: string): void
  /** By a fault. */
  onFailure(error: Error): void
}

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

  /** Starts the engines that are ready to, of devices that are there and up. */
  start(watcher: EngineWatcher): void {
    for (const open of this.list) {
      if (open.state === 'ready') this.startOne(open, watcher)
    }
  }

  private startOne(open: OpenTunnel, watcher: EngineWatcher): void {
    const { tunnel, dataplane } = open
    const { v4, v6 } = this.subnet
    const podMtu = Math.min(...this.list.map((other) => other.tunnel.mtu))
    if (tunnel.ipv4) dataplane.addLocal(v4)
    if (tunnel.ipv6 && v6 !== null) dataplane.addLocal(v6)
    const local = {
      ipv4: tunnel.ipv4 ? formatAddr4(v4.addr) : null,
      ipv6: tunnel.ipv6 && v6 !== null ? formatAddr6(v6.addr) : null,
    }
    const onExit = (error: Error): void => {
      if (isDeviceGone(error)) {
        open.state = 'lost'
        watcher.onLost(dataplane.device)
      } else watcher.onFailure(engineFault(error))
    }
    dataplane.start(local, tunnel.mtu, onExit, podMtu)
    open.state = 'running'
  }

  /**
   * Makes the devices anew that somebody has deleted. They are neither up nor have they routes, and
   * their engines do not run.
   * @returns their names
   * @throws  HeddleError that names what is in the way
   */
  async reopen(): Promise<string[]> {
    const lost = this.list.filter(({ state }) => state === 'lost')
    for (const open of lost) await open.reopen()
    return lost.map(({ dataplane }) => dataplane.device)
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

  /** How often each engine has turned, busy or idle: an engine that lives turns once a second. */
  turns(): number[] {
    return this.list
      .filter(({ state }) => state === 'running')
      .flatMap(({ dataplane }) => dataplane.counters.map((counters) => turnsOf(counters)))
  }

  /** The counters of all, added up, as of the last report. */
  total(): CountersReport {
    return describeCounters(this.list.flatMap(({ dataplane }) => dataplane.counters))
  }
}

function turnsOf(counters: Dataplane['counters'][number]): number {
  const { gauges } = describeCounters([counters])
  return (gauges['breaths'] ?? 0) + (gauges['waits'] ?? 0)
}

/** What there is already of the devices of a backend's tunnels. */
export interface Found {
  /** Names of devices that were kept, by the tunnels' own. */
  readonly kept: ReadonlyMap<string, string>
  /** What the program before this one left open, by {@link tunnelKey}. */
  readonly handed: ReadonlyMap<string, OpenDevices>
}

/** Whatever devices and sockets are opened with, and routed to the device, as text. */
export function tunnelKey(
  tunnel: Tunnel,
  networks: readonly string[],
  external: ChosenInterface,
  { queues, keepDevice, offload }: TunnelOptions,
): string {
  const { device, port, encap, ipv6 } = tunnel
  const address = bindAddressOf(tunnel, external)
  return JSON.stringify({
    ...{ device, networks, port, encap, ipv6, address },
    ...{ queues, keepDevice, offload },
  })
}

function bindAddressOf({ outer }: Tunnel, external: ChosenInterface): string {
  return (outer === 4 ? external.address : external.address6) ?? ''
}

/**
 * Opens the devices and sockets of a backend's tunnels; nothing moves until they are started.
 * @throws HeddleError that names what is in the way; what was opened before is closed again
 */
export async function openTunnels(
  { tunnels }: Backend,
  networks: readonly string[],
  external: ChosenInterface,
  { kept, handed }: Found,
  options: TunnelOptions,
): Promise<OpenTunnel[]> {
  const list: OpenTunnel[] = []
  for (const tunnel of tunnels) {
    const { port, encap, ipv6 } = tunnel
    const bindAddress = bindAddressOf(tunnel, external)
    const key = tunnelKey(tunnel, networks, external, options)
    const open = (before: Dataplane | null): Dataplane => {
      const device = before?.device ?? kept.get(tunnel.device) ?? tunnel.device
      const counters = before === null ? {} : { counters: before.counters }
      const devices = before === null ? handed.get(key) : undefined
      const own = { device, port, encap, bindAddress, ipv6, ...counters }
      try {
        return new Dataplane({ ...options, ...own, ...(devices === undefined ? {} : { devices }) })
      } catch (error) {
        throw deviceFault(error, bindAddress, port, device)
      }
    }
    try {
      list.push(new OpenTunnel(tunnel, key, open))
    } catch (error) {
      await closeTunnels(list)
      throw error
    }
  }
  return list
}

/** Stops the engines and leaves devices and sockets open, for the program that this one becomes. */
export async function leaveTunnels(list: readonly OpenTunnel[]): Promise<HandedTunnel[]> {
  const left = list.map(async ({ key, dataplane }) => ({ key, devices: await dataplane.leave() }))
  return (await Promise.all(left)).flatMap(({ key, devices }) =>
    devices === null ? [] : [{ key, devices }],
  )
}

/** Stops the engines and closes the devices, which disappear. */
export async function closeTunnels(list: readonly OpenTunnel[]): Promise<void> {
  await Promise.all(list.map(({ dataplane }) => dataplane.close()))
}
