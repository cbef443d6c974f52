/**
 * The daemon's status: one JSON document, read over the control socket.
 */
import type { CountersReport, DataplaneReport, OffloadReport } from '../dataplane/index.js'
import type { FirewallStatus } from './firewall/firewall.js'

/** A peer as the status shows it. */
export interface PeerStatus {
  readonly subnet: string
  /** IPv4 address of its host, `0.0.0.0` = none. */
  readonly publicIP: string
  readonly publicIPv6: string | null
  /** Seconds since this daemon learned of the lease as it is now. */
  readonly ageSeconds: number
  /** ISO 8601 time at which the store forgets the lease; null = never. */
  readonly expiresAt: string | null
}

/** One TUN device with its socket. */
export interface TunnelStatus {
  readonly device: { readonly name: string; readonly mtu: number; readonly receiveBuffer: number }
  /** IP version of the outer packets: `ipv4` or `ipv6`. */
  readonly outer: string
  /** IP versions that it carries. */
  readonly inner: readonly string[]
  /** Peer routes in its forwarding table. */
  readonly routes: number
  readonly counters: CountersReport
  /** What each engine has read from its devices, packets. */
  readonly queues: DataplaneReport['queues']
  readonly offloads: readonly OffloadReport[]
}

export interface Status {
  readonly version: string
  readonly pid: number
  /** What the daemon is doing: `starting`, `ready`, `stopping`. */
  readonly state: string
  readonly startedAt: string
  readonly store: { readonly description: string; readonly isReachable: boolean }
  readonly backend: {
    readonly type: string
    /** UDP port, null = there is none. */
    readonly port: number | null
    /** Who carries the packets: `user`, `kernel` or `none` of us. */
    readonly dataplane: string
  }
  /** Device, queues and offloads of the first tunnel, null or empty without one; those of all are in `tunnels`. */
  readonly device: TunnelStatus['device'] | null
  /** Devices by which the kernel carries packets. */
  readonly kernelDevices: readonly { readonly name: string; readonly mtu: number }[]
  /** Networks of both families, joined by a comma. */
  readonly network: string
  readonly lease: {
    readonly subnet: string
    readonly publicIP: string
    readonly publicIPv6: string | null
    readonly expiresAt: string | null
  }
  readonly peers: readonly PeerStatus[]
  /** Firewall rules of ours. */
  readonly firewall: FirewallStatus
  /** Peer routes in all forwarding tables. */
  readonly routes: number
  readonly skippedKeys: number
  /** Of all tunnels, added up. */
  readonly counters: CountersReport
  readonly queues: TunnelStatus['queues']
  readonly offloads: TunnelStatus['offloads']
  /** Every tunnel for itself. */
  readonly tunnels: readonly TunnelStatus[]
}
