/**
 * @parallel A model of the control plane, and commands in random order against real agents and a real etcd:
 * hosts come and go, renew, lose their leases by expiry and by operators, are cut off; etcd is compacted and
 * restarted. Once everything is connected again:
 *
 *  - every host that runs holds a lease in etcd, under its own address, and no two hold one subnet;
 *  - every host's peers are exactly the leases of the others;
 *  - a host has ended by itself only where the model says that it may have lost its subnet.
 *
 * In a network namespace of this test's own (the file starts itself again inside). fast-check prints seed and
 * path of a failure; MODEL_SEED and MODEL_PATH play it again, MODEL_RUNS asks for more runs.
 */
import { ip } from '../dataplane/netns-fixture.js'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { ModelWorld, TTL_MS } from './model-hosts.js'

ip('link set lo up')
ip('link add eth0 type bridge')
ip('address add 172.30.0.1/24 dev eth0')
ip('link set eth0 up')

const HOSTS = 5
const SETTLE_MS = 30_000
const RUNS = Number(process.env['MODEL_RUNS'] ?? 4)

/** What is known of a host. */
interface HostModel {
  isRunning: boolean
  isCut: boolean
  /** Whether its subnet may have gone to somebody else, or an operator has taken it. */
  mayHaveLost: boolean
}

interface Model {
  readonly hosts: HostModel[]
  /** Commands that were carried out. */
  done: number
}

type Command = fc.AsyncCommand<Model, ModelWorld>

/** A command for one host. */
function forHost(
  name: string,
  check: (host: HostModel) => boolean,
  run: (host: HostModel, world: ModelWorld, number: number) => Promise<void>,
): fc.Arbitrary<Command> {
  return fc.nat(HOSTS - 1).map((number) => ({
    check: ({ hosts }) => check(hosts[number]!),
    run: (model, world) => {
      model.done++
      return run(model.hosts[number]!, world, number)
    },
    toString: () => `${name}(${number})`,
  }))
}

/** A command for the world. */
function forAll(name: string, run: (world: ModelWorld) => Promise<void>): fc.Arbitrary<Command> {
  return fc.constant({
    check: () => true,
    run: (model, world) => {
      model.done++
      return run(world)
    },
    toString: () => name,
  })
}

const commands = fc.noBias(
  fc.commands(
    [
      forHost(
        'join',
        ({ isRunning }) => !isRunning,
        async (host, world, number) => {
          host.isRunning = true
          host.mayHaveLost = false
          await world.hosts[number]!.start()
          await sleep(300)
        },
      ),
      forHost(
        'leave',
        ({ isRunning }) => isRunning,
        async (host, world, number) => {
          host.isRunning = false
          await world.hosts[number]!.stop()
        },
      ),
      forHost(
        'restart',
        ({ isRunning }) => isRunning,
        async (host, world, number) => {
          host.mayHaveLost = false
          await world.hosts[number]!.stop()
          await world.hosts[number]!.start()
        },
      ),
      forHost(
        'evict',
        ({ isRunning }) => isRunning,
        async (host, world, number) => {
          host.mayHaveLost = true
          await world.evict(world.hosts[number]!)
        },
      ),
      forHost(
        'expire',
        ({ isRunning }) => isRunning,
        async (host, world, number) => {
          // Somebody may be faster to take the subnet than its owner.
          host.mayHaveLost = true
          await world.expire(world.hosts[number]!)
        },
      ),
      forHost(
        'cut',
        ({ isCut }) => !isCut,
        async (host, world, number) => {
          host.isCut = true
          host.mayHaveLost = true
          await world.hosts[number]!.cut()
        },
      ),
      forHost(
        'heal',
        ({ isCut }) => isCut,
        async (host, world, number) => {
          host.isCut = false
          await world.hosts[number]!.heal()
        },
      ),
      forAll('compact', (world) => world.compact()),
      forAll('restart etcd', (world) => world.restartEtcd(100)),
      forAll('renew', () => sleep(TTL_MS / 2)),
      forAll('outlive', () => sleep(TTL_MS + 1000)),
    ],
    { maxCommands: 24, size: 'max' },
  ),
)

/** What is wrong with the world, null = nothing. */
async function faultOf(model: Model, world: ModelWorld): Promise<string | null> {
  const leases = await world.leases()
  const owners = [...leases].map(([subnet, address]) => `${subnet} ${address}`).sort()
  for (const [number, host] of world.hosts.entries()) {
    const { isRunning, mayHaveLost } = model.hosts[number]!
    if (!isRunning) continue
    const { fault, subnet, status, address } = host
    if (fault !== null) {
      const isLost = fault === 'HEDDLE_LEASE_LOST' || fault === 'HEDDLE_LEASE_EVICTED'
      if (mayHaveLost && isLost) continue
      return `host ${number} ended with ${fault}`
    }
    if (status?.state !== 'ready' || subnet === null) return `host ${number} is not ready`
    if (leases.get(subnet) !== address) return `host ${number} holds no lease of ${subnet}`
    const own = `${subnet} ${address}`
    const peers = status.peers.map((peer) => `${peer.subnet} ${peer.publicIP}`).sort()
    const wanted = owners.filter((owner) => owner !== own)
    if (peers.join() !== wanted.join()) {
      return `host ${number} knows ${peers.join()}, not ${wanted.join()}`
    }
  }
  return null
}

/** Connects everybody again and waits until all is well; it must stay so. */
async function settle(model: Model, world: ModelWorld): Promise<void> {
  for (const [number, host] of model.hosts.entries()) {
    if (host.isCut) await world.hosts[number]!.heal()
  }
  const end = Date.now() + SETTLE_MS
  for (let good = 0; good < 3;) {
    const fault = await faultOf(model, world)
    good = fault === null ? good + 1 : 0
    if (fault !== null && Date.now() > end) {
      const logs = world.hosts.map(({ lines }, i) => `--- host ${i}\n${lines.join('')}`)
      throw new Error(`${fault}\n${logs.join('')}`)
    }
    await sleep(200)
  }
}

t.setTimeout(RUNS * 120_000)

t.test('in any order', async (t) => {
  let runs = 0
  let done = 0
  await fc.assert(
    fc.asyncProperty(commands, async (all) => {
      const world = await ModelWorld.create(HOSTS)
      const model: Model = {
        done: 0,
        hosts: Array.from({ length: HOSTS }, () => ({
          isRunning: true,
          isCut: false,
          mayHaveLost: false,
        })),
      }
      try {
        // All at once.
        await Promise.all(world.hosts.map((host) => host.start()))
        await fc.asyncModelRun(() => ({ model, real: world }), all)
        await settle(model, world)
      } finally {
        await world.remove()
      }
      runs++
      done += model.done
    }),
    {
      numRuns: RUNS,
      // What failed once may not fail again at the same place: time is part of it.
      endOnFailure: true,
      ...(process.env['MODEL_SEED'] === undefined
        ? {}
        : { seed: Number(process.env['MODEL_SEED']), path: process.env['MODEL_PATH'] ?? '' }),
    },
  )
  t.comment(`${done} commands in ${runs} runs`)
  t.ok(done > runs * 3, 'commands were carried out')
})
