/**
 * @parallel Faults at random for a while (F73): daemons and etcd are killed and start again, routes and devices
 * are taken away, hosts lose their network. After that every pod reaches every other, the kernel's routes
 * are those of the start, and a daemon that lived through all of it has grown by no thread, descriptor or
 * memory to speak of.
 *
 *     HEDDLE_SOAK_SECONDS=3600 npm test -- soak     # for an hour; default 30 s
 *     HEDDLE_SOAK_SEED=…                            # the same faults again
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { Host, Pod } from '../lab/host.js'
import type { ManagedProcess } from '../lab/process.js'
import { createOverlay, PREFIX, skip, until } from './overlay.js'

const SECONDS = Number(process.env['HEDDLE_SOAK_SECONDS'] ?? 30)
const HOSTS = 3
const SETTLE_MS = 60_000
/**
 * Each engine that is made anew leaves holes in the C library's heap, 30 to 100 MB after dozens of them and
 * not more after hundreds.
 */
const GROWTH_MB = 130

t.setTimeout((SECONDS + 240) * 1000)

interface Size {
  readonly descriptors: number
  readonly threads: number
  readonly residentMb: number
}

function sizeOf({ pid }: ManagedProcess): Size {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1])
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: field('Threads'),
    residentMb: field('VmRSS') / 1024,
  }
}

/** Kinds of faults; a number says where. */
const FAULTS = ['kill', 'kill', 'restart', 'etcd', 'route', 'device', 'address', 'network'] as const

for (const Backend of [{ Type: 'udp' }, { Type: 'vxlan', Dataplane: 'kernel' }]) {
  const isKernel = 'Dataplane' in Backend
  t.test(`F73 ${Object.values(Backend).join(', ')}`, { skip }, async (t) => {
    const seed = Number(process.env['HEDDLE_SOAK_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    t.comment(`HEDDLE_SOAK_SEED=${seed}`)
    const faults = fc.sample(
      fc.tuple(fc.constantFrom(...FAULTS), fc.integer({ min: 1, max: HOSTS }), fc.nat(1500)),
      { seed, numRuns: 10_000 },
    )
    const overlay = await createOverlay(t, { hosts: HOSTS, store: 'etcd', backend: Backend })
    const hosts = Array.from({ length: HOSTS }, (_, i) => overlay.host(i + 1))
    const pods: Pod[] = []
    for (const host of hosts) pods.push(await overlay.addPod(host))
    const ready = () => Promise.all(hosts.map((host) => overlay.ready(host, HOSTS - 1)))
    const device = async (host: Host) => {
      const { device, kernelDevices } = await overlay.status(host)
      return device?.name ?? kernelDevices[0]?.name ?? ''
    }
    const routes = async (host: Host) =>
      (await host.run('ip', ['route'])).stdout
        .split('\n')
        .filter((line) => line.includes('dev flannel'))
        .map((line) => line.trim())
        .sort()
    const reachAll = async (): Promise<boolean> => {
      const pairs = pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => [from, to]))
      const codes = await Promise.all(
        pairs.map(async ([from, to]) => {
          return (await from!.run('ping', ['-c1', '-W1', to!.address])).code
        }),
      )
      return codes.every((code) => code === 0)
    }
    await ready()
    t.ok(await reachAll(), 'all is well at first')
    const before = await Promise.all(hosts.map(routes))
    const survivor = overlay.daemon(hosts[0]!)
    await sleep(2000)
    const small = sizeOf(survivor)

    const started = new Map<string, number>()
    const end = Date.now() + (SECONDS * 1000) / 2
    for (const [fault, number, pause] of faults) {
      if (Date.now() > end) break
      const host = hosts[number - 1]!
      const isSurvivor = number === 1
      const name = isSurvivor && (fault === 'kill' || fault === 'restart') ? 'route' : fault
      started.set(name, (started.get(name) ?? 0) + 1)
      switch (name) {
        case 'kill':
          overlay.daemon(host).kill('SIGKILL')
          await overlay.daemon(host).exited
          await overlay.start(host)
          break
        case 'restart':
          await overlay.daemon(host).stop()
          await overlay.start(host)
          break
        case 'etcd':
          await overlay.lab.etcd.kill()
          await sleep(pause)
          await overlay.lab.etcd.start()
          break
        case 'network':
          await overlay.lab.switch.run('ip', ['link', 'set', host.name, 'down'])
          await sleep(pause)
          await overlay.lab.switch.run('ip', ['link', 'set', host.name, 'up'])
          break
        default: {
          // The status may not be there yet, nor the device.
          const dev = await device(host).catch(() => '')
          const what = {
            route: ['route', 'flush', 'dev', dev, 'scope', 'global'],
            device: ['link', 'delete', dev],
            address: ['address', 'flush', 'dev', dev],
          }[name]
          if (dev !== '') await host.run('ip', what)
        }
      }
      await sleep(pause / 3)
    }
    t.comment([...started].map(([name, times]) => `${name} ${times}`).join(', '))

    await ready()
    await until('every pod reaches every other', SETTLE_MS, reachAll)
    await until('the routes are back', SETTLE_MS, async () => {
      const now = await Promise.all(hosts.map(routes))
      return JSON.stringify(now) === JSON.stringify(before)
    })
    t.same(await Promise.all(hosts.map(routes)), before, 'routes as before')
    const leases = [...(await overlay.lab.etcd.list(`${PREFIX}/subnets/`)).keys()]
    t.equal(leases.length, HOSTS, 'nobody took a second subnet')
    t.ok(survivor.running, 'one daemon lived through it')
    await until('it is as small as before', SETTLE_MS, () => {
      const { descriptors, threads } = sizeOf(survivor)
      return descriptors <= small.descriptors + 2 && threads <= small.threads
    }).catch(() => undefined)
    const now = sizeOf(survivor)
    t.comment(`${JSON.stringify(small)} → ${JSON.stringify(now)}`)
    t.ok(now.descriptors <= small.descriptors + 2, `${now.descriptors} descriptors`)
    t.ok(now.threads <= small.threads, `${now.threads} threads`)
    t.ok(now.residentMb < small.residentMb + GROWTH_MB, `${now.residentMb.toFixed(0)} MB`)
    t.equal(isKernel, (await overlay.status(hosts[0]!)).device === null)
  })
}
