/**
 * A TCP header in words, as tcpdump prints it: for traces, replay and tests, never for the path.
 *
 * It stands apart from tcp.ts because the options alone need as much text as the header needs code.
 * It never throws on a header that `tcp.check` lets pass, whatever its options hold.
 */
import * as tcp from './tcp.js'

const FLAG_LETTERS = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'] as const

/** Flags in tcpdump's letters: `S`, `S.`, `F.`, `P.`, `.`, `R`; `none` without any. */
export function describeFlags(flags: number): string {
  const letters = FLAG_LETTERS.filter((letter, bit) => letter !== '.' && (flags & (1 << bit)) !== 0)
  const text = letters.join('') + ((flags & tcp.ACK) !== 0 ? '.' : '')
  return text === '' ? 'none' : text
}

/**
 * The header as tcpdump prints it after the addresses and ports.
 * @param len  bytes of header and payload
 */
export function describe(v: DataView, at: number, len: number): string {
  const flags = tcp.flags(v, at)
  const payload = len - tcp.headerLen(v, at)
  const seq = tcp.seq(v, at) >>> 0
  const parts = [`Flags [${describeFlags(flags)}]`]
  const hasSeq = payload > 0 || (flags & (tcp.SYN | tcp.FIN | tcp.RST)) !== 0
  if (hasSeq) parts.push(payload > 0 ? `seq ${seq}:${(seq + payload) >>> 0}` : `seq ${seq}`)
  if ((flags & tcp.ACK) !== 0) parts.push(`ack ${tcp.ack(v, at) >>> 0}`)
  parts.push(`win ${tcp.window(v, at)}`)
  if ((flags & tcp.URG) !== 0) parts.push(`urg ${tcp.urgent(v, at)}`)
  const options = describeOptions(v, at)
  if (options !== '') parts.push(`options [${options}]`)
  parts.push(`length ${payload}`)
  return parts.join(', ')
}

/** The options in order, `bad` where one has an impossible length; empty without options. */
export function describeOptions(v: DataView, at: number): string {
  const texts: string[] = []
  const end = tcp.headerLen(v, at)
  let offset = tcp.HEADER_LEN
  while (offset < end) {
    const kind = v.getUint8(at + offset)
    if (kind === tcp.OPTION_END) {
      texts.push('eol')
      break
    }
    if (kind === tcp.OPTION_NOP) {
      texts.push('nop')
      offset++
      continue
    }
    const len = offset + 1 < end ? v.getUint8(at + offset + 1) : 0
    if (len < 2 || offset + len > end) {
      texts.push('bad')
      break
    }
    texts.push(describeOption(v, at + offset, kind, len))
    offset += len
  }
  return texts.join(',')
}

function describeOption(v: DataView, at: number, kind: number, len: number): string {
  if (kind === tcp.OPTION_MSS && len === 4) return `mss ${v.getUint16(at + 2)}`
  if (kind === tcp.OPTION_WINDOW_SCALE && len === 3) return `wscale ${v.getUint8(at + 2)}`
  if (kind === tcp.OPTION_SACK_PERMITTED && len === 2) return 'sackOK'
  if (kind === tcp.OPTION_TIMESTAMPS && len === 10) {
    return `TS val ${v.getUint32(at + 2)} ecr ${v.getUint32(at + 6)}`
  }
  if (kind === tcp.OPTION_SACK && len % 8 === 2 && len > 2) {
    const edges: string[] = []
    for (let i = 2; i < len; i += 8) {
      edges.push(`{${v.getUint32(at + i)}:${v.getUint32(at + i + 4)}}`)
    }
    return `sack ${edges.length} ${edges.join('')}`
  }
  return `unknown-${kind}`
}

/** A fault of `tcp.check` in words. */
export function describeFault(fault: number): string {
  return fault === tcp.TRUNCATED
    ? 'TCP: fewer bytes than the header'
    : 'TCP: data offset below 5 words'
}
