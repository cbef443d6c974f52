/**
 * `heddle replay`: runs each packet of a capture through the real engine and tells its fate.
 *
 * Packets of the capture become packets routed to the TUN device (egress) or datagrams that arrive
 * at the socket (ingress), one at a time, at the capture's own times. A damaged capture is replayed
 * up to the damage, which is then reported.
 */
import { once } from 'node:events'
import { statSync } from 'node:fs'
import {
  address,
  datagramOf,
  describeEndpoint,
  destinationOf,
  endpoint4,
  endpoint6,
  type Endpoint,
  type Fate,
  ipipFrom,
  ipipOf,
  isKnownLinkType,
  isRawIp,
  isSameEndpoint,
  LINKTYPE_RAW,
  openPcap,
  packetOf,
  PcapError,
  type PcapReader,
  type PcapRecord,
  PcapWriter,
  Replay,
  wrapDatagram,
} from '../../dataplane/index.js'
import { HeddleError, isHeddleError } from '../errors.js'
import type { CommandIo } from './heddle.js'
import { parseReplay, REPLAY_USAGE, type ReplaySettings } from './replay-options.js'
import {
  formatJson,
  formatText,
  formatTime,
  type Outcome,
  type ReplayedPacket,
  Summary,
} from './replay-report.js'
import { contains } from './replay-values.js'

/**
 * Runs the command.
 * @returns the exit code: 0, 1 = a file is damaged or cannot be used, 2 = wrong arguments
 */
export async function replay(argv: readonly string[], io: CommandIo): Promise<number> {
  try {
    const settings = parseReplay(argv)
    if (settings === null) {
      io.stdout.write(REPLAY_USAGE)
      return 0
    }
    return await run(settings, io)
  } catch (error) {
    if (!isHeddleError(error)) throw error
    const isUsage = error.code === 'HEDDLE_USAGE'
    const hint = isUsage ? '\nheddle replay --help tells the options\n' : '\n'
    io.stderr.write(`heddle replay: ${error.message}${hint}`)
    return isUsage ? 2 : 1
  }
}

async function run(settings: ReplaySettings, io: CommandIo): Promise<number> {
  const reader = await open(settings.input)
  const { linkType, isNanosecond } = reader.header
  if (!isKnownLinkType(linkType)) {
    const message = `${settings.input}: link type ${linkType} is not known; Ethernet, Linux cooked and raw IP are`
    throw new HeddleError('HEDDLE_CAPTURE', message)
  }
  const writer = createWriter(settings, isNanosecond)
  try {
    return await replayAll(settings, reader, writer, io)
  } finally {
    writer?.close()
  }
}

/** Opens the input. @throws HeddleError HEDDLE_CAPTURE */
async function open(path: string): Promise<PcapReader> {
  try {
    return await openPcap(path)
  } catch (cause) {
    throw captureError(path, cause)
  }
}

function createWriter(settings: ReplaySettings, isNanosecond: boolean): PcapWriter | null {
  const { input, output } = settings
  if (output === null) return null
  const written = statSync(output, { throwIfNoEntry: false })
  const read = statSync(input)
  if (written?.ino === read.ino && written.dev === read.dev) {
    throw new HeddleError(
      'HEDDLE_USAGE',
      `-w ${output} is the capture that is read; write to another`,
    )
  }
  try {
    return new PcapWriter(output, { linkType: LINKTYPE_RAW, isNanosecond })
  } catch (cause) {
    throw captureError(output, cause)
  }
}

async function replayAll(
  settings: ReplaySettings,
  reader: PcapReader,
  writer: PcapWriter | null,
  io: CommandIo,
): Promise<number> {
  const { linkType, isNanosecond } = reader.header
  const player = new Player(settings, linkType)
  const summary = new Summary()
  const print = async (text: string): Promise<void> => {
    if (!io.stdout.write(text)) await once(io.stdout, 'drain')
  }
  let damage: PcapError | null = null
  let number = 0
  try {
    for await (const record of reader) {
      number++
      const outcome = player.play(record)
      const packet: ReplayedPacket = {
        number,
        time: formatTime(record.seconds, record.nanoseconds, isNanosecond),
        captured: record.bytes.length,
        length: record.originalLength,
        outcome,
        encap: settings.encap.kind,
      }
      summary.add(packet)
      await print(settings.isJson ? formatJson(packet) : formatText(packet))
      if (writer !== null && 'fate' in outcome) writeOutputs(writer, settings, record, outcome.fate)
    }
  } catch (error) {
    if (!(error instanceof PcapError)) throw error
    damage = error
  }
  const { code, position, message } = damage ?? {}
  const isWhole = code === undefined || position === undefined || message === undefined
  const fault = isWhole ? null : { code, position, message }
  await print(settings.isJson ? summary.json(fault) : summary.text(fault?.message ?? null))
  if (fault !== null) io.stderr.write(`heddle replay: ${settings.input}: ${fault.message}\n`)
  return fault === null ? 0 : 1
}

