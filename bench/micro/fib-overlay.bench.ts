/**
 * The forwarding table of an overlay of 10 000 hosts, a /24 each: what flannel's route list is for.
 */
import LongestPrefixMatch from 'longest-prefix-match'
import { formatPrefix4 } from '../../dataplane/address.js'
import { LinearFib } from '../../dataplane/fib/linear.js'
import { attachFibReader } from '../../dataplane/fib/lpm.js'
import { createFib } from '../../dataplane/fib/lpm-writer.js'
import { MapPerLength4 } from '../lib/map-per-length.js'
import { createOverlay4, createRoutedKeys4 } from '../lib/routes.js'
import { runSuite } from '../lib/suite.js'

const BATCH = 16_384
const SLOW_BATCH = 8

const routes = createOverlay4()
const keys = createRoutedKeys4(routes, BATCH)
const texts = Array.from(keys, (addr) => formatPrefix4({ addr, len: 32 }))

const { shared, writer } = createFib({ readers: 1 })
const start = performance.now()
for (const { addr, len, hop } of routes) writer.insert4(addr, len, hop)
const buildMs = performance.now() - start
const { touchedBytes } = writer.memory()
console.log(
  `overlay: ${String(writer.size4)} routes one by one in ${buildMs.toFixed(0)} ms, ` +
    `${(touchedBytes / 1e3).toFixed(0)} kB touched`,
)
const reader = attachFibReader(shared, 0)
const maps = new MapPerLength4(routes)
const linear = new LinearFib()
for (const { addr, len, hop } of routes) linear.insert4(addr, len, hop)
const packageTrie = new LongestPrefixMatch<number>()
for (const route of routes) packageTrie.addPrefix(formatPrefix4(route), route.hop)

await runSuite('fib-overlay', [
  {
    name: 'heddle, independent keys',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      reader.enter()
      for (let i = 0; i < keys.length; i++) sum ^= reader.lookup4(keys[i] ?? 0)
      reader.leave()
      return sum
    },
  },
  {
    name: 'heddle, each key depends on the last answer',
    size: BATCH,
    prepare: () => () => {
      let hop = 0
      reader.enter()
      for (let i = 0; i < keys.length; i++) hop = reader.lookup4((keys[i] ?? 0) ^ (hop & 1))
      reader.leave()
      return hop
    },
  },
  {
    name: 'no lookup',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < keys.length; i++) sum ^= (keys[i] ?? 0) >>> 8
      return sum
    },
  },
  {
    name: 'Map per length',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < keys.length; i++) sum ^= maps.lookup(keys[i] ?? 0)
      return sum
    },
  },
  {
    name: 'npm longest-prefix-match (keys are text)',
    size: BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < texts.length; i++) {
        sum ^= packageTrie.getMatch(texts[i] ?? '', false)[0] ?? 0
      }
      return sum
    },
  },
  {
    name: 'linear table',
    size: SLOW_BATCH,
    prepare: () => () => {
      let sum = 0
      for (let i = 0; i < SLOW_BATCH; i++) sum ^= linear.lookup4(keys[i * 1000] ?? 0)
      return sum
    },
  },
  {
    name: 'heddle, replacing the hop of a route',
    size: 256,
    prepare: () => () => {
      for (let host = 0; host < 256; host++) writer.insert4((10 << 24) | (host << 8), 24, 1 + host)
      return writer.size4
    },
  },
])
