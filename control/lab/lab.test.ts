/**
 * The lab in real namespaces, and how it disappears however its process ends.
 * @parallel
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createLab } from './lab.js'
import { run } from './process.js'
import { listLabs, removeLab, removeStaleLabs, startTime } from './registry.js'
import { parseSubnetEnv } from './subnet-env.js'
import { tcpTransfer, udpTransfer } from './transfers.js'

t.setTimeout(90_000)

const root = process.getuid?.() === 0
const skip = root ? false : 'needs root for network namespaces'

const envOf = (n: number): string =>
  `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.${n}.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n`

const namespaces = (prefix: string): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(prefix))

async function until(what: () => boolean, timeoutMs = 5000): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; Date.now() < end;) {
    if (what()) return true
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return what()
}

t.test('two hosts and their pods', { skip }, async (t) => {
  const lab = await createLab({ hosts: 2, mtu: 1400 })
  t.teardown(() => lab.close())
  const [h1, h2] = [lab.host(1), lab.host(2)]

  await t.test('hosts reach each other over the underlay, at its MTU and not above', async (t) => {
    t.equal((await h1.run('ping', ['-c1', '-W2', h2.address])).code, 0)
    t.equal((await h2.run('ping', ['-c1', '-W2', '172.30.0.254'])).code, 0)
    const atMtu = ['-c1', '-W2', '-M', 'do', '-s']
    t.equal((await h1.run('ping', [...atMtu, String(1400 - 28), h2.address])).code, 0)
    t.not((await h1.run('ping', [...atMtu, String(1400 - 27), h2.address])).code, 0)
  })

  await t.test('hosts forward and have a default route', async (t) => {
    const forward = await h1.run('cat', ['/proc/sys/net/ipv4/ip_forward'])
    t.equal(forward.stdout.trim(), '1')
    t.match((await h1.run('ip', ['route'])).stdout, /default via 172\.30\.0\.254 dev eth0/)
  })

  await t.test('pods are configured from subnet.env', async (t) => {
    await h1.addBridge(parseSubnetEnv(envOf(1)))
    const [a, b] = [await h1.addPod(), await h1.addPod()]
    t.equal(a.address, '10.5.1.2')
    t.equal(b.address, '10.5.1.3')
    t.equal((await a.run('ping', ['-c1', '-W2', a.gateway])).code, 0, 'pod to its gateway')
    t.equal((await a.run('ping', ['-c1', '-W2', b.address])).code, 0, 'pod to pod')
    t.match((await a.run('ip', ['link', 'show', 'eth0'])).stdout, /mtu 1472/)
    t.match((await a.run('ip', ['route'])).stdout, /default via 10\.5\.1\.1 dev eth0/)
  })

  await t.test('a capture holds exactly what passed', async (t) => {
    const capture = await h2.capture('eth0', 'icmp[icmptype] = icmp-echo')
    await h1.run('ping', ['-c3', '-i0.05', '-p', 'feedbeef', h2.address])
    t.equal((await capture.waitForPackets(3)).length, 3)
    const { packets } = await capture.stop()
    t.equal(packets.length, 3)
    const first = Buffer.from(packets[0]?.bytes ?? [])
    t.equal(first.length, 14 + 84, 'Ethernet, then the 84 bytes of a default ping')
    t.ok(first.includes(Buffer.from('feedbeef', 'hex')), 'the marked payload')
  })

  await t.test('TCP arrives with the same hash', async (t) => {
    const { intact, sent, received } = await tcpTransfer(h1, h2, h2.address, { bytes: 3_000_001 })
    t.ok(intact)
    t.equal(received.bytes, 3_000_001)
    t.match(sent.sha256, /^[0-9a-f]{64}$/)
    const other = await tcpTransfer(h2, h1, h1.address, { bytes: 3_000_001, seed: 2 })
    t.not(other.sent.sha256, sent.sha256, 'another seed is another stream')
  })

  await t.test('UDP datagrams are counted', async (t) => {
    const options = { count: 200, size: 1000, perSecond: 4000 }
    const { received } = await udpTransfer(h1, h2, h2.address, options)
    t.match(received, { received: 200, lost: 0, duplicates: 0, damaged: 0 })
  })

  await t.test('a program that fails, that is missing, that takes too long', async (t) => {
    t.match(await h1.run('sh', ['-c', 'echo no >&2; exit 3']), { code: 3, stderr: 'no\n' })
    t.not((await h1.run('no-such-program', [])).code, 0)
    t.equal((await h1.run('sleep', ['5'], { timeoutMs: 100 })).code, 124)
    t.equal((await run('no-such-program', [])).code, 127)
    await t.rejects(h1.ip('link set nothing up'), { code: 'HEDDLE_APPLY', message: /nothing/ })
  })

  await t.test('a managed program has its own pid, output and end', async (t) => {
    const child = await h1.spawn('sh', ['-c', 'echo pid=$$; exec sleep 60'], { name: 'sleeper' })
    t.equal((await child.waitFor(/pid=(\d+)/))[1], String(child.pid))
    t.ok(child.running)
    t.equal((await child.stop()).signal, 'SIGTERM')
    const deaf = await h1.spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 1; done'])
    await deaf.waitFor(/ready/)
    t.equal((await deaf.stop(200)).signal, 'SIGKILL')
    await t.rejects(child.waitFor(/never/), { code: 'HEDDLE_ABORTED' })
  })

  await t.test('everything is gone after close, twice', async (t) => {
    const left = await h1.spawn('sleep', ['60'])
    t.ok(namespaces(lab.prefix).length >= 5)
    await lab.close()
    await lab.close()
    t.same(namespaces(lab.prefix), [])
    t.notOk(existsSync(lab.dir))
    t.equal(startTime(left.pid), null)
    t.notOk(listLabs().some((record) => record.prefix === lab.prefix))
  })
})

/** A process that builds a lab with one sleeping program and then does `rest`. */
async function builder(
  rest: string,
): Promise<{ pid: number; prefix: string; sleeper: number; ended: Promise<number> }> {
  const lab = fileURLToPath(new URL('lab.js', import.meta.url))
  const program = `
    const { createLab } = await import(${JSON.stringify(lab)})
    const lab = await createLab({ hosts: 1 })
    const child = await lab.host(1).spawn('sleep', ['600'])
    console.log('lab', lab.prefix, child.pid)
    ${rest}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: process.env['PATH'] },
  })
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (code) => {
      resolve(code ?? -1)
    })
  })
  const said = await new Promise<string>((resolve) =>
    child.stdout.once('data', (d) => {
      resolve(String(d))
    }),
  )
  const [, prefix = '', sleeper = '0'] = said.trim().split(' ')
  return { pid: child.pid ?? 0, prefix, sleeper: Number(sleeper), ended }
}

const wait = 'await new Promise((resolve) => setTimeout(resolve, 600000))'
const endings = [
  { name: 'SIGINT', rest: wait, signal: 'SIGINT', code: 130 },
  { name: 'SIGTERM', rest: wait, signal: 'SIGTERM', code: 143 },
  {
    name: 'an exception',
    rest: 'throw new Error("expected by the test")',
    signal: null,
    code: 1,
  },
  { name: 'its own end', rest: 'process.exit(7)', signal: null, code: 7 },
] as const

for (const ending of endings) {
  t.test(`a lab goes with its process: ${ending.name}`, { skip }, async (t) => {
    const { pid, prefix, sleeper, ended } = await builder(ending.rest)
    if (ending.signal !== null) process.kill(pid, ending.signal)
    t.equal(await ended, ending.code)
    t.same(namespaces(prefix), [])
    t.ok(await until(() => startTime(sleeper) === null), 'its program has ended')
  })
}

t.test('a killed process leaves a lab that the next one removes', { skip }, async (t) => {
  const { pid, prefix, sleeper, ended } = await builder(wait)
  process.kill(pid, 'SIGKILL')
  await ended
  t.not(namespaces(prefix).length, 0, 'still there')
  t.ok(removeStaleLabs().includes(prefix))
  t.same(namespaces(prefix), [])
  t.ok(await until(() => startTime(sleeper) === null))
})

t.test('a kept lab stays until it is removed', { skip }, async (t) => {
  const { prefix, sleeper, ended } = await builder('lab.keep()')
  t.equal(await ended, 0, 'the process ends by itself')
  t.notOk(removeStaleLabs().includes(prefix))
  t.not(startTime(sleeper), null, 'its program runs')
  const record = listLabs().find((lab) => lab.prefix === prefix)
  t.equal(record?.kept, true)
  removeLab(record!)
  t.same(namespaces(prefix), [])
  t.ok(await until(() => startTime(sleeper) === null))
  t.notOk(existsSync(record!.ownDir!))
})

t.test(
  'etcd in the switch namespace',
  { skip: skip || (!existsSync('/usr/bin/etcd') && 'needs etcd') },
  async (t) => {
    const lab = await createLab({ hosts: 1 })
    t.teardown(() => lab.close())
    const etcd = await lab.startEtcd()
    await etcd.put('/coreos.com/network/config', '{"Network":"10.5.0.0/16"}')
    const seen = await lab
      .host(1)
      .run('etcdctl', ['--endpoints', etcd.endpoint, 'get', '/coreos.com', '--prefix'])
    t.match(seen.stdout, /10\.5\.0\.0\/16/, 'a host reaches it')
    await etcd.kill()
    t.not((await etcd.ctl('--dial-timeout=300ms', '--command-timeout=500ms', 'get', 'x')).code, 0)
    await etcd.start()
    t.same(
      [...(await etcd.list('/coreos.com'))],
      [['/coreos.com/network/config', '{"Network":"10.5.0.0/16"}']],
    )
    await etcd.restart()
    t.equal((await etcd.list('/coreos.com')).size, 1)
  },
)

t.test('subnet.env that makes no sense', (t) => {
  for (const [name, text] of [
    ['empty', ''],
    ['no MTU', 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\n'],
    ['no prefix', envOf(1).replace('/24', '')],
    ['MTU is no number', envOf(1).replace('1472', 'big')],
  ] as const) {
    t.throws(() => parseSubnetEnv(text), { code: 'HEDDLE_CONFIG' }, name)
  }
  t.same(parseSubnetEnv(envOf(9)), {
    network: '10.5.0.0/16',
    gateway: '10.5.9.1',
    prefixLen: 24,
    mtu: 1472,
    gateway6: '',
    prefixLen6: 0,
  })
  t.end()
})

t.test('start time of a process', (t) => {
  const stat = readFileSync('/proc/self/stat', 'utf8')
  t.equal(startTime(process.pid), stat.slice(stat.lastIndexOf(')')).split(' ')[20])
  t.equal(startTime(2 ** 22 + 1), null, 'above pid_max')
  t.end()
})
