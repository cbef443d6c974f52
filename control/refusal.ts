/**
 * What the log says of a packet that the ingress check refused: who sent what, and how to allow it.
 */
import { verdict, type Refusal } from '../dataplane/index.js'
import { formatAddr4, formatAddr6 } from './prefix.js'

const REASONS: Readonly<Record<string, string>> = {
  drop_source_unknown: 'that host holds no lease',
  drop_source_forged: 'that source is leased to another host',
  drop_source_outside: 'no lease covers that source, and the check is strict',
}

/** One line. Refused packets are many and are counted; this is about one of them. */
export function describeRefusal({ verdict: why, from, source }: Refusal): string {
  const name = verdict.verdictName(why)
  const [outer, inner] = [describeAddress(from), describeAddress(source)]
  const host = `${inner}/${source.length === 1 ? '32' : '128'}`
  return (
    `refused a packet from host ${outer} with source ${inner} (${name}): ${REASONS[name] ?? ''}. ` +
    `If it may send it, start with --ingress-allow=${host}=${outer}; ` +
    'further refusals are counted, not logged, for 10 s'
  )
}

/** @param words  one of an IPv4 address, four of an IPv6 address */
function describeAddress(words: readonly number[]): string {
  if (words.length === 1) return formatAddr4((words[0] ?? 0) >>> 0)
  return formatAddr6(words.reduce((bits, word) => (bits << 32n) | BigInt(word >>> 0), 0n))
}
