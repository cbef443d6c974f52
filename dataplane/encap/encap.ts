/**
 * What an encapsulation is: the bytes that we put before the inner IP packet.
 *
 * The outer IP and UDP headers are the kernel's (the socket adds them), so an encapsulation writes
 * only what follows them, into the headroom before the packet; but for `ipip`, whose outer IP header is
 * all there is.
 */
import type { Verdict } from '../packet/verdict.js'

export interface Encap {
  readonly name: string
  /** Bytes written before the inner packet, at most HEADROOM. */
  readonly headerLen: number
  /** Whether each crossing costs the inner packet one TTL, as flannel's `udp` proxy does. */
  readonly lowersTtl: boolean
  /** Whether peers may hand over super-packets and unfinished checksums, as kernels on one machine do. */
  readonly takesUnfinished: boolean
  /**
   * Writes the header for a hop into [at − headerLen, at).
   * @param at  first byte of the inner packet
   */
  push(view: DataView, at: number, hop: number): void
  /**
   * Checks the header at the start of a datagram. It may change the inner packet as the header asks.
   * @param at   first byte of the datagram
   * @param len  its length
   * @returns    FORWARD when the inner packet begins at at + headerLen, else the reason to drop
   */
  pull(view: DataView, at: number, len: number): Verdict
}
