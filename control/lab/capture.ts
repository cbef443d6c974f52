/**
 * A running tcpdump and the packets it wrote.
 *
 * Reads exactly what tcpdump writes on this machine: classic pcap in host byte order with microseconds
 * (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html).
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeddleError } from '../errors.js'
import type { ManagedProcess } from './process.js'

const MAGIC_MICROSECONDS = 0xa1b2c3d4
const FILE_HEADER = 24
const RECORD_HEADER = 16

/** Link types of the captures a lab makes (https://www.tcpdump.org/linktypes.html). */
export const LINKTYPE_ETHERNET = 1
export const LINKTYPE_RAW = 101

export interface CapturedPacket {
  /** Microseconds since 1970. */
  readonly timeUs: number
  readonly linkType: number
  /** Bytes as captured, link header included. */
  readonly bytes: Uint8Array
}

export interface CaptureSummary {
  readonly file: string
  readonly packets: readonly CapturedPacket[]
  /** Packets the kernel could not hand to tcpdump. */
  readonly droppedByKernel: number
}

export class Capture {
  readonly file: string
  readonly #child: ManagedProcess

  constructor(child: ManagedProcess, file: string) {
    this.#child = child
    this.file = file
  }

  /** What has been written so far; a record that is still incomplete is left out. */
  packets(): CapturedPacket[] {
    return readPackets(this.file)
  }

  /**
   * Waits until at least `count` packets are there.
   * @returns all packets so far, perhaps fewer than asked for when the time is up
   */
  async waitForPackets(count: number, timeoutMs = 2000): Promise<CapturedPacket[]> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const packets = this.packets()
      if (packets.length >= count || Date.now() > deadline || !this.#child.running) return packets
      await sleep(20)
    }
  }

  /** Ends the capture. Call it after the last packet has been seen: what the kernel still holds is lost. */
  async stop(): Promise<CaptureSummary> {
    this.#child.kill('SIGINT')
    await this.#child.stop()
    const dropped = /(\d+) packets? dropped by kernel/.exec(this.#child.stderr())?.[1] ?? '0'
    return { file: this.file, packets: this.packets(), droppedByKernel: Number(dropped) }
  }
}

/**
 * Packets of a capture file.
 * @throws HeddleError HEDDLE_CAPTURE when it is not a file of tcpdump's on this machine
 */
export function readPackets(file: string): CapturedPacket[] {
  const data = readFileSync(file)
  if (data.length < FILE_HEADER) return []
  if (data.readUInt32LE(0) !== MAGIC_MICROSECONDS) {
    throw new HeddleError('HEDDLE_CAPTURE', `${file} does not begin like a capture of tcpdump`)
  }
  const linkType = data.readUInt32LE(20) & 0xffff
  const packets: CapturedPacket[] = []
  for (let at = FILE_HEADER; at + RECORD_HEADER <= data.length;) {
    const start = at + RECORD_HEADER
    const end = start + data.readUInt32LE(at + 8)
    if (end > data.length) break
    packets.push({
      timeUs: data.readUInt32LE(at) * 1e6 + data.readUInt32LE(at + 4),
      linkType,
      bytes: data.subarray(start, end),
    })
    at = end
  }
  return packets
}
