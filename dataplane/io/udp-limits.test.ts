/**
 * What the kernel refuses, holds back or cuts: results of entries, full queues, segmentation.
 *
 * The file starts itself again in a network namespace of its own, which ends with it; a neighbour
 * that never answers can be made there.
 */
import { ip } from '../netns-fixture.js'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants as os } from 'node:os'
import t from 'tap'
import { ENTRY_FIELDS } from '../packet/entries.js'
import { HEADROOM } from '../packet/layout.js'
import {
  LOCALHOST,
  createBench,
  openPort,
  pattern,
  payload,
  results,
  rows,
} from './device-fixture.js'
import { encodeName, endpoint4, endpoint6 } from './endpoint.js'

ip('link set lo up')

t.test('an entry that is refused costs only itself', (t) => {
  const { arena, batch, entries, names, free } = createBench(256)
  const port = openPort(arena)
  const receiver = openPort(arena)
  const broadcast = 32 // not allowed without SO_BROADCAST (udp(7))
  encodeName(endpoint4(LOCALHOST, receiver.port), names, 0)
  encodeName(endpoint4(0xffffffff, 9), names, broadcast)
  const want: number[] = []
  for (let i = 0; i < 200; i++) {
    const [len, name, errno] =
      i % 7 === 3
        ? [8, broadcast, os.errno.EACCES]
        : i % 7 === 5
          ? [8, -1, os.errno.EDESTADDRREQ]
          : i === 67
            ? [65508, 0, os.errno.EMSGSIZE]
            : [8, 0, 0]
    entries.add(free, len, name, len)
    entries.setResult(i, 99)
    want.push(errno)
  }
  const end = port.send(entries, names)
  t.equal(end, 68, 'one that is too long ends the call')
  t.equal(port.send(entries, names, end), 200)
  t.same(results(entries), want)
  t.equal(receiver.receive(batch), want.filter((errno) => errno === 0).length)
  port.close()
  receiver.close()
  t.end()
})

t.test('segmentation: one entry leaves as many datagrams, GRO brings them back as one', (t) => {
  const { arena, batch, entries, names, free } = createBench(4, HEADROOM + 65535)
  const sender = openPort(arena)
  const plain = openPort(arena)
  const merging = openPort(arena, { gro: true })
  encodeName(endpoint4(LOCALHOST, plain.port), names, 0)
  encodeName(endpoint4(LOCALHOST, merging.port), names, 32)
  const bytes = pattern(1, 2500)
  arena.bytes.set(bytes, free)
  const run = (name: number): void => {
    entries.clear()
    entries.add(free, 2500, name, 2500)
    entries.entries[ENTRY_FIELDS.SEGMENT] = 1000
    sender.send(entries, names)
    t.equal(entries.result(0), 0)
    batch.rewind()
  }
  run(0)
  t.equal(plain.receive(batch), 3)
  t.same(
    rows(batch, (row) => batch.len(row)),
    [1000, 1000, 500],
  )
  t.same(
    rows(batch, (row) => batch.segment(row)),
    [0, 0, 0],
  )
  t.ok(Buffer.concat([0, 1, 2].map((row) => payload(batch, row))).equals(bytes))
  run(32)
  t.equal(merging.receive(batch), 1)
  t.equal(batch.segment(0), 1000)
  t.ok(payload(batch, 0).equals(bytes))
  for (const each of [sender, plain, merging]) each.close()
  t.end()
})

t.test('a run that is refused ends the call, and the rest goes from there', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const port = openPort(arena)
  encodeName(endpoint4(LOCALHOST, port.port), names, 0)
  const refused = [70, 200]
  for (let i = 0; i < 300; i++) {
    entries.add(free, 1000, 0, 1000)
    entries.setResult(i, 99)
    // More datagrams than any kernel cuts a message into.
    if (refused.includes(i)) entries.setSegment(i, 1)
  }
  const stops: number[] = []
  let got = 0
  for (let first = 0; first < entries.count; stops.push(first)) {
    first = port.send(entries, names, first)
    const untried = results(entries).slice(first)
    t.ok(untried.every((errno) => errno === 99))
    for (let n = 1; n > 0; got += n) {
      batch.rewind()
      n = port.receive(batch)
    }
    t.equal(got, first - stops.length - (first === 300 ? 0 : 1), 'what stands before it is sent')
  }
  t.same(stops, [71, 201, 300])
  const want = (i: number): number => (refused.includes(i) ? os.errno.EINVAL : 0)
  t.same(
    results(entries),
    Array.from({ length: 300 }, (_, i) => want(i)),
  )
  port.close()
  t.end()
})

