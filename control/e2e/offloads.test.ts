/**
 * @serial Each offload switched off in turn, on one of two hosts whose other one has them all: what
 * pods send arrives whole, and the status tells what is off and that the rest is used.
 */
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { OFFLOADS, type OffloadName, type OffloadReport } from '../../dataplane/index.js'
import { formatStatus } from '../cli/status.js'
import type { Host, Pod } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import type { UdpReceiveResult } from '../lab/transfer-udp.js'
import type { Status } from '../status.js'
import { assertAccounted, createOverlay, skip, type Overlay } from './overlay.js'

t.setTimeout(120_000)

const MB = 1e6
const BYTES = 10 * MB
const TRAINS = 10
const TRAINS_TOOL = fileURLToPath(new URL('udp-trains.js', import.meta.url))
const TRANSFER_TOOL = fileURLToPath(new URL('../lab/transfer.js', import.meta.url))

/** Counts of an offload that must move while it is used. */
const USED: Readonly<Record<OffloadName, readonly string[]>> = {
  'tun-offload': ['tso_cut', 'tso_packets'],
  'tun-uso': ['uso_cut', 'uso_packets'],
  'tun-gro': ['joins_written', 'joined_packets'],
  'tun-ring': ['ring_packets'],
  'udp-segment': ['runs_sent', 'run_packets'],
  'udp-gro': ['trains_received', 'train_datagrams'],
}

interface Round {
  readonly name: string
  readonly args: readonly string[]
  /** What is off by it. */
  readonly off: readonly OffloadName[]
  /** What the status then says of `udp-segment`. */
  readonly runs?: string
}
const rounds: readonly Round[] = [
  {
    name: 'without --tun-offload, and what needs it',
    args: ['--tun-offload=false'],
    off: ['tun-offload', 'tun-uso', 'tun-gro'],
  },
  ...OFFLOADS.slice(1).map((offload) => ({
    name: `without --${offload}`,
    args: [`--${offload}=false`],
    off: [offload],
  })),
  {
    name: 'with sends of 64 packets at most',
    args: ['--udp-segment-max=64'],
    off: [],
    runs: 'up to 64 packets a send',
  },
  { name: 'without any', args: OFFLOADS.map((offload) => `--${offload}=false`), off: OFFLOADS },
]

t.test('offloads', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  const lacking = (await overlay.status(h1)).offloads.filter(({ state }) => state !== 'on')
  if (lacking.length > 0) {
    t.pass('offloads', { skip: `this kernel lacks some: ${JSON.stringify(lacking)}` })
    return
  }

  await t.test('a new kernel has them all', async (t) => {
    await exchange(t, p1, p2)
    for (const host of [h1, h2]) check(t, host, await overlay.status(host), [])
  })

  for (const { name, args, off, runs } of rounds) {
    await t.test(`${name}, on one host`, async (t) => {
      await restart(overlay, h1, args)
      await exchange(t, p1, p2)
      const status = await overlay.status(h1)
      check(t, h1, status, off)
      if (runs !== undefined) {
        const segment = status.offloads.find((offload) => offload.name === 'udp-segment')
        t.equal(segment?.detail, runs)
      }
      await Promise.all(
        [h1, h2].map(async (host) => {
          assertAccounted(t, host.name, await overlay.settled(host))
        }),
      )
    })
  }

  await t.test('without any, on both hosts', async (t) => {
    await restart(overlay, h2, rounds.at(-1)?.args ?? [])
    await exchange(t, p1, p2)
    for (const host of [h1, h2]) check(t, host, await overlay.status(host), OFFLOADS)
  })
})

/** Starts a host's daemon anew, with other flags. */
async function restart(overlay: Overlay, host: Host, args: readonly string[]): Promise<void> {
  await overlay.daemon(host).stop()
  await overlay.start(host, args)
  await overlay.ready(host, 1)
}

/** TCP both ways at a time, UDP super-packets both ways, and pings. */
async function exchange(t: Test, a: Pod, b: Pod): Promise<void> {
  const tcp = await Promise.all([
    tcpTransfer(a, b, b.address, { bytes: BYTES }),
    tcpTransfer(b, a, a.address, { bytes: BYTES, seed: 2 }),
  ])
  for (const { intact, received } of tcp) {
    t.ok(intact && received.bytes === BYTES, 'TCP: the same hash')
  }
  for (const udp of await Promise.all([sendTrains(a, b), sendTrains(b, a)])) {
    t.match(udp, { received: 40 * TRAINS, lost: 0, duplicates: 0, reordered: 0, damaged: 0 })
  }
  const ping = await a.run('ping', ['-c3', '-i0.02', '-W2', '-s1000', b.address])
  t.match(ping.stdout, / 0% packet loss/)
}

async function sendTrains(from: Pod, to: Pod): Promise<UdpReceiveResult> {
  const receiver = await to.spawn(
    process.execPath,
    [TRANSFER_TOOL, 'udp-receive', to.address, '0', '3000'],
    { name: 'udp-receive' },
  )
  const port = (await receiver.waitFor(/"listening":(\d+)/))[1] ?? ''
  const args = [TRAINS_TOOL, to.address, port, String(TRAINS), '1400']
  const sent = await from.run(process.execPath, args)
  if (sent.code !== 0) throw new Error(`udp-trains: ${sent.stderr}`)
  await receiver.exited
  return JSON.parse(receiver.stdout().trim().split('\n').at(-1) ?? '') as UdpReceiveResult
}

/** State and counts of each offload, in the document and in the text. */
function check(t: Test, host: Host, status: Status, off: readonly OffloadName[]): void {
  const text = formatStatus(status)
  t.same(
    status.offloads.map(({ name }) => name),
    OFFLOADS,
  )
  for (const offload of status.offloads) {
    const isOff = off.includes(offload.name)
    t.equal(offload.state, isOff ? 'off' : 'on', `${host.name}: ${offload.name}`)
    if (isOff) {
      t.same(sum(offload), 0, `${offload.name} is not used`)
      t.match(
        text,
        new RegExp(`^${offload.name} +off +(--${offload.name}=false|needs tun-offload)$`, 'm'),
      )
    } else {
      for (const count of USED[offload.name]) {
        t.ok((offload.counters[count] ?? 0) > 0, `${count} ${offload.counters[count]}`)
      }
      t.match(text, new RegExp(`^${offload.name} +on .*${USED[offload.name][0]} \\d+`, 'm'))
    }
  }
}

function sum(offload: OffloadReport): number {
  return Object.values(offload.counters).reduce((total, n) => total + n, 0)
}
