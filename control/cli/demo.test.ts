/**
 * The demo, as a function and as a process of its own: what it shows, and that nothing stays behind.
 * @parallel
 */
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startTime } from '../lab/registry.js'
import { demo } from './demo.js'
import { parsePing } from './demo-measure.js'
import { type Measured, faultsOf } from './demo-run.js'
import { createTerminal } from './demo-terminal.js'
import { describeBytes } from './demo-walk.js'

t.setTimeout(240_000)

const skip = process.getuid?.() === 0 ? false : 'needs root for network namespaces'

/** A stream that remembers, and what it remembers. */
function memory(isTTY = false): { stream: NodeJS.WritableStream; text: () => string } {
  let text = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk)
      done()
    },
  })
  return { stream: Object.assign(stream, { isTTY }), text: () => text }
}

t.test('replies in the output of ping', (t) => {
  const output = `PING 10.5.2.2 (10.5.2.2) 56(84) bytes of data.
64 bytes from 10.5.2.2: icmp_seq=1 ttl=60 time=0.421 ms
64 bytes from 10.5.2.2: icmp_seq=2 ttl=60 time=1.20 ms
64 bytes from 10.5.2.2: icmp_seq=2 ttl=60 time=1.90 ms (DUP!)
From 10.5.1.0 icmp_seq=3 Destination Net Unreachable

--- 10.5.2.2 ping statistics ---`
  t.same(parsePing(output), [
    { seq: 1, ttl: 60, rttMs: 0.421 },
    { seq: 2, ttl: 60, rttMs: 1.2 },
  ])
  t.same(parsePing('ping: connect: Network is unreachable'), [])
  t.end()
})

t.test('what changed between two captures of a packet', (t) => {
  // RFC 791 header: 10.0.0.1 to 10.0.0.2, TTL 64 and 63, checksums worked out by hand.
  const one = Buffer.from('4500001400004000400126e60a0000010a000002', 'hex')
  const two = Buffer.from('4500001400004000 3f0127e60a0000010a000002'.replace(' ', ''), 'hex')
  t.same(describeBytes(one, two), ['TTL 64 → 63', 'header checksum 26e6 → 27e6'])
  t.same(describeBytes(one, one), [])
  const other = Buffer.from(one)
  other[19] = 9
  t.same(describeBytes(one, other), ['byte 19 02 → 09'])
  t.same(describeBytes(one, one.subarray(0, 16)), ['length 20 → 16'])
  t.end()
})

t.test('plain where it is no terminal', (t) => {
  const show = (isTTY: boolean): string => {
    const { stream, text } = memory(isTTY)
    const terminal = createTerminal(stream)
    terminal.heading('1 → 2')
    terminal.lines(terminal.strong('└─┘ 5 µs'))
    terminal.table([
      ['a', 'bb'],
      ['ccc', 'd'],
    ])
    return text()
  }
  t.equal(show(false), '\n1 -> 2\n  +-+ 5 us\n  a    bb\n  ccc  d\n')
  t.match(show(true), '└─┘ 5 µs')
  t.end()
})

t.test('what counts as a failure', (t) => {
  const ping = { from: 'a', to: 'b', sent: 1, replies: [{ seq: 1, ttl: 60, rttMs: 1 }] }
  const step = { place: 'h1 eth0', text: 'IP', length: 1, afterUs: 0, change: '' }
  const good = {
    pings: [ping],
    transfer: { intact: true },
    walk: { ping, steps: [step] },
  } as unknown as Measured
  t.same(faultsOf(good), [])
  t.equal(faultsOf({ ...good, pings: [{ ...ping, replies: [] }] }).length, 1)
  t.equal(faultsOf({ ...good, transfer: { ...good.transfer, intact: false } }).length, 1)
  const lost = { ...good.walk, ping: { ...ping, replies: [] }, steps: [{ ...step, text: null }] }
  t.equal(faultsOf({ ...good, walk: lost }).length, 2)
  t.end()
})

t.test('wrong arguments', { skip }, async (t) => {
  for (const argv of [['--nonsense'], ['--store=consul'], ['more']]) {
    const { stream, text } = memory()
    t.equal(await demo(argv, { stdout: memory().stream, stderr: stream }), 2, argv.join())
    t.match(text(), /usage:/)
  }
  const { stream, text } = memory()
  t.equal(await demo(['--help'], { stdout: stream, stderr: memory().stream }), 0)
  t.match(text(), /--keep/)
})

interface Run {
  readonly pid: number
  readonly output: () => string
  readonly said: (pattern: RegExp) => Promise<RegExpMatchArray>
  readonly ended: Promise<number>
}