t.test('what fits the path to a peer in one piece is known, and a longer run is refused', (t) => {
  ip('link add path0 type veth peer name path1')
  ip('address add 10.97.0.1/24 dev path0')
  ip('-6 address add fd97::1/64 dev path0 nodad')
  ip('link set path1 up')
  ip('link set path0 up')
  ip('route add 10.97.0.3/32 dev path0 mtu 1000')
  ip('-6 route add fd97::3/128 dev path0 mtu 1400')
  const { arena, entries, names, free } = createBench()
  const [wide, narrow, nowhere, wide6] = [0, 32, 64, 96]
  encodeName(endpoint4(0x0a610002, 9), names, wide)
  encodeName(endpoint4(0x0a610003, 9), names, narrow)
  encodeName(endpoint4(0x0a620001, 9), names, nowhere)
  const address = new Uint8Array(16)
  address.set([0xfd, 0x97])
  address[15] = 2
  encodeName(endpoint6(address, 9), names, wide6)
  const port = openPort(arena, { address: '10.97.0.1' })
  t.equal(port.pathRoom(names, wide), 1472)
  t.equal(port.pathRoom(names, narrow), 972)
  t.equal(port.pathRoom(names, nowhere), 0, 'no route')
  t.equal(port.pathRoom(names, 4 * 32), 0, 'no name')
  const refusal = (name: number, size: number): number => {
    entries.clear()
    entries.add(free, 3 * size, name, 0)
    entries.setSegment(0, size)
    port.send(entries, names)
    return entries.result(0)
  }
  t.equal(refusal(wide, 1472), 0)
  // Linux says EINVAL until 6.14 and its stable branches of early 2025.
  const tooLong = [os.errno.EMSGSIZE, os.errno.EINVAL]
  t.ok(tooLong.includes(refusal(wide, 1473)))
  t.equal(refusal(narrow, 972), 0)
  t.ok(tooLong.includes(refusal(narrow, 973)))
  const port6 = openPort(arena, { family: 6, address: 'fd97::1' })
  t.equal(port6.pathRoom(names, wide6), 1452)
  address[15] = 3
  encodeName(endpoint6(address, 9), names, wide6)
  t.equal(port6.pathRoom(names, wide6), 1352)
  for (const each of [port, port6]) each.close()
  ip('link del path0')
  t.end()
})

/** A count of the kernel's IP layer in this namespace. */
function ipCount(name: string): number {
  const [names = [], values = []] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Ip:'))
    .map((line) => line.split(' '))
  return Number(values[names.indexOf(name)])
}

t.test('a port that does not fragment refuses what is longer than the path', (t) => {
  ip('link add path0 type veth peer name path1')
  ip('address add 10.97.0.1/24 dev path0')
  ip('-6 address add fd97::1/64 dev path0 nodad')
  ip('link set path1 up')
  ip('link set path0 up')
  ip('neigh add 10.97.0.3 lladdr 02:00:00:00:00:03 dev path0')
  ip('route add 10.97.0.3/32 dev path0 mtu 1000')
  ip('-6 route add fd97::3/128 dev path0 mtu 1400')
  const { arena, entries, names, free } = createBench()
  const address = new Uint8Array(16)
  address.set([0xfd, 0x97])
  address[15] = 3
  encodeName(endpoint4(0x0a610003, 9), names, 0)
  encodeName(endpoint6(address, 9), names, 32)
  const port = openPort(arena, { address: '10.97.0.1', dontFragment: true })
  const port6 = openPort(arena, { family: 6, address: 'fd97::1', dontFragment: true })
  const fragmenting = openPort(arena, { address: '10.97.0.1' })
  const cases = [
    { port, name: 0, room: 972 },
    { port: port6, name: 32, room: 1352 },
  ]
  const stage = (name: number, ...lengths: readonly number[]): void => {
    entries.clear()
    for (const len of lengths) entries.add(free, len, name, len)
  }
  for (const { port, name, room } of cases) {
    stage(name, room, room + 1, room)
    t.equal(port.send(entries, names), 2)
    t.same(results(entries).slice(0, 2), [0, os.errno.EMSGSIZE])
    t.equal(port.send(entries, names, 2), 3)
    t.same(results(entries).slice(2), [0])
    const before = ipCount('FragCreates')
    stage(name, room + 1, 65000)
    port.sendInFragments(entries, names)
    t.same(results(entries), [0, 0])
    if (port.family === 4) t.equal(ipCount('FragCreates') - before, 2 + 67)
    stage(name, room + 1)
    port.send(entries, names)
    t.same(results(entries), [os.errno.EMSGSIZE], 'only those')
  }
  stage(0, 973)
  fragmenting.send(entries, names)
  t.same(results(entries), [0], 'other ports fragment as they like')
  for (const each of [port, port6, fragmenting]) each.close()
  ip('link del path0')
  t.end()
})

