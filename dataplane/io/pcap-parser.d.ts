/**
 * Types of the `pcap-parser` package (0.2.1), which ships none: the part that io/pcap.ts uses.
 */
declare module 'pcap-parser' {
  import type { EventEmitter } from 'node:events'

  export interface GlobalHeader {
    magicNumber: number
    majorVersion: number
    minorVersion: number
    snapshotLength: number
    linkLayerType: number
  }

  export interface PacketHeader {
    timestampSeconds: number
    timestampMicroseconds: number
    capturedLength: number
    originalLength: number
  }

  /** What the parser needs of a readable stream: its `data`, `error` and `end` events, and these. */
  export interface Source extends EventEmitter {
    pause(): unknown
    resume(): unknown
  }

  export interface Parser {
    on(event: 'globalHeader', listener: (header: GlobalHeader) => void): this
    on(event: 'packetHeader', listener: (header: PacketHeader) => void): this
    on(event: 'packet', listener: (packet: { header: PacketHeader; data: Buffer }) => void): this
    on(event: 'error', listener: (error: Error) => void): this
    on(event: 'end', listener: () => void): this
  }

  export function parse(input: string | Source): Parser
}
