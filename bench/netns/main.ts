/**
 * `npm run bench`: Heddle beside its baselines, each alone on the machine, in interleaved rounds.
 *
 *     node dist/bench/netns/main.js [--quick] [--rounds=N] [--only=NAME,…] [--json=FILE]
 *
 * Every round runs every contender once, in an order that rotates, so that a slow minute of the
 * machine hits all of them. Reported are medians with their spread, and ratios inside this run.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createBed, setPodMtu, setUnderlayOffloads } from './bed.js'
import type { Bed, Contender } from './contender.js'
import * as measure from './measure.js'
import { bareLink, heddle, kernelVxlan, socat } from './overlays.js'

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
  },
})
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3))
const seconds = flags.quick ? 1 : 3
const wanted = flags.only.split(',').filter((name) => name !== '')
const contenders = [heddle('heddle', []), socat, kernelVxlan, bareLink].filter(
  ({ name }) => wanted.length === 0 || wanted.includes(name),
)

/** Samples by contender and by what was measured. */
const samples = new Map<string, Map<string, number[]>>()

function record(contender: string, what: string, value: number): void {
  const of = samples.get(contender) ?? new Map<string, number[]>()
  samples.set(contender, of)
  of.set(what, [...(of.get(what) ?? []), value])
  process.stderr.write(`  ${contender}: ${what} ${value.toPrecision(4)}\n`)
}

async function runOne(bed: Bed, contender: Contender, suffix: string): Promise<void> {
  const [a, b] = bed.hosts
  const running = await contender.start(bed)
  try {
    await setPodMtu(bed, running.mtu)
    const [, far] = running.addresses
    const note = (what: string, value: number): void => {
      record(contender.name, `${what}${suffix}`, value)
    }
    const one = await measure.tcp(a.place, b.place, far, seconds, 1)
    note('TCP 1 flow, Gbit/s', one.gbitPerSecond)
    note('TCP 1 flow, CPU s/GB', one.cpuSecondsPerGb)
    if (suffix !== '') return
    note(
      'TCP 1 flow back, Gbit/s',
      (await measure.tcp(a.place, b.place, far, seconds, 1, true)).gbitPerSecond,
    )
    note(
      'TCP 4 flows, Gbit/s',
      (await measure.tcp(a.place, b.place, far, seconds, 4)).gbitPerSecond,
    )
    note(
      'TCP pod to pod, Gbit/s',
      (await measure.tcp(a.pod, b.pod, b.podAddress, seconds, 1)).gbitPerSecond,
    )
    const small = await measure.packets(a.place, b.place, far, 64, seconds, false)
    note('64-byte packets received/s', small.receivedPerSecond)
    note(
      '64-byte packets received/s, GSO sender',
      (await measure.packets(a.place, b.place, far, 64, seconds, true)).receivedPerSecond,
    )
    const rtt = await measure.roundTrips(a.place, far, flags.quick ? 200 : 1000)
    note('RTT p50, us', rtt.p50)
    note('RTT p99, us', rtt.p99)
    note('RTT p99.9, us', rtt.p999)
    const memory = measure.resident(running.daemons)
    if (memory.length > 0) note('resident memory, MB', Math.max(...memory) / 1e6)
  } finally {
    await running.stop()
  }
}

const { bed, lab } = await createBed(1500)
try {
  for (let round = 0; round < rounds; round++) {
    process.stderr.write(`round ${String(round + 1)} of ${String(rounds)}\n`)
    const order = contenders.map((_, i) => contenders[(i + round) % contenders.length])
    for (const contender of order) {
      if (contender === undefined || contender.missing() !== null) continue
      await runOne(bed, contender, '')
    }
    await setUnderlayOffloads(bed, false)
    for (const contender of order) {
      if (contender === undefined || contender.missing() !== null) continue
      await runOne(bed, contender, ', underlay offloads off')
    }
    await setUnderlayOffloads(bed, true)
  }
} finally {
  await lab.close()
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
const table = Object.fromEntries(
  [...samples].map(([name, of]) => [
    name,
    Object.fromEntries([...of].map(([what, values]) => [what, { median: median(values), values }])),
  ]),
)
if (flags.json !== undefined) writeFileSync(flags.json, JSON.stringify(table, null, 2))
const whats = [...new Set([...samples.values()].flatMap((of) => [...of.keys()]))]
for (const what of whats) {
  process.stdout.write(`${what}\n`)
  for (const [name, of] of samples) {
    const values = of.get(what)
    if (values === undefined) continue
    const base = median(samples.get('heddle')?.get(what) ?? [])
    process.stdout.write(
      `  ${name.padEnd(14)} ${median(values).toPrecision(4).padStart(10)}   heddle is ${(base / median(values)).toFixed(2)} x\n`,
    )
  }
}
