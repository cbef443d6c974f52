/**
 * The words and the JSON of `heddle replay`: one line per packet and one per thing that came out,
 * then a summary. Only what the engine and the capture said is in it.
 */
import {
  describeEndpoint,
  describePacket,
  describeVxlan,
  type EncapChoice,
  type Endpoint,
  type Fate,
} from '../../dataplane/index.js'

/** One packet of the capture and what was done with it. */
export interface ReplayedPacket {
  /** Position in the capture, from 1, as other tools count. */
  readonly number: number
  /** ISO 8601, UTC, with the capture's precision. */
  readonly time: string
  /** Captured and original length, bytes. */
  readonly captured: number
  readonly length: number
  readonly outcome: Outcome
  /** What stands around packets outside. */
  readonly encap: Encapsulation
}

export type Outcome =
  | { readonly skipped: string }
  | {
      readonly fate: Fate
      /** What was fed to the engine. */
      readonly input: Uint8Array
      /** Outer source of a datagram. */
      readonly from: Endpoint | null
    }

type Encapsulation = EncapChoice['kind']

/** Time of a packet, as text. @param isNanosecond  nine digits, else six */
export function formatTime(seconds: number, nanoseconds: number, isNanosecond: boolean): string {
  const day = new Date(seconds * 1000).toISOString().slice(0, 19)
  const digits = String(nanoseconds).padStart(9, '0')
  return `${day}.${isNanosecond ? digits : digits.slice(0, 6)}Z`
}

/** A packet's fate as text: a line, and an indented one for each thing that came out. */
export function formatText(packet: ReplayedPacket): string {
  const start = `${String(packet.number).padStart(6)}  ${packet.time}  `
  const { outcome } = packet
  if ('skipped' in outcome) return `${start}skipped: ${outcome.skipped}\n`
  const { fate, input, from } = outcome
  const isCut = packet.captured < packet.length
  const cut = isCut ? `  [captured ${packet.captured} of ${packet.length} bytes]` : ''
  const source = from === null ? '' : `from ${describeEndpoint(from)}: `
  const what = from === null ? describe(input) : describeOuter(input, packet.encap)
  const line = `${start}${fate.direction}  ${fate.verdict}  ${source}${what}${cut}`
  const out = outputs(fate, packet.encap).map((o) => `        -> ${o.to}: ${o.description}`)
  return [line, ...out, ''].join('\n')
}

/** A packet's fate as one JSON object; bytes are hexadecimal. */
export function formatJson(packet: ReplayedPacket): string {
  const { number, time, captured, length, outcome } = packet
  if ('skipped' in outcome)
    return line({ number, time, captured, length, skipped: outcome.skipped })
  const { fate, input, from } = outcome
  return line({
    number,
    time,
    captured,
    length,
    direction: fate.direction,
    verdict: fate.verdict,
    from: from === null ? null : describeEndpoint(from),
    description: from === null ? describe(input) : describeOuter(input, packet.encap),
    out: outputs(fate, packet.encap),
  })
}

/** What all packets together came to. */
export class Summary {
  private packets = 0
  private readonly verdicts = new Map<string, number>()
  private readonly skipped = new Map<string, number>()

  add({ outcome }: ReplayedPacket): void {
    this.packets++
    if ('skipped' in outcome) count(this.skipped, outcome.skipped)
    else count(this.verdicts, `${outcome.fate.direction} ${outcome.fate.verdict}`)
  }

  /** @param damage  what ended the reading early, null = nothing */
  text(damage: string | null): string {
    const lines = [`${this.packets} packets${damage === null ? '' : ' before the damage'}`]
    for (const [name, n] of this.verdicts) lines.push(`  ${name}: ${n}`)
    for (const [reason, n] of this.skipped) lines.push(`  skipped, ${reason}: ${n}`)
    return `\n${lines.join('\n')}\n`
  }

  json(damage: { code: string; position: number; message: string } | null): string {
    const verdicts = Object.fromEntries(this.verdicts)
    const skipped = Object.fromEntries(this.skipped)
    return line({ summary: { packets: this.packets, verdicts, skipped, damage } })
  }
}

interface Output {
  /** `tun`, a peer's address and port, or `icmp` for an error to the sender. */
  readonly to: string
  readonly description: string
  readonly bytes: string
}

function outputs(fate: Fate, encap: Encapsulation): Output[] {
  const output = (to: string, bytes: Uint8Array, description = describe(bytes)): Output => ({
    to,
    description,
    bytes: Buffer.from(bytes).toString('hex'),
  })
  return [
    ...fate.delivered.map((bytes) => output('tun', bytes)),
    ...fate.sent.map(({ bytes, to }) =>
      output(describeEndpoint(to), bytes, describeOuter(bytes, encap)),
    ),
    ...fate.icmp.map(({ bytes }) => output('icmp', bytes)),
  ]
}

function describe(bytes: Uint8Array): string {
  return describePacket(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length)
}

/** What a datagram carries, or a packet of `ipip`. */
function describeOuter(bytes: Uint8Array, encap: Encapsulation): string {
  switch (encap) {
    case 'udp':
      return describe(bytes)
    case 'vxlan':
      return describeVxlan(
        new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
        0,
        bytes.length,
      )
    case 'ipip':
      return describe(bytes.subarray(4 * ((bytes[0] ?? 0) & 15)))
  }
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}
