/**
 * A full IPv6 table of 160 000 prefixes.
 */
import LongestPrefixMatch from 'longest-prefix-match'
import { formatAddress6, formatPrefix6 } from '../../dataplane/address.js'
import { LinearFib } from '../../dataplane/fib/linear.js'
import { attachFibReader } from '../../dataplane/fib/lpm.js'
import { createFib } from '../../dataplane/fib/lpm-writer.js'
import { MapPerLength6 } from '../lib/map-per-length.js'
import { createFull6, createRoutedKeys6 } from '../lib/routes.js'
import { runSuite } from '../lib/suite.js'

const BATCH = 1 << 18
const SLOW_BATCH = 4096
const SAMPLE = 2000

const routes = createFull6()
const keys = createRoutedKeys6(routes, BATCH)
const keyBytes = new Uint8Array(keys.buffer)
const texts = Array.from(
  { length: SLOW_BATCH },
  (_, i) => `${formatAddress6(keyBytes, 16 * i)}/128`,
)

const { shared, writer } = createFib({ readers: 1 })
const start = performance.now()
writer.update(() => {
  for (const { addr, len, hop } of routes) writer.insert6(addr, len, hop)
})
const buildMs = performance.now() - start
const { nodeBytes, listBytes, touchedBytes } = writer.memory()
console.log(
  `full IPv6 table: ${String(writer.size6)} routes in ${buildMs.toFixed(0)} ms; ` +
    `nodes ${(nodeBytes / 1e6).toFixed(1)} MB, route lists ${(listBytes / 1e6).toFixed(1)} MB, ` +
    `touched ${(touchedBytes / 1e6).toFixed(1)} MB`,
)
const reader = attachFibReader(shared, 0)
const maps = new MapPerLength6(routes)
const linear = new LinearFib()
for (const { addr, len, hop } of routes.slice(0, SAMPLE)) linear.insert6(addr, len, hop)
const packageTrie = new LongestPrefixMatch<number>()
for (const route of routes) packageTrie.addPrefix(formatPrefix6(route), route.hop)

await runSuite('fib-full6', [
  {
    name: 'heddle, routed keys',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      reader.enter()
      for (let at = 0; at < 16 * BATCH; at += 16) sum ^= reader.lookup6(keys, at)
      reader.leave()
      return sum
    },
  },
  {
    name: 'heddle, routed keys, dependent',
    size: BATCH,
    prepare: () => () => {
      let hop = 0
      reader.enter()
      for (let at = 0; at < 16 * BATCH; at += 16) hop = reader.lookup6(keys, at ^ ((hop & 1) << 4))
      reader.leave()
      return hop
    },
  },
  {
    name: 'no lookup',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let at = 0; at < 16 * BATCH; at += 16) sum ^= keys.getInt32(at)
      return sum
    },
  },
  {
    name: 'Map per length (keys are BigInt)',
    size: SLOW_BATCH,
    prepare: () => () => {
      let sum = 0
      for (let at = 0; at < 16 * SLOW_BATCH; at += 16) sum ^= maps.lookup(keys, at)
      return sum
    },
  },
  {
    name: 'npm longest-prefix-match (keys are text)',
    size: SLOW_BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < texts.length; i++) {
        sum ^= packageTrie.getMatch(texts[i] ?? '', false)[0] ?? 0
      }
      return sum
    },
  },
  {
    name: `linear table, ${String(SAMPLE)} routes only`,
    size: 64,
    prepare: () => () => {
      let sum = 0
      for (let at = 0; at < 16 * 64; at += 16) sum ^= linear.lookup6(keys, at)
      return sum
    },
  },
])
