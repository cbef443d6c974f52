/**
 * Route tables for the benches, made by a seeded generator.
 *
 * The full tables have the size and the mix of prefix lengths of the public Internet's, rounded; they
 * have its clumping only roughly: a busy tenth of the blocks gets half of the prefixes. Next hops are
 * drawn evenly, which is harder than life, where neighbours often share theirs.
 */
import { createRandom } from './random.js'

export interface Route4 {
  readonly addr: number
  readonly len: number
  readonly hop: number
}
export interface Route6 {
  readonly addr: Uint8Array
  readonly len: number
  readonly hop: number
}

/** Prefixes per thousand by length, IPv4, as seen in global routing tables of the 2020s. */
const MIX4: readonly (readonly [len: number, share: number])[] = [
  [8, 0.02],
  [10, 0.05],
  [11, 0.1],
  [12, 0.3],
  [13, 0.6],
  [14, 1.2],
  [15, 2.1],
  [16, 14],
  [17, 9],
  [18, 14],
  [19, 26],
  [20, 46],
  [21, 55],
  [22, 115],
  [23, 106],
  [24, 610.13],
  [28, 0.2],
  [32, 0.3],
]

/** The same for IPv6. */
const MIX6: readonly (readonly [len: number, share: number])[] = [
  [20, 0.1],
  [28, 0.8],
  [29, 25],
  [30, 3],
  [32, 125],
  [33, 14],
  [34, 10],
  [35, 5],
  [36, 60],
  [38, 10],
  [40, 95],
  [42, 32],
  [44, 120],
  [45, 15],
  [46, 35],
  [47, 25],
  [48, 423.1],
  [64, 2],
]

export const FULL4_SIZE = 900_000
export const FULL6_SIZE = 160_000
export const OVERLAY_HOSTS = 10_000

/** Next hops of the full tables: the peers of a well-connected router. */
const FULL_HOPS = 64
/** /16 blocks of unicast space that the full IPv4 table has routes in. */
const BLOCKS4 = 36_000
/** /32 blocks that the full IPv6 table has routes in. */
const BLOCKS6 = 22_000
/** Where the registries allocate from: first and last upper 16 bits (IANA, IPv6 unicast assignments). */
const REGIONS6: readonly (readonly [first: number, last: number])[] = [
  [0x2001, 0x2001],
  [0x2003, 0x2003],
  [0x2400, 0x240f],
  [0x2600, 0x260f],
  [0x2800, 0x2806],
  [0x2a00, 0x2a14],
  [0x2c0f, 0x2c0f],
]

function createLengths(
  mix: readonly (readonly [number, number])[],
  random: () => number,
): () => number {
  const total = mix.reduce((sum, [, share]) => sum + share, 0)
  return () => {
    let rest = (random() / 2 ** 32) * total
    for (const [len, share] of mix) {
      if (rest < share) return len
      rest -= share
    }
    return mix.at(-1)?.[0] ?? 0
  }
}

/** Picks blocks so that the first tenth of the list is as busy as all the others. */
function pickBlock(blocks: Int32Array, random: () => number): number {
  const reach = random() & 1 ? blocks.length : blocks.length / 10
  return blocks[Math.floor((random() / 2 ** 32) * reach)] ?? 0
}

/** About 900 000 different IPv4 prefixes with the full table's mix of lengths. */
export function createFull4(): Route4[] {
  const random = createRandom(0x04040404)
  const nextLength = createLengths(MIX4, random)
  const blocks = Int32Array.from(
    { length: BLOCKS4 },
    () => ((1 + (random() % 223)) << 24) | ((random() & 0xff) << 16),
  )
  const seen = new Set<number>()
  const routes: Route4[] = []
  while (routes.length < FULL4_SIZE) {
    const len = nextLength()
    const addr = (pickBlock(blocks, random) | (random() & 0xffff)) & (-1 << (32 - len))
    const key = (addr >>> 0) * 64 + len
    // A busy block has only so many different prefixes.
    if (seen.has(key)) continue
    seen.add(key)
    routes.push({ addr, len, hop: 1 + (random() % FULL_HOPS) })
  }
  return routes
}

/** About 160 000 different IPv6 prefixes of 2000::/3 with the full table's mix of lengths. */
export function createFull6(): Route6[] {
  const random = createRandom(0x06060606)
  const nextLength = createLengths(MIX6, random)
  const regions = REGIONS6.flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i),
  )
  const blocks = Int32Array.from(
    { length: BLOCKS6 },
    () => ((regions[random() % regions.length] ?? 0) << 16) | (random() & 0xffff),
  )
  const seen = new Set<string>()
  const routes: Route6[] = []
  while (routes.length < FULL6_SIZE) {
    const len = nextLength()
    const addr = new Uint8Array(16)
    const view = new DataView(addr.buffer)
    view.setInt32(
      0,
      len < 32 ? pickBlock(blocks, random) & (-1 << (32 - len)) : pickBlock(blocks, random),
    )
    // Operators number their networks from the left: nibbles beyond the fifth byte are mostly small.
    if (len > 32) view.setUint32(4, (random() & (random() & 1 ? 0xff0f0f0f : 0x0f030f03)) >>> 0)
    if (len > 32 && len < 64) view.setInt32(4, view.getInt32(4) & (-1 << (64 - len)))
    const key = `${Buffer.from(addr).toString('hex')}/${String(len)}`
    if (seen.has(key)) continue
    seen.add(key)
    routes.push({ addr, len, hop: 1 + (random() % FULL_HOPS) })
  }
  return routes
}

/** An overlay: one /24 of 10.0.0.0/8 per host, each with its own next hop. */
export function createOverlay4(): Route4[] {
  return Array.from({ length: OVERLAY_HOSTS }, (_, host) => ({
    addr: (10 << 24) | (host << 8),
    len: 24,
    hop: 1 + host,
  }))
}

/** Addresses all over the address space: int32, host order. */
export function createRandomKeys4(count: number): Int32Array {
  const random = createRandom(0x12345678)
  return Int32Array.from({ length: count }, () => random() | 0)
}

/** Addresses within the prefixes of a table, each prefix as likely as any other. */
export function createRoutedKeys4(routes: readonly Route4[], count: number): Int32Array {
  const random = createRandom(0x23456789)
  return Int32Array.from({ length: count }, () => {
    const { addr = 0, len = 0 } = routes[random() % routes.length] ?? {}
    return len === 32 ? addr : addr | (random() & (0xffffffff >>> len))
  })
}

/** The same for IPv6: 16 bytes per address, one after another. */
export function createRoutedKeys6(routes: readonly Route6[], count: number): DataView {
  const random = createRandom(0x3456789a)
  const keys = new Uint8Array(16 * count)
  for (let i = 0; i < count; i++) {
    const { addr = new Uint8Array(16), len = 0 } = routes[random() % routes.length] ?? {}
    for (let byte = 0; byte < 16; byte++) {
      const bits = Math.min(8, Math.max(0, len - 8 * byte))
      keys[16 * i + byte] = (addr[byte] ?? 0) | (random() & (0xff >>> bits))
    }
  }
  return new DataView(keys.buffer)
}
