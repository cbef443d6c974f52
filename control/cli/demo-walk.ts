/**
 * One packet's way from pod to pod, captured at seven places.
 *
 *   pod ─ bridge ─ device ─ (heddled) ─ underlay ─ (heddled) ─ device ─ bridge ─ pod
 *    1      2        3                     4                       5       6      7
 *
 * A ping with random bytes in its payload is recognised by them wherever it passes.
 */
import { randomBytes } from 'node:crypto'
import { describePacket, UDP_OVERHEAD, VXLAN_OVERHEAD } from '../../dataplane/index.js'
import { type Capture, type CapturedPacket, LINKTYPE_ETHERNET } from '../lab/capture.js'
import { BRIDGE } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import { type PingResult, ping } from './demo-measure.js'
import type { DemoBackend, Site } from './demo-world.js'

/** Ethernet addresses and type. */
const ETHERNET = 14
/** What each backend puts in front, in IPv4. */
const OUTER = { udp: UDP_OVERHEAD[4], vxlan: VXLAN_OVERHEAD[4] }
const ICMP_ECHO_REQUEST = 8

export interface WalkStep {
  /** Where it was captured, such as `h1 flannel0`. */
  readonly place: string
  /** The packet in words; null when it was not seen here. */
  readonly text: string | null
  /** Bytes captured, link header included. */
  readonly length: number
  /** Microseconds since the first capture. */
  readonly afterUs: number
  /** How the packet differs from the step before, in words. */
  readonly change: string
}

export interface Walk {
  readonly mark: string
  readonly ping: PingResult
  readonly steps: readonly WalkStep[]
}

interface Place {
  readonly name: string
  readonly netns: Netns
  readonly iface: string
  /** Bytes before the pod's packet, link header not counted. */
  readonly before: number
}

function places(from: Site, to: Site, devices: readonly string[], backend: DemoBackend): Place[] {
  const at = (name: string, netns: Netns, iface: string, before = 0): Place => ({
    name: `${name} ${iface}`,
    netns,
    iface,
    before,
  })
  return [
    at(`${from.host.name}/pod1`, from.pods[0], 'eth0'),
    at(from.host.name, from.host, BRIDGE),
    at(from.host.name, from.host, devices[0] ?? ''),
    at(from.host.name, from.host, 'eth0', OUTER[backend]),
    at(to.host.name, to.host, devices[1] ?? ''),
    at(to.host.name, to.host, BRIDGE),
    at(`${to.host.name}/pod1`, to.pods[0], 'eth0'),
  ]
}

/**
 * Sends one marked ping between the first pods of two hosts and finds it at every place.
 * @param devices  names of the two hosts' TUN devices
 */
export async function walk(
  from: Site,
  to: Site,
  devices: readonly string[],
  backend: DemoBackend,
): Promise<Walk> {
  const [pod, target] = [from.pods[0], to.pods[0]]
  const all = places(from, to, devices, backend)
  const captures = await Promise.all(all.map(({ netns, iface }) => netns.capture(iface, 'ip')))
  const mark = randomBytes(8).toString('hex')
  const result = await ping(pod, pod.address, target.address, 1, mark)
  const found = await Promise.all(captures.map((capture, i) => find(capture, all[i], mark)))
  await Promise.all(captures.map((capture) => capture.stop()))
  return { mark, ping: result, steps: all.map((place, i) => stepAt(place, i, all, found)) }
}

/** The request with the mark; waits for it a moment, since tcpdump writes when it gets to run. */
async function find(
  capture: Capture,
  place: Place | undefined,
  mark: string,
): Promise<CapturedPacket | null> {
  for (let seen = 0, tries = 0; tries < 20; tries++) {
    const packets = await capture.waitForPackets(seen + 1, 100)
    const hit = packets.find((packet) => isMarkedRequest(packet, place?.before ?? 0, mark))
    if (hit !== undefined) return hit
    seen = packets.length
  }
  return null
}

function isMarkedRequest(packet: CapturedPacket, before: number, mark: string): boolean {
  const inner = network(packet).subarray(before)
  const header = ((inner[0] ?? 0) & 15) * 4
  return inner[header] === ICMP_ECHO_REQUEST && Buffer.from(inner).toString('hex').includes(mark)
}

/** The captured bytes from the IP header on. */
function network(packet: CapturedPacket): Uint8Array {
  return packet.linkType === LINKTYPE_ETHERNET ? packet.bytes.subarray(ETHERNET) : packet.bytes
}

function stepAt(
  place: Place,
  i: number,
  all: readonly Place[],
  found: readonly (CapturedPacket | null)[],
): WalkStep {
  const packet = found[i] ?? null
  if (packet === null) {
    return { place: place.name, text: null, length: 0, afterUs: 0, change: '' }
  }
  const bytes = network(packet)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const before = found[i - 1] ?? null
  const change =
    before === null ? [] : describeChange(before, all[i - 1]?.before ?? 0, packet, place.before)
  return {
    place: place.name,
    text: describePacket(view, 0, bytes.length),
    length: packet.bytes.length,
    afterUs: packet.timeUs - (found[0]?.timeUs ?? packet.timeUs),
    change: change.join(', '),
  }
}

/** What happened to a packet between two captures of it. */
function describeChange(
  one: CapturedPacket,
  skipOne: number,
  two: CapturedPacket,
  skipTwo: number,
): string[] {
  const changes = framing(one, two)
  if (skipTwo > skipOne) changes.push(`${skipTwo - skipOne} bytes put in front`)
  if (skipTwo < skipOne) changes.push(`${skipOne - skipTwo} bytes taken from the front`)
  changes.push(...describeBytes(network(one).subarray(skipOne), network(two).subarray(skipTwo)))
  return changes.length === 0 ? ['every byte the same'] : changes
}

function framing(one: CapturedPacket, two: CapturedPacket): string[] {
  const [had, has] = [one.linkType === LINKTYPE_ETHERNET, two.linkType === LINKTYPE_ETHERNET]
  if (had && !has) return ['no Ethernet header']
  if (!had && has) return ['Ethernet header']
  if (!had) return []
  const same =
    Buffer.compare(one.bytes.subarray(0, ETHERNET), two.bytes.subarray(0, ETHERNET)) === 0
  return same ? [] : ['other Ethernet header']
}

/** Differing bytes of two IPv4 packets, named where they have a name (RFC 791 §3.1). */
export function describeBytes(one: Uint8Array, two: Uint8Array): string[] {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const changes: string[] = []
  if (one.length !== two.length) changes.push(`length ${one.length} → ${two.length}`)
  if (one[8] !== two[8]) changes.push(`TTL ${one[8] ?? 0} → ${two[8] ?? 0}`)
  const sums = [hex(one.subarray(10, 12)), hex(two.subarray(10, 12))]
  if (sums[0] !== sums[1]) changes.push(`header checksum ${sums.join(' → ')}`)
  for (let at = 0; at < Math.min(one.length, two.length); at++) {
    const isNamed = at === 8 || at === 10 || at === 11
    if (isNamed || one[at] === two[at]) continue
    changes.push(`byte ${at} ${hex(one.subarray(at, at + 1))} → ${hex(two.subarray(at, at + 1))}`)
  }
  return changes
}
