/**
 * Writes classic pcap files, little endian, with micro- or nanosecond timestamps.
 *
 * Writing is synchronous and per record: a capture that is cut short by a crash ends at a record.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import {
  FILE_HEADER_LEN,
  MAGIC_MICRO,
  MAGIC_NANO,
  MAX_SNAP_LEN,
  RECORD_HEADER_LEN,
  type PcapRecord,
} from './pcap-format.js'

export interface PcapWriterOptions {
  /** Link type of every packet, 0 .. 65535, see pcap-format.ts. */
  readonly linkType: number
  /** Keep nanoseconds; default false, as not every tool reads such files. */
  readonly isNanosecond?: boolean
}

/** The file header, 24 bytes. @throws RangeError when the link type is not 0 .. 65535 */
export function encodePcapHeader(options: PcapWriterOptions): Uint8Array {
  const { linkType, isNanosecond = false } = options
  if (!Number.isInteger(linkType) || linkType < 0 || linkType > 0xffff) {
    throw new RangeError(`link type ${linkType} is not 0..65535`)
  }
  const view = new DataView(new ArrayBuffer(FILE_HEADER_LEN))
  view.setUint32(0, isNanosecond ? MAGIC_NANO : MAGIC_MICRO, true)
  view.setUint16(4, 2, true)
  view.setUint16(6, 4, true)
  view.setUint32(16, MAX_SNAP_LEN, true)
  view.setUint32(20, linkType, true)
  return new Uint8Array(view.buffer)
}

/**
 * One record: header and packet. Bytes beyond the snap length are left out.
 * @throws RangeError when the timestamp does not fit the format (seconds 0 .. 2³²−1, nanoseconds
 *         0 .. 999 999 999)
 */
export function encodePcapRecord(record: PcapRecord, isNanosecond = false): Uint8Array {
  const { seconds, nanoseconds, bytes, originalLength } = record
  if (!isInteger(seconds, 0xffff_ffff) || !isInteger(nanoseconds, 999_999_999)) {
    throw new RangeError(`timestamp ${seconds} s + ${nanoseconds} ns does not fit a pcap file`)
  }
  const len = Math.min(bytes.length, MAX_SNAP_LEN)
  const encoded = new Uint8Array(RECORD_HEADER_LEN + len)
  const view = new DataView(encoded.buffer)
  view.setUint32(0, seconds, true)
  view.setUint32(4, isNanosecond ? nanoseconds : Math.floor(nanoseconds / 1000), true)
  view.setUint32(8, len, true)
  view.setUint32(12, Math.max(originalLength, bytes.length), true)
  encoded.set(bytes.subarray(0, len), RECORD_HEADER_LEN)
  return encoded
}

/** A capture file being written. */
export class PcapWriter {
  private readonly fd: number
  private readonly isNanosecond: boolean

  /**
   * Creates or empties the file and writes its header.
   * @throws the system's error when the file cannot be written
   */
  constructor(path: string, options: PcapWriterOptions) {
    const header = encodePcapHeader(options)
    this.isNanosecond = options.isNanosecond ?? false
    this.fd = openSync(path, 'w', 0o644)
    this.put(header)
  }

  /** Appends a packet. @throws as {@link encodePcapRecord}, or the system's error */
  write(record: PcapRecord): void {
    this.put(encodePcapRecord(record, this.isNanosecond))
  }

  close(): void {
    closeSync(this.fd)
  }

  private put(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) at += writeSync(this.fd, bytes, at)
  }
}

function isInteger(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max
}
