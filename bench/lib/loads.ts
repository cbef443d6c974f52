/**
 * Traffic for the engine: who sends what to whom. Every packet has right lengths and checksums.
 */
import * as flow from '../../dataplane/flow-fixture.js'
import type { Load, Row } from './belt.js'

/** MTU of the TUN device: an underlay of 1500 less IPv4 and UDP. */
export const MTU = 1472
/** Payload of a TCP segment with timestamps at that MTU: 20 and 32 bytes of headers. */
export const MSS = 1420
/** Payload of a UDP packet of so many bytes. */
const UDP_PAYLOAD = { small: 64 - 28, full: MTU - 28 } as const

const NOP_NOP_TIMESTAMPS = [1, 1, 8, 10, 0, 0, 7, 1, 0, 0, 9, 2]
const PER_READ = 64

/** Where the packets of a load come from and go to. */
export type Addresses = (i: number) => {
  readonly from: readonly number[]
  readonly to: readonly number[]
}

/** Bytes of an address, from its bits. */
export const bytesOf = (bits: number): number[] => [
  bits >>> 24,
  (bits >>> 16) & 255,
  (bits >>> 8) & 255,
  bits & 255,
]

/** Single UDP packets of 64 bytes, taking turns between as many flows. */
export function createSmallUdp(addresses: Addresses, flows: number, rows = PER_READ): Load {
  return createUdp(addresses, flows, rows, UDP_PAYLOAD.small)
}

/** The same of 1472 bytes, which is the MTU. */
export function createFullUdp(addresses: Addresses, flows: number): Load {
  return createUdp(addresses, flows, PER_READ, UDP_PAYLOAD.full)
}

function createUdp(addresses: Addresses, flows: number, rows: number, len: number): Load {
  const payload = flow.createPayload(len)
  return createSingles(rows, (i) =>
    flow.createPacket({
      ...addresses(i),
      protocol: flow.UDP,
      ports: [40_000 + (i % flows), 9],
      id: i,
      payload,
    }),
  )
}

/** Empty acknowledgments of as many TCP connections, taking turns. */
export function createAcks(addresses: Addresses, flows: number): Load {
  return createSingles(PER_READ, (i) =>
    flow.createPacket({
      ...addresses(i),
      ports: [40_000 + (i % flows), 5001],
      ack: i,
      tcpOptions: NOP_NOP_TIMESTAMPS,
    }),
  )
}

/** Full segments of as many TCP connections, one a row, taking turns. */
export function createSegments(addresses: Addresses, flows: number): Load {
  return createSingles(PER_READ, (i) => createSegment(addresses, i % flows, Math.floor(i / flows)))
}

function createSegment(addresses: Addresses, connection: number, n: number): Uint8Array {
  return flow.createPacket({
    ...addresses(connection),
    ports: [40_000 + connection, 5001],
    seq: n * MSS,
    id: n,
    tcpOptions: NOP_NOP_TIMESTAMPS,
    payload: flow.createPayload(MSS),
  })
}

function createSingles(rows: number, packet: (i: number) => Uint8Array): Load {
  return {
    perRead: PER_READ,
    rows: Array.from({ length: rows }, (_, i) => ({ bytes: packet(i), segment: 0, packets: 1 })),
  }
}

/** TCP super-packets as the kernel hands them over: nearly 64 KiB, the checksum unfinished. */
export function createSuperPackets(addresses: Addresses, rows: number): Load {
  const count = Math.floor((65535 - 52) / MSS)
  const payload = flow.createPayload(count * MSS)
  const createRow = (_: unknown, i: number): Row => {
    const packet = flow.createPacket({
      ...addresses(i),
      ports: [40_000 + i, 5001],
      tcpOptions: NOP_NOP_TIMESTAMPS,
      payload,
    })
    return {
      bytes: flow.createUnfinished(packet),
      vnet: flow.createVnet(packet, MSS),
      segment: 0,
      packets: count,
    }
  }
  return { perRead: rows, rows: Array.from({ length: rows }, createRow) }
}

/** Trains as UDP GRO hands them over: full TCP segments of one connection a row. */
export function createTcpTrains(addresses: Addresses, rows: number): Load {
  const count = Math.floor(65535 / MTU)
  return createTrains(rows, count, (i, n) => createSegment(addresses, i, n))
}

/** Trains of 64-byte UDP packets, as many as the kernel merges. */
export function createSmallTrains(addresses: Addresses, rows: number, flows: number): Load {
  const payload = flow.createPayload(UDP_PAYLOAD.small)
  return createTrains(rows, 64, (i, n) =>
    flow.createPacket({
      ...addresses(i),
      protocol: flow.UDP,
      ports: [40_000 + i * flows + (n % flows), 9],
      payload,
    }),
  )
}

function createTrains(
  rows: number,
  packets: number,
  datagram: (i: number, n: number) => Uint8Array,
): Load {
  const createRow = (_: unknown, i: number): Row => {
    const datagrams = Array.from({ length: packets }, (_, n) => datagram(i, n))
    const bytes = new Uint8Array(Buffer.concat(datagrams))
    return { bytes, segment: datagrams[0]?.length ?? 0, packets }
  }
  return { perRead: rows, rows: Array.from({ length: rows }, createRow) }
}