/** Decides for each packet of the capture what it is to the engine, and lets it through. */
class Player {
  private readonly settings: ReplaySettings
  private readonly linkType: number
  private readonly direction: 'egress' | 'ingress'
  private readonly engine: Replay
  private nowMs = 0

  constructor(settings: ReplaySettings, linkType: number) {
    this.settings = settings
    this.linkType = linkType
    const automatic = isRawIp(linkType) ? 'egress' : 'ingress'
    this.direction = settings.direction === 'auto' ? automatic : settings.direction
    this.engine = new Replay({
      subnet: settings.subnets.ipv4,
      subnet6: settings.subnets.ipv6,
      mtu: settings.mtu,
      ingressCheck: settings.ingressCheck,
      encap: settings.encap,
      port: settings.port,
      routes: settings.routes.map(({ subnet, host, mac }) => ({
        ...subnet,
        peer: host.address,
        port: host.port,
        ...(mac === undefined ? {} : { mac }),
      })),
    })
  }

  play(record: PcapRecord): Outcome {
    // Merged captures may go back in time; the engine's clock never does.
    this.nowMs = Math.max(this.nowMs, record.seconds * 1000 + record.nanoseconds / 1e6)
    const packet = packetOf(this.linkType, record.bytes)
    if ('reason' in packet) return { skipped: packet.reason }
    if (this.direction === 'egress') {
      if (this.isDelivery(packet.found)) {
        return { skipped: 'for the own subnet: delivered to the TUN device, not read from it' }
      }
      const fate = this.engine.egress(packet.found, this.nowMs)
      return { fate, input: packet.found, from: null }
    }
    const { encap, ports } = this.settings
    const isIpip = encap.kind === 'ipip'
    const datagram = isIpip ? ipipOf(packet.found) : datagramOf(packet.found, ...ports)
    if ('reason' in datagram) return { skipped: datagram.reason }
    const { payload, from, to } = datagram.found
    const { publicIP } = this.settings
    if (publicIP !== null && !isSameEndpoint(endpointOf(publicIP, to.port), to)) {
      return {
        skipped: `${isIpip ? 'a packet' : 'a datagram'} to ${describeEndpoint(to)}, which is not this host`,
      }
    }
    return { fate: this.engine.ingress(payload, from, this.nowMs), input: payload, from }
  }

  /** A capture of a TUN device holds both directions; which one a packet went shows in its destination. */
  private isDelivery(packet: Uint8Array): boolean {
    if (this.settings.direction !== 'auto') return false
    const addr = destinationOf(packet)
    return addr !== null && contains(this.settings.subnets, addr)
  }
}

/** @param bits  a number for IPv4, a bigint for IPv6 */
function endpointOf(bits: number | bigint, port: number): Endpoint {
  if (typeof bits === 'number') return endpoint4(bits, port)
  return endpoint6(address.addressBytes6(bits), port)
}

/** Writes what came out: packets as they are, datagrams behind the outer headers a host would add. */
function writeOutputs(
  writer: PcapWriter,
  settings: ReplaySettings,
  { seconds, nanoseconds }: PcapRecord,
  fate: Fate,
): void {
  const own = (to: Endpoint): Endpoint =>
    endpointOf(settings.publicIP ?? (to.family === 4 ? 0 : 0n), settings.port)
  const wrap = settings.encap.kind === 'ipip' ? ipipFrom : wrapDatagram
  const packets = [
    ...fate.delivered,
    ...fate.sent.map(({ bytes, to }) => wrap(bytes, own(to), to)),
    ...fate.icmp.map(({ bytes }) => bytes),
  ]
  try {
    for (const bytes of packets) {
      writer.write({ seconds, nanoseconds, bytes, originalLength: bytes.length })
    }
  } catch (cause) {
    throw captureError(settings.output ?? '', cause)
  }
}

function captureError(path: string, cause: unknown): HeddleError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new HeddleError('HEDDLE_CAPTURE', `${path}: ${why}`, { cause })
}
