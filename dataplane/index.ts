/**
 * The dataplane's public face: engine, table, encapsulations, devices and captures, importable as
 * `heddle/dataplane`. No logic here.
 */
export { createEngineArena, Engine, type EngineOptions } from './engine.js'
export {
  Dataplane,
  type DataplaneOptions,
  type DataplaneReport,
  type LocalAddresses,
} from './dataplane.js'
export type { PeerEndpoint, RoutePrefix } from './route-table.js'
export {
  Counters,
  COUNTERS_BYTES,
  describeCounters,
  DIRECTIONS,
  EGRESS,
  GAUGES,
  INGRESS,
  type CountersReport,
  type DirectionReport,
  type GaugeName,
} from './counters.js'
export { ALL_OFFLOADS, MAX_RUN, type OffloadState, type OffloadWish } from './io/offloads.js'
export { OFFLOADS, type OffloadName } from './offload/offload.js'
export type { OffloadReport } from './offload-report.js'
export * as verdict from './packet/verdict.js'
export { createArena, type Arena } from './packet/arena.js'
export { Batch } from './packet/batch.js'
export { BATCH_SIZE } from './packet/intake.js'
export { Entries } from './packet/entries.js'
export type { InsideDevice, OutsidePort } from './io/device.js'
export { openTun, TunDevice, type TunDescriptor, type TunOptions } from './io/tun-device.js'
export { type SocketDescriptor } from './io/socket.js'
export { descriptorsOf, isThere, type OpenDevices } from './io/queues.js'
export { openUdp, UdpPort, type UdpOptions } from './io/udp-port.js'
export type { IcmpPort } from './icmp.js'
export {
  INGRESS_CHECKS,
  type IngressCheckMode,
  type Refusal,
  type SourceException,
} from './ingress-check.js'
export type { Encap } from './encap/encap.js'
export type { EncapChoice } from './encap/choice.js'
export { flannelUdp, UDP_OVERHEAD, UDP_PORT } from './encap/flannel-udp.js'
export { IPIP_OVERHEAD } from './encap/ipip.js'
export {
  createVxlan,
  VXLAN_OVERHEAD,
  VXLAN_PORT,
  VXLAN_PORT_IANA,
  VXLAN_VNI,
} from './encap/vxlan.js'
export { createMac, formatMac, isStation, parseMac, type Mac } from './mac.js'
export type { FibReader, FibWriter } from './fib/fib.js'
export { LinearFib } from './fib/linear.js'
export { attachFibReader } from './fib/lpm.js'
export { createFib, type Fib, type FibOptions } from './fib/lpm-writer.js'
export { createHopTable, type HopTable } from './fib/nexthop.js'
export { MAX_QUEUES } from './io/steering.js'
export { LEAST_MTU as LEAST_MTU_6 } from './wire/ipv6.js'
export * as address from './address.js'
export { describeFrame, describePacket, describeVxlan } from './wire/print.js'
export { Replay, type Fate, type ReplayOptions, type ReplayRoute } from './replay.js'
export { createFaultyInside, createFaultyOutside, type Faulty } from './io/fault.js'
export type { FaultCounts, FaultOptions } from './io/fault-lane.js'
export {
  describeEndpoint,
  endpoint4,
  endpoint6,
  isSameEndpoint,
  type Endpoint,
} from './io/endpoint.js'
export {
  createMemoryPair,
  MemoryInside,
  MemoryOutside,
  MemoryRaw,
  type MemoryPair,
  type SentDatagram,
} from './io/memory.js'
export { CaptureInside, CaptureOutside, type Frames } from './io/capture-device.js'
export {
  datagramOf,
  destinationOf,
  ipipFrom,
  ipipOf,
  isKnownLinkType,
  isRawIp,
  packetOf,
  wrapDatagram,
  type CapturedDatagram,
} from './io/capture-frame.js'
export {
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  PcapError,
  type PcapErrorCode,
  type PcapRecord,
} from './io/pcap-format.js'
export { loadPcap, openPcap, readPcap, type PcapHeader, type PcapReader } from './io/pcap.js'
export { PcapWriter, type PcapWriterOptions } from './io/pcap-writer.js'
export {
  becomeProgram,
  closeDescriptor,
  lockFile,
  releaseFreeMemory,
  sendUnixDatagram,
  setInherited,
  unmapProgram,
} from './native/system.js'
