/**
 * Captures as tshark reads them, which shares no code with us.
 */
import type { Netns } from '../lab/netns.js'
import { must } from '../lab/process.js'

export interface DissectOptions {
  /** Display filter of the packets that are read; default all. */
  readonly filter?: string
  /** What a port carries, such as `udp.port==8285,ip`. */
  readonly decodeAs?: string
}

/**
 * Reads fields of each packet of a capture, all checksums checked.
 * @returns for each packet its values by field; several occurrences, the outermost first, joined by
 *          commas. A checksum's status is 1 where it is right, 0 where it is wrong, 2 where nobody looked
 */
export async function dissect<F extends string>(
  file: string,
  fields: readonly F[],
  { filter, decodeAs }: DissectOptions = {},
): Promise<Record<F, string>[]> {
  const text = await must(
    'tshark',
    [
      ...['-n', '-r', file],
      ...(decodeAs === undefined ? [] : ['-d', decodeAs]),
      ...(filter === undefined ? [] : ['-Y', filter]),
      ...['ip', 'udp', 'tcp'].flatMap((name) => ['-o', `${name}.check_checksum:TRUE`]),
      ...['-T', 'fields', '-E', 'separator=;', ...fields.flatMap((field) => ['-e', field])],
    ],
    { timeoutMs: 30_000 },
  )
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.map((line) => {
    const values = line.split(';')
    return Object.fromEntries(fields.map((field, i) => [field, values[i] ?? ''])) as Record<
      F,
      string
    >
  })
}

/** ICMPv6 destination unreachable, alone (RFC 4443 §3.1). */
const UNREACHABLE = 'icmp6 and ip6[40] == 1'

/** What comes back about one echo request to an address that cannot be reached. */
export async function unreachablesOf(from: Netns, address: string) {
  const capture = await from.capture('eth0', UNREACHABLE)
  const { code } = await from.run('ping', ['-6', '-c1', '-W2', address])
  await capture.waitForPackets(1)
  const { file } = await capture.stop()
  const fields = ['ipv6.src', 'ipv6.dst', 'icmpv6.type', 'icmpv6.code', 'icmpv6.checksum.status']
  const errors = await dissect(file, fields)
  return { isAnswered: code === 0, errors }
}

/** One error as {@link unreachablesOf} reads it; the quoted request comes second. */
export function unreachable(from: string, to: string, about: string, code: number) {
  return {
    'ipv6.src': `${from},${to}`,
    'ipv6.dst': `${to},${about}`,
    'icmpv6.type': '1,128',
    'icmpv6.code': `${code},0`,
    'icmpv6.checksum.status': '1,2',
  }
}
