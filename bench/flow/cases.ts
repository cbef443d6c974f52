/**
 * What the engine is measured with. Plain: one packet, one message. With offloads: everything that a
 * new kernel can do.
 */
import { NO_OFFLOAD, type OffloadOptions } from '../../dataplane/offload/offload.js'
import { createFull4, createOverlay4, createRoutedKeys4, type Route4 } from '../lib/routes.js'
import type { Load } from '../lib/belt.js'
import { PEER_SUBNET, SUBNET } from './host.js'
import * as loads from '../lib/loads.js'

export interface FlowCase {
  readonly name: string
  readonly table: Table
  readonly offload: OffloadOptions
  /** What comes from the TUN device, for addresses of the table; and from the socket. */
  readonly toPeer?: (addresses: loads.Addresses) => Load
  readonly toUs?: () => Load
}

export type Table = 'one' | 'overlay' | 'full'

const ALL: OffloadOptions = {
  hasVnet: true,
  maxRun: 64,
  canJoinTcp: true,
  canJoinUdp: true,
  hasTrains: true,
  hasRing: false,
}
/** Different packets of a load, where what they are decides how much of the table is in the caches. */
const MANY = 8192

/** The routes of a table beside our own subnet. */
export function createRoutes(table: Table): Route4[] {
  if (table === 'full') return createFull4()
  if (table === 'overlay') return createOverlay4().filter(({ addr }) => addr !== SUBNET)
  return [{ addr: PEER_SUBNET, len: 24, hop: 1 }]
}

/** From us to hosts all over the table. */
export function createOutbound(routes: readonly Route4[]): loads.Addresses {
  const keys = createRoutedKeys4(routes, MANY)
  return (i) => ({
    from: loads.bytesOf(SUBNET + 7),
    to: loads.bytesOf(keys[i % MANY] ?? 0),
  })
}

/** From one peer to us. */
const inbound: loads.Addresses = (i) => ({
  from: loads.bytesOf(PEER_SUBNET + 9),
  to: loads.bytesOf(SUBNET + 1 + (i % 250)),
})
const inboundToOne: loads.Addresses = () => inbound(6)

const smallOut = (to: loads.Addresses): Load => loads.createSmallUdp(to, 64)
const smallOutAll = (to: loads.Addresses): Load => loads.createSmallUdp(to, 64, MANY)
const smallIn = (): Load => loads.createSmallUdp(inbound, 64)
const fullOut = (to: loads.Addresses): Load => loads.createFullUdp(to, 64)
const fullIn = (): Load => loads.createFullUdp(inbound, 64)
const bulkOut = (to: loads.Addresses): Load => loads.createSuperPackets(to, 16)
const bulkIn = (): Load => loads.createTcpTrains(inbound, 16)

/** The same packets, one a breath, as on a network with little to do. */
const singly = (load: Load): Load => ({ ...load, perRead: 1 })

const plain = { table: 'one', offload: NO_OFFLOAD } as const
const offloads = { table: 'one', offload: ALL } as const

export const CASES: readonly FlowCase[] = [
  { ...plain, name: '64 B out', toPeer: smallOut },
  { ...plain, name: '64 B in', toUs: smallIn },
  { ...plain, name: '64 B both ways', toPeer: smallOut, toUs: smallIn },
  { ...plain, name: '64 B out, 10 000 routes', table: 'overlay', toPeer: smallOutAll },
  { ...plain, name: '64 B out, 900 000 routes', table: 'full', toPeer: smallOutAll },
  { ...plain, name: '64 B out, 1 a breath', toPeer: (to) => singly(smallOut(to)) },
  { ...plain, name: '64 B in, 1 a breath', toUs: () => singly(smallIn()) },
  { ...plain, name: '1472 B both ways', toPeer: fullOut, toUs: fullIn },
  { ...offloads, name: 'offloads, 64 B out', toPeer: smallOut },
  { ...offloads, name: 'offloads, 64 B out, 10 000 routes', table: 'overlay', toPeer: smallOutAll },
  { ...offloads, name: 'offloads, 64 B out, 900 000 routes', table: 'full', toPeer: smallOutAll },
  { ...offloads, name: 'offloads, 64 B in, 64 flows', toUs: smallIn },
  {
    ...offloads,
    name: 'offloads, 64 B in, 1 flow',
    toUs: () => loads.createSmallUdp(inboundToOne, 1),
  },
  {
    ...offloads,
    name: 'offloads, 64 B in, trains of 16 flows',
    toUs: () => loads.createSmallTrains(inbound, 16, 16),
  },
  {
    ...offloads,
    name: 'offloads, 64 B in, trains of 1 flow',
    toUs: () => loads.createSmallTrains(inbound, 16, 1),
  },
  { ...offloads, name: 'offloads, 64 B both ways', toPeer: smallOut, toUs: smallIn },
  { ...offloads, name: 'offloads, 64 B in, 1 a breath', toUs: () => singly(smallIn()) },
  { ...offloads, name: 'offloads, 1472 B both ways', toPeer: fullOut, toUs: fullIn },
  { ...offloads, name: 'offloads, TCP super-packets out', toPeer: bulkOut },
  { ...offloads, name: 'offloads, TCP trains in', toUs: bulkIn },
  { ...offloads, name: 'offloads, TCP both ways', toPeer: bulkOut, toUs: bulkIn },
  {
    ...offloads,
    name: 'offloads, TCP segments in, 1 flow',
    toUs: () => loads.createSegments(inboundToOne, 1),
  },
  {
    ...offloads,
    name: 'offloads, TCP segments in, 8 flows',
    toUs: () => loads.createSegments(inbound, 8),
  },
  { ...offloads, name: 'offloads, TCP ACKs in', toUs: () => loads.createAcks(inbound, 64) },
]