t.test('without a descriptor to ask with, a path is not known', (t) => {
  const at = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href)
  const program = `import { createBench, openPort } from ${at('./device-fixture.js')}
    import { encodeName, endpoint4 } from ${at('./endpoint.js')}
    import { native } from ${at('../native/native.js')}
    const { arena, names } = createBench()
    encodeName(endpoint4(${LOCALHOST}, 9), names, 0)
    const port = openPort(arena)
    const before = port.pathRoom(names, 0)
    try { for (;;) native.eventfd() } catch (error) { console.log(error.code) }
    console.log(before, port.pathRoom(names, 0))`
  const node = [process.execPath, '--input-type=module', '--eval', program]
  const run = spawnSync('sh', ['-c', 'ulimit -n 64; exec "$0" "$@"', ...node], { encoding: 'utf8' })
  t.equal(run.stdout, `EMFILE\n65507 0\n`, run.stderr)
  t.end()
})

t.test('a full socket: the rest is not tried and gets the same errno', (t) => {
  // Nobody answers for 10.98.0.2, so what is sent to it waits for its address in the socket's
  // own send buffer.
  ip('link add slow0 type veth peer name slow1')
  ip('address add 10.98.0.1/24 dev slow0')
  ip('link set slow1 up')
  ip('link set slow0 up')
  const { arena, batch, entries, names, free } = createBench()
  const port = openPort(arena, { address: '0.0.0.0', sendBuffer: 8192 })
  encodeName(endpoint4(0x0a620002, 9), names, 0)
  encodeName(endpoint4(LOCALHOST, port.port), names, 32)
  for (let i = 0; i < 40; i++) {
    entries.add(free, 1000, 0, 1000)
    entries.setResult(i, 99)
  }
  entries.add(free, 1, 32, 1)
  port.send(entries, names)
  const list = results(entries)
  const sent = list.indexOf(os.errno.EAGAIN)
  t.ok(sent > 0 && sent < 40, `${sent} datagrams had room`)
  t.same(list, [...Array<number>(sent).fill(0), ...Array<number>(41 - sent).fill(os.errno.EAGAIN)])
  t.equal(port.receive(batch), 0, 'not even the one to another host was tried')
  port.close()
  ip('link del slow0')
  t.end()
})

t.test('buffers beyond the system limit are achieved, drops are counted', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const big = openPort(arena, { receiveBuffer: 16 << 20, sendBuffer: 8 << 20 })
  t.equal(big.receiveBuffer, 16 << 20)
  t.equal(big.sendBuffer, 8 << 20)
  const small = openPort(arena, { receiveBuffer: 8192 })
  t.equal(small.receiveBuffer, 8192)
  encodeName(endpoint4(LOCALHOST, small.port), names, 0)
  for (let i = 0; i < 100; i++) entries.add(free, 1000, 0, 1000)
  big.send(entries, names)
  const got = small.receive(batch)
  t.ok(got > 0 && got < 100)
  t.equal(got + small.drops(), 100)
  big.close()
  small.close()
  t.end()
})

const hasUserNamespaces = spawnSync('unshare', ['--user', 'true']).status === 0
const skip = hasUserNamespaces ? false : 'user namespaces are not permitted here, as in containers'

t.test('without the privilege the system limit holds, and is reported', { skip }, (t) => {
  // In a user namespace of its own a process has no privilege over the network around it.
  const module = JSON.stringify(new URL('./udp-port.js', import.meta.url).href)
  const program = `import { openUdp } from ${module}
    const asked = { receiveBuffer: 2 ** 30, sendBuffer: 2 ** 30 }
    const got = openUdp({ family: 4, port: 0, ...asked })
    console.log(got.receiveBuffer, got.sendBuffer)`
  const args = ['--user', process.execPath, '--input-type=module', '--eval', program]
  const run = spawnSync('unshare', args, { encoding: 'utf8' })
  t.equal(run.status, 0, run.stderr)
  const sizes = run.stdout.trim().split(' ').map(Number)
  t.equal(sizes.length, 2)
  for (const size of sizes) t.ok(size > 4096 && size < 2 ** 30, `${size} bytes`)
  t.end()
})
