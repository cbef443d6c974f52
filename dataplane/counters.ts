/**
 * Counters: one Float64Array over shared memory. The engine adds, the main thread reads without a
 * call or a message. Each place has one writer: the engine, or for the two gauges of what the kernel
 * lost (overflow.ts) the main thread.
 *
 * For each direction and verdict: packets and inner bytes. Beside them, packets read per direction
 * (so that "read = sum of verdicts" can be checked by anyone) and a few counts of the engine.
 */
import { VERDICT_COUNT, VERDICTS, type Verdict } from './packet/verdict.js'

/** inside → outside: TUN to UDP. */
export const EGRESS = 0
/** outside → inside: UDP to TUN. */
export const INGRESS = 1
export const DIRECTIONS = ['egress', 'ingress'] as const

/** Counts that are no verdict: name and meaning. */
export const GAUGES = [
  ['egress_read', 'packets read from the TUN device'],
  ['ingress_read', 'datagrams read from the socket'],
  ['icmp_sent', 'ICMP errors sent to senders of dropped packets'],
  ['icmp_limited', 'ICMP errors withheld by the rate limit'],
  ['icmp_failed', 'ICMP errors that the kernel refused to send'],
  ['breaths', 'rounds of the engine that moved at least one packet'],
  ['waits', 'times the engine had taken all that was there, and looked or waited for more'],
  ['runs_lost', 'times sends of several packets were given up because the kernel refused one'],
  ['joins_lost', 'times super-packets to the TUN device were given up because it refused one'],
  ['socket_overflow', 'datagrams that the kernel dropped because the socket had no room'],
  ['tun_overflow', 'packets that the kernel dropped because the TUN device had no room'],
  ['runs_sent', 'sends of several packets (UDP_SEGMENT)'],
  ['run_packets', 'packets in them'],
  ['runs_resent', 'sends of several packets that were refused and went again packet by packet'],
  [
    'runs_avoided',
    'times a peer got no sends of several long packets for a minute: its path is too narrow',
  ],
  ['sent_in_fragments', 'packets without DF that are longer than the path and left as fragments'],
  ['trains_received', 'trains of datagrams that the kernel merged (UDP_GRO)'],
  ['train_datagrams', 'datagrams in them'],
  ['tso_cut', 'TCP super-packets from the TUN device that were cut'],
  ['tso_packets', 'packets that they were cut into'],
  ['uso_cut', 'UDP super-packets from the TUN device that were cut'],
  ['uso_packets', 'packets that they were cut into'],
  ['ring_packets', 'packets read from the TUN device many at a time (io_uring)'],
  ['joins_written', 'super-packets written to the TUN device'],
  ['joined_packets', 'packets in them'],
  ['joins_resent', 'super-packets that were refused and written again packet by packet'],
  ['sources_outside', 'packets from a leased host whose source no lease covers'],
  ['answers_failed', 'answers about our MAC address (VXLAN) that the kernel refused to send'],
  ['unfinished_taken', 'packets from outside whose checksum the sender left unfinished (VXLAN)'],
] as const
export type GaugeName = (typeof GAUGES)[number][0]

export const READ = 0
export const ICMP_SENT = 2
export const ICMP_LIMITED = 3
export const ICMP_FAILED = 4
export const BREATHS = 5
export const WAITS = 6
export const RUNS_LOST = 7
export const JOINS_LOST = 8
export const SOCKET_OVERFLOW = 9
export const TUN_OVERFLOW = 10
export const RUNS_SENT = indexOf('runs_sent')
export const RUN_PACKETS = indexOf('run_packets')
export const RUNS_RESENT = indexOf('runs_resent')
export const RUNS_AVOIDED = indexOf('runs_avoided')
export const SENT_IN_FRAGMENTS = indexOf('sent_in_fragments')
export const TRAINS_RECEIVED = indexOf('trains_received')
export const TRAIN_DATAGRAMS = indexOf('train_datagrams')
export const TSO_CUT = indexOf('tso_cut')
export const TSO_PACKETS = indexOf('tso_packets')
export const USO_CUT = indexOf('uso_cut')
export const USO_PACKETS = indexOf('uso_packets')
export const RING_PACKETS = indexOf('ring_packets')
export const JOINS_WRITTEN = indexOf('joins_written')
export const JOINED_PACKETS = indexOf('joined_packets')
export const JOINS_RESENT = indexOf('joins_resent')
export const ANSWERS_FAILED = indexOf('answers_failed')
export const SOURCES_OUTSIDE = indexOf('sources_outside')
export const UNFINISHED_TAKEN = indexOf('unfinished_taken')

