/**
 * Traffic of every kind between two pods, one way. Test support, used by no other code.
 */
import type { Test } from 'tap'
import type { Pod } from '../lab/host.js'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'

export interface Exchange {
  readonly family?: 4 | 6
  /** Of the pods. */
  readonly mtu: number
  /** Of what was sent with 64: the kernels' two hops take one each, and so do some backends. */
  readonly ttl?: number
  /** By TCP. */
  readonly bytes: number
}

/** Pings from nothing to beyond the MTU, their TTL, the MTU itself unfragmented, TCP, numbered UDP. */
export async function exchange(
  t: Test,
  [from, to]: readonly [Pod, Pod],
  { family = 4, mtu, ttl = 62, bytes }: Exchange,
): Promise<void> {
  const address = family === 4 ? to.address : to.address6
  const ping = (size: number, ...args: string[]) =>
    from.run('ping', [`-${family}`, '-c1', '-W2', '-s', String(size), ...args, address])
  const largest = mtu - (family === 4 ? 28 : 48)
  for (const size of [0, 1, 8, 100, largest - 1, largest, largest + 1, 4000, 9001, 60_000]) {
    const { code, stdout } = await ping(size)
    t.equal(code, 0, `${address}: ping of ${size} bytes`)
    t.match(stdout, new RegExp(` ttl=${ttl}\\b`))
  }
  t.equal((await ping(largest, '-M', 'do')).code, 0, 'unfragmented: the MTU passes')
  const over = await ping(largest + 1, '-M', 'do')
  t.match(over.stdout + over.stderr, new RegExp(`message too long, mtu[=:] ?${mtu}`))
  const { intact, received } = await tcpTransfer(from, to, address, { bytes })
  t.ok(intact && received.bytes === bytes, 'TCP: the same hash')
  const numbered = { count: 2000, size: 1200, perSecond: 5000 }
  const { received: datagrams } = await udpTransfer(from, to, address, numbered)
  t.match(datagrams, { received: 2000, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
}
