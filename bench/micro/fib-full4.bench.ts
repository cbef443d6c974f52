/**
 * A full IPv4 table of 900 000 prefixes: far more than any overlay has, and where a table that is
 * not compact falls out of the cache.
 */
import LongestPrefixMatch from 'longest-prefix-match'
import { formatPrefix4 } from '../../dataplane/address.js'
import { LinearFib } from '../../dataplane/fib/linear.js'
import { attachFibReader } from '../../dataplane/fib/lpm.js'
import { createFib } from '../../dataplane/fib/lpm-writer.js'
import { MapPerLength4 } from '../lib/map-per-length.js'
import { createFull4, createRandomKeys4, createRoutedKeys4 } from '../lib/routes.js'
import { runSuite } from '../lib/suite.js'

/** Enough keys that they do not keep their part of the table in the cache. */
const BATCH = 1 << 18
const SLOW_BATCH = 4096
/** The linear table holds a small sample of the routes. */
const SAMPLE = 2000

const routes = createFull4()
const randomKeys = createRandomKeys4(BATCH)
const routedKeys = createRoutedKeys4(routes, BATCH)
const texts = Array.from(routedKeys.subarray(0, SLOW_BATCH), (addr) =>
  formatPrefix4({ addr, len: 32 }),
)

const { shared, writer } = createFib({ readers: 1 })
const start = performance.now()
writer.update(() => {
  for (const { addr, len, hop } of routes) writer.insert4(addr, len, hop)
})
const buildMs = performance.now() - start
const { nodeBytes, listBytes, touchedBytes } = writer.memory()
console.log(
  `full IPv4 table: ${String(writer.size4)} routes in ${buildMs.toFixed(0)} ms; ` +
    `nodes ${(nodeBytes / 1e6).toFixed(1)} MB, route lists ${(listBytes / 1e6).toFixed(1)} MB, ` +
    `touched ${(touchedBytes / 1e6).toFixed(1)} MB`,
)
const reader = attachFibReader(shared, 0)
const maps = new MapPerLength4(routes)
const linear = new LinearFib()
for (const { addr, len, hop } of routes.slice(0, SAMPLE)) linear.insert4(addr, len, hop)
const packageTrie = new LongestPrefixMatch<number>()
for (const route of routes) packageTrie.addPrefix(formatPrefix4(route), route.hop)

function independent(keys: Int32Array): () => number {
  return () => {
    let sum = 0
    reader.enter()
    for (let i = 0; i < keys.length; i++) sum ^= reader.lookup4(keys[i] ?? 0)
    reader.leave()
    return sum
  }
}

function dependent(keys: Int32Array): () => number {
  return () => {
    let hop = 0
    reader.enter()
    for (let i = 0; i < keys.length; i++) hop = reader.lookup4((keys[i] ?? 0) ^ (hop & 1))
    reader.leave()
    return hop
  }
}

await runSuite('fib-full4', [
  { name: 'heddle, random keys', size: BATCH, prepare: () => independent(randomKeys) },
  { name: 'heddle, random keys, dependent', size: BATCH, prepare: () => dependent(randomKeys) },
  { name: 'heddle, routed keys', size: BATCH, prepare: () => independent(routedKeys) },
  { name: 'heddle, routed keys, dependent', size: BATCH, prepare: () => dependent(routedKeys) },
  {
    name: 'no lookup',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < randomKeys.length; i++) sum ^= (randomKeys[i] ?? 0) >>> 8
      return sum
    },
  },
  {
    name: 'Map per length, random keys',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < randomKeys.length; i++) sum ^= maps.lookup(randomKeys[i] ?? 0)
      return sum
    },
  },
  {
    name: 'Map per length, routed keys',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < routedKeys.length; i++) sum ^= maps.lookup(routedKeys[i] ?? 0)
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
      for (let i = 0; i < 64; i++) sum ^= linear.lookup4(routedKeys[i] ?? 0)
      return sum
    },
  },
  {
    name: 'heddle, replacing the hop of a route',
    size: 1000,
    prepare: () => () => {
      for (const { addr, len, hop } of routes.slice(0, 1000)) writer.insert4(addr, len, hop)
      return writer.size4
    },
  },
])
