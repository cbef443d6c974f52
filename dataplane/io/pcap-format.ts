/**
 * Classic pcap files: the numbers of the format, and the error that a bad file ends in.
 *
 *     file header, 24 bytes             record header, 16 bytes, before each packet
 *     0  magic  (tells byte order       0  timestamp, seconds
 *               and time unit)          4  timestamp, micro- or nanoseconds
 *     4  version 2, 6 version 4         8  captured length = bytes that follow
 *     8  zone, 12 accuracy: unused      12 original length
 *     16 snap length
 *     20 link type
 *
 * Source: draft-ietf-opsawg-pcap, sections 4 and 5; link types from www.tcpdump.org/linktypes.html.
 */

export const FILE_HEADER_LEN = 24
export const RECORD_HEADER_LEN = 16

/** Magic number of a file with microsecond timestamps. */
export const MAGIC_MICRO = 0xa1b2_c3d4
/** Magic number of a file with nanosecond timestamps. */
export const MAGIC_NANO = 0xa1b2_3c4d

/** Snap length that files are written with, and the longest packet that is read: libpcap's own limit, 256 KiB. */
export const MAX_SNAP_LEN = 262_144

export const LINKTYPE_ETHERNET = 1
export const LINKTYPE_RAW = 101
export const LINKTYPE_LINUX_SLL = 113
export const LINKTYPE_IPV4 = 228
export const LINKTYPE_IPV6 = 229
export const LINKTYPE_LINUX_SLL2 = 276

/** One packet of a capture. */
export interface PcapRecord {
  /** Unix time. */
  readonly seconds: number
  /** 0 .. 999 999 999; full precision also for files with microseconds, whose last three digits are 0. */
  readonly nanoseconds: number
  /** Captured bytes, from the link layer on. Owned by whoever holds the record. */
  readonly bytes: Uint8Array
  /** Length of the packet on the wire; more than `bytes.length` when the capture cut it off. */
  readonly originalLength: number
}

/** What is wrong with a file. */
export type PcapErrorCode =
  | 'PCAP_EMPTY'
  | 'PCAP_NOT_PCAP'
  | 'PCAP_NG'
  | 'PCAP_COMPRESSED'
  | 'PCAP_VERSION'
  | 'PCAP_TRUNCATED'
  | 'PCAP_RECORD_TOO_LONG'

/** A capture file that cannot be read, or not to its end. Match on `code`. */
export class PcapError extends Error {
  readonly code: PcapErrorCode
  /** Byte offset in the file of the header or record that is wrong. */
  readonly position: number

  constructor(code: PcapErrorCode, position: number, message: string) {
    super(`byte ${position}: ${message}`)
    this.name = 'PcapError'
    this.code = code
    this.position = position
  }
}