/** `heddle demo` as a process of its own. */
function start(...args: string[]): Run {
  const module = fileURLToPath(new URL('demo.js', import.meta.url))
  const program = `
    const { demo } = await import(${JSON.stringify(module)})
    process.exitCode = await demo(process.argv.slice(1), process)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, '--', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] },
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      text += String(chunk)
    })
  }
  const ended = new Promise<number>((resolve) => {
    child.once('close', (code) => {
      resolve(code ?? -1)
    })
  })
  const said = async (pattern: RegExp): Promise<RegExpMatchArray> => {
    for (const end = Date.now() + 60_000; Date.now() < end;) {
      const match = text.match(pattern)
      if (match !== null) return match
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    throw new Error(`the demo never said ${pattern.source}:\n${text}`)
  }
  return { pid: child.pid ?? 0, output: () => text, said, ended }
}

const left = (pid: number): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(`hdl${pid}-`))

t.test('the demo shows everything it promises, and leaves nothing', { skip }, async (t) => {
  const begin = Date.now()
  const run = start()
  t.equal(await run.ended, 0)
  t.ok(Date.now() - begin < 60_000, 'within a minute')
  const text = run.output()
  t.match(text, /h1: eth0 172\.30\.0\.11\/24 mtu 1500/)
  t.match(text, /h1 +10\.5\.\d+\.0\/24 +172\.30\.0\.11/)
  t.match(text, /10\.5\.0\.0\/16 dev flannel0/)
  t.equal([...text.matchAll(/reply \d: ttl 60, round trip [\d.]+ ms/g)].length, 6)
  t.match(text, /SHA-256 received +[0-9a-f]{64} +the same/)
  t.match(text, /67\.1 MB in [\d.]+ s, \d+ Mbit\/s/)
  t.match(text, /h2 +egress +read +\d+/)
  const steps = [...text.matchAll(/^ {2}([1-7]) {2}(\S+ \S+).*\n.*?ttl (\d+)(?:.*ttl (\d+))?/gm)]
  t.same(
    steps.map(([, number, place, ttl, inner]) => `${number} ${place} ${inner ?? ttl}`),
    [
      '1 h1/pod1 eth0 64',
      '2 h1 cni0 64',
      '3 h1 flannel0 63',
      '4 h1 eth0 62',
      '5 h2 flannel0 61',
      '6 h2 cni0 60',
      '7 h2/pod1 eth0 60',
    ],
  )
  t.notOk(text.includes('\u001b'), 'no colours where it is no terminal')
  t.same(left(run.pid), [])
})

t.test('the same over etcd, as JSON', { skip }, async (t) => {
  const run = start('--store=etcd', '--json')
  t.equal(await run.ended, 0)
  const text = run.output()
  const document = JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)) as Measured
  t.match(document.store, /^etcd at http/)
  t.equal(document.hosts.length, 2)
  t.equal(document.transfer.intact, true)
  for (const { counters } of document.status) {
    for (const { read, verdicts } of [counters.egress, counters.ingress]) {
      const sum = Object.values(verdicts).reduce((n, { packets }) => n + packets, 0)
      t.equal(sum, read, 'every packet has one verdict')
    }
  }
})

t.test('vxlan in a dual-stack network', { skip }, async (t) => {
  const run = start('--backend=vxlan', '--ipv6')
  t.equal(await run.ended, 0)
  const text = run.output()
  t.equal([...text.matchAll(/reply \d: ttl 62, round trip [\d.]+ ms/g)].length, 12, 'IPv4 and IPv6')
  t.match(text, /fd05\S*::\d (?:->|→) fd05\S*::\d: 3 of 3 answered/)
  t.match(text, /4 {2}h1 eth0 .*\n.*VXLAN, flags \[I\].*vni 1.*ttl 63/)
  t.match(text, /50 bytes put in front/)
  t.match(text, /h1 +10\.5\.\d+\.0\/24,fd05:\S*\/64/)
  t.same(left(run.pid), [])
})

t.test('Ctrl-C removes everything', { skip }, async (t) => {
  for (const moment of [/Two hosts/, /Leases/, /A TCP transfer/]) {
    const run = start()
    await run.said(moment)
    process.kill(run.pid, 'SIGINT')
    t.equal(await run.ended, 130)
    t.match(run.output(), /Interrupted/)
    t.same(left(run.pid), [], moment.source)
  }
})

t.test('a daemon that dies makes the demo fail', { skip }, async (t) => {
  const run = start()
  const pids = await run.said(/heddled \(pid (\d+)\) +heddled \(pid (\d+)\)/)
  process.kill(Number(pids[2]), 'SIGKILL')
  t.equal(await run.ended, 1)
  t.same(left(run.pid), [])
})

t.test('--keep leaves it running until --remove', { skip }, async (t) => {
  const run = start('--keep')
  t.equal(await run.ended, 0)
  const text = run.output()
  t.match(text, /heddle\.js demo --remove/)
  t.not(left(run.pid).length, 0)
  const daemon = Number(/heddled \(pid (\d+)\)/.exec(text)?.[1])
  t.not(startTime(daemon), null, 'the daemon runs')
  const removal = start('--remove')
  t.equal(await removal.ended, 0)
  t.match(removal.output(), new RegExp(`removed hdl${run.pid}-1`))
  t.same(left(run.pid), [])
  t.equal(startTime(daemon), null)
})
