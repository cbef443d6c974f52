/**
 * What the main thread hands an engine's thread: descriptors it opened, memory both share, numbers.
 */
import type { EncapChoice } from './encap/choice.js'
import type { FibShared } from './fib/layout.js'
import type { IngressCheckMode, Refusal, SourceException } from './ingress-check.js'
import type { TunDescriptor } from './io/tun-device.js'
import type { SocketDescriptor } from './io/socket.js'
import type { OffloadName, OffloadOptions } from './offload/offload.js'

/** Word of `control` that ends the engine when it is not 0. */
export const STOP = 0

export interface EngineSetup {
  readonly tun: TunDescriptor
  readonly socket: SocketDescriptor
  readonly encap: EncapChoice
  /** What the devices can do at a time. */
  readonly offload: OffloadOptions
  /** Raw IPv4 socket for ICMP errors. */
  readonly rawFd: number
  /** Raw IPv6 socket for ICMPv6 errors, null = the network has no IPv6. */
  readonly rawFd6: number | null
  /** Eventfd that ends a wait. */
  readonly wakeFd: number
  /** Forwarding table and next hops. */
  readonly fib: FibShared
  /** Outer addresses of the hosts that hold leases. */
  readonly hosts: FibShared
  readonly ingressCheck: {
    readonly mode: IngressCheckMode
    readonly exceptions: readonly SourceException[]
  }
  /** Which of the tables' readers this engine is. */
  readonly reader: number
  readonly counters: ArrayBufferLike
  readonly control: SharedArrayBuffer
  readonly mtu: number
  readonly podMtu: number
  readonly hasIpv6: boolean
  /** Base address of the own IPv4 subnet, address bits; null = there is none. */
  readonly localAddress: number | null
  /** Base address of the own IPv6 subnet, 16 bytes; null = there is none. */
  readonly localAddress6: Uint8Array | null
  readonly busyPollUs: number
}

/** What an engine's thread tells the main thread, seldom: everything else is counted. */
export type EngineNews =
  /** The kernel has refused an offload. */
  | { readonly kind: 'given-up'; readonly offload: OffloadName; readonly errno: number }
  /** The ingress check has refused a packet, the first for a while. */
  | { readonly kind: 'refused'; readonly refusal: Refusal }