function indexOf(name: GaugeName): number {
  return GAUGES.findIndex(([known]) => known === name)
}

const PACKETS = 0
const BYTES = 1
const GAUGES_AT = 2 * VERDICT_COUNT * 2
const TOTAL = GAUGES_AT + GAUGES.length

/** Bytes of shared memory that one engine's counters take. */
export const COUNTERS_BYTES = TOTAL * Float64Array.BYTES_PER_ELEMENT

export class Counters {
  readonly memory: ArrayBufferLike
  private readonly values: Float64Array

  /** @param memory  at least COUNTERS_BYTES, normally shared with the engine's thread */
  constructor(memory: ArrayBufferLike) {
    this.memory = memory
    this.values = new Float64Array(memory, 0, TOTAL)
  }

  /** Adds packets and inner bytes under a verdict. */
  add(direction: number, verdict: Verdict, packets: number, bytes: number): void {
    const at = (direction * VERDICT_COUNT + verdict) * 2
    this.bump(at + PACKETS, packets)
    this.bump(at + BYTES, bytes)
  }

  /** Adds to a gauge, by its number in {@link GAUGES}. */
  gauge(gauge: number, n: number): void {
    this.bump(GAUGES_AT + gauge, n)
  }

  packets(direction: number, verdict: Verdict): number {
    return this.values[(direction * VERDICT_COUNT + verdict) * 2 + PACKETS] ?? 0
  }

  bytes(direction: number, verdict: Verdict): number {
    return this.values[(direction * VERDICT_COUNT + verdict) * 2 + BYTES] ?? 0
  }

  gaugeValue(gauge: number): number {
    return this.values[GAUGES_AT + gauge] ?? 0
  }

  private bump(at: number, n: number): void {
    this.values[at] = (this.values[at] ?? 0) + n
  }
}

/** What one direction did, verdicts by name. */
export interface DirectionReport {
  /** Packets read from the device of this direction. */
  readonly read: number
  readonly verdicts: Readonly<Record<string, { readonly packets: number; readonly bytes: number }>>
}

export interface CountersReport {
  readonly egress: DirectionReport
  readonly ingress: DirectionReport
  readonly gauges: Readonly<Record<string, number>>
}

/** Adds up the counters of all engines into a report with names; a verdict that never occurred has 0. */
export function describeCounters(engines: readonly Counters[]): CountersReport {
  const direction = (d: number): DirectionReport => ({
    read: total(engines, (c) => c.gaugeValue(READ + d)),
    verdicts: Object.fromEntries(
      VERDICTS.map(([name], verdict) => [
        name,
        {
          packets: total(engines, (c) => c.packets(d, verdict)),
          bytes: total(engines, (c) => c.bytes(d, verdict)),
        },
      ]),
    ),
  })
  return {
    egress: direction(EGRESS),
    ingress: direction(INGRESS),
    gauges: Object.fromEntries(
      GAUGES.map(([name], gauge) => [name, total(engines, (c) => c.gaugeValue(gauge))]),
    ),
  }
}

function total(engines: readonly Counters[], value: (c: Counters) => number): number {
  return engines.reduce((sum, c) => sum + value(c), 0)
}
