/**
 * The self-tests of sockets, on this kernel and on ones that answer otherwise, in a network namespace
 * of this test's own, whose loopback can be taken down: the file starts itself again inside.
 */
import '../netns-fixture.js'
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { native } from '../native/native.js'
import { BATCH_COLUMN_COUNT } from '../packet/batch.js'
import { createFault, createKernel, forgetOption, sendUpTo, sendWhole } from './kernel-fixture.js'
import { testSockets } from './socket-self-test.js'

const EIO = 5
const EINVAL = 22
const { UDP_GRO, UDP_SEGMENT, IPPROTO_UDP } = native.constants

function setLoopback(state: 'up' | 'down'): void {
  const run = spawnSync('ip', ['link', 'set', 'lo', state], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(run.stderr)
}

/** Descriptors of this process, and UDP sockets of the namespace. */
function leftovers(): number[] {
  const sockets = readFileSync('/proc/net/udp', 'utf8').trim().split('\n')
  return [readdirSync('/proc/self/fd').length, sockets.length]
}

/** Whether this kernel knows an option of UDP sockets. */
function knows(option: number): boolean {
  const fd = native.udpSocket(4)
  try {
    native.getOption(fd, IPPROTO_UDP, option)
    return true
  } catch {
    return false
  } finally {
    native.close(fd)
  }
}
const skip = knows(UDP_SEGMENT) && knows(UDP_GRO) ? false : 'this kernel is too old'

t.test('a loopback that is down says nothing about the kernel', async (t) => {
  setLoopback('down')
  const unknown = { kind: 'unknown', reason: /^E[A-Z]+ \(\w+\)$/ }
  t.match(testSockets(), { runs: unknown, maxRun: 63, trains: unknown })
  setLoopback('up')
})

t.test('this kernel', { skip }, async (t) => {
  const before = leftovers()
  const { runs, maxRun, trains } = testSockets()
  t.same([runs, trains], [{ kind: 'passed' }, { kind: 'passed' }])
  t.ok([63, 64, 128].includes(maxRun), `${maxRun} packets a send`)
  t.same(leftovers(), before, 'nothing is left behind')
})

for (const limit of [64, 63]) {
  t.test(`a kernel that takes ${limit} packets a send`, { skip }, async (t) => {
    const kernel = createKernel({ send: sendUpTo(limit, EINVAL) })
    const passed = { kind: 'passed' } as const
    t.same(testSockets(kernel), { runs: passed, maxRun: limit, trains: passed })
  })
}

t.test('a kernel that cannot cut', async (t) => {
  for (const [errno, name] of [
    [EINVAL, 'EINVAL'],
    [EIO, 'EIO'],
  ] as const) {
    t.match(testSockets(createKernel({ send: sendUpTo(1, errno) })), {
      runs: { kind: 'failed', reason: `a send of 63 packets: ${name}` },
      maxRun: 1,
      trains: { kind: 'unknown', reason: 'there is no train to send' },
    })
  }
})

t.test('a kernel that does not know UDP_SEGMENT sends one long datagram', async (t) => {
  t.match(testSockets(createKernel({ send: sendWhole })), {
    runs: { kind: 'failed', reason: '128 packets in one send arrived as 1' },
    maxRun: 1,
  })
})

t.test('a kernel without UDP_GRO', { skip }, async (t) => {
  t.match(testSockets(createKernel({ setOption: forgetOption(UDP_GRO) })), {
    runs: { kind: 'passed' },
    trains: { kind: 'failed', reason: 'ENOPROTOOPT (setsockopt)' },
  })
})

t.test('a kernel that takes UDP_GRO and merges nothing', { skip }, async (t) => {
  t.match(testSockets(createKernel({ setOption: () => undefined })), {
    runs: { kind: 'passed' },
    trains: { kind: 'failed', reason: 'a train of 8 packets arrived as 8' },
  })
})

t.test('datagrams that arrive otherwise than they were sent', { skip }, async (t) => {
  const before = leftovers()
  let received = 0
  const recv: typeof native.recv = (fd, arena, columns, capacity, room, socket) => {
    const count = native.recv(fd, arena, columns, capacity, room, socket)
    received += count
    // The single one passes; then a bit of the last row is damaged.
    const at = columns[count - 1] ?? 0
    if (received > 1) arena[at] = (arena[at] ?? 0) ^ 1
    return count
  }
  t.match(testSockets(createKernel({ recv })), {
    runs: { kind: 'failed', reason: /^128 packets in one send arrived as \d+$/ },
  })
  t.same(leftovers(), before)
})

t.test('a loopback that swallows everything, in bounded time', async (t) => {
  const start = performance.now()
  const wait: typeof native.wait = (_fds, _revents, _spinUs, timeoutMs) => {
    t.ok(timeoutMs > 0 && timeoutMs <= 50, `waits ${timeoutMs} ms`)
    return native.wait(Int32Array.of(-1), new Int32Array(1), 0, timeoutMs)
  }
  const reason = 'nothing passes the loopback'
  t.match(testSockets(createKernel({ wait })), {
    runs: { kind: 'unknown', reason },
    maxRun: 63,
    trains: { kind: 'unknown', reason },
  })
  t.ok(performance.now() - start < 1000, 'far below a second')
})

t.test('a loopback that is slow says nothing about the kernel', { skip }, async (t) => {
  let left = 3
  const wait: typeof native.wait = (fds, revents, spinUs, timeoutMs) => {
    const isPast = --left < 0
    return native.wait(isPast ? Int32Array.of(-1) : fds, revents, spinUs, timeoutMs)
  }
  // A row at a time: the single packet and two of the run arrive in time.
  const recv: typeof native.recv = (fd, arena, columns, _capacity, room, socket) => {
    const one = Int32Array.from({ length: BATCH_COLUMN_COUNT }, (_, i) =>
      i === 0 ? columns[0]! : 0,
    )
    const count = native.recv(fd, arena, one, 1, room, socket)
    for (let i = 1; i < one.length; i++) columns[i * (columns.length / one.length)] = one[i]!
    return count
  }
  t.match(testSockets(createKernel({ wait, recv })), {
    runs: { kind: 'unknown', reason: '128 packets in one send arrived as 2' },
    maxRun: 63,
    trains: { kind: 'unknown', reason: 'there is no train to send' },
  })
})

t.test('sockets that cannot be had', async (t) => {
  const before = leftovers()
  let opened = 0
  const bind: typeof native.bind = (...args) => {
    if (++opened === 2) throw createFault('EADDRINUSE', 98, 'bind')
    native.bind(...args)
  }
  const reason = 'EADDRINUSE (bind)'
  t.match(testSockets(createKernel({ bind })), {
    runs: { kind: 'unknown', reason },
    trains: { kind: 'unknown', reason },
  })
  t.same(leftovers(), before, 'the one that was opened is closed')
})
