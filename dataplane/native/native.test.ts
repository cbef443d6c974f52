import { spawnSync } from 'node:child_process'
import { constants as flags, existsSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { constants as os, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { BATCH_COLUMNS, BATCH_COLUMN_COUNT } from '../packet/batch.js'
import { ENTRY_FIELDS, ENTRY_STRIDE } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import { isNativeError, native } from './native.js'

const { SOL_SOCKET, SO_RCVBUF } = native.constants

function packageRoot(from = dirname(fileURLToPath(import.meta.url))): string {
  return existsSync(join(from, 'package.json')) ? from : packageRoot(dirname(from))
}

function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd')
}

/** A descriptor number that no process ever reaches (fs.nr_open is smaller). */
const CLOSED_FD = 2 ** 31 - 1

t.test('the layouts are the ones that TypeScript has', (t) => {
  t.same({ ...native.columns }, BATCH_COLUMNS)
  t.same({ ...native.fields }, ENTRY_FIELDS)
  t.equal(native.layout.COLUMN_COUNT, BATCH_COLUMN_COUNT)
  t.equal(native.layout.ENTRY_STRIDE, ENTRY_STRIDE)
  t.equal(native.layout.VNET_HDR_LEN, VNET_HDR_LEN)
  t.equal(native.layout.NAME_SIZE, 32)
  t.end()
})

t.test('the sources compile without a warning', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-build-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const script = join(packageRoot(), 'dataplane/native/build.mjs')
  const out = join(folder, 'heddle.node')
  const first = spawnSync(process.execPath, [script, '--strict', '--out', out], {
    encoding: 'utf8',
  })
  t.equal(first.status, 0, first.stderr)
  t.ok(existsSync(out))
  const env = { ...process.env, CC: 'no-such-compiler' }
  t.equal(spawnSync(process.execPath, [script, '--out', out], { env }).status, 0, 'nothing to do')
  const failed = spawnSync(process.execPath, [script, '--out', out, '--force'], {
    env,
    encoding: 'utf8',
  })
  t.equal(failed.status, 1)
  t.match(failed.stderr, /no C compiler named "no-such-compiler"/)
  t.end()
})

t.test('failures carry errno, code and syscall', (t) => {
  const gone = CLOSED_FD
  const event = native.eventfd()
  const udp = native.udpSocket(4)
  const bytes = new Uint8Array(256)
  const columns = new Int32Array(BATCH_COLUMN_COUNT)
  const pieces = Int32Array.of(0, 1)
  const entries = new Int32Array(ENTRY_STRIDE)
  entries.set([0, 1, 0, -1])
  const cases: [string, () => unknown, string, string][] = [
    [
      'close',
      () => {
        native.close(gone)
      },
      'EBADF',
      'close',
    ],
    [
      'signal',
      () => {
        native.signal(gone)
      },
      'EBADF',
      'write',
    ],
    ['drain', () => native.drain(gone), 'EBADF', 'read'],
    [
      'bind',
      () => {
        native.bind(gone, '127.0.0.1', 0)
      },
      'EBADF',
      'getsockopt',
    ],
    [
      'connect',
      () => {
        native.connect(gone, '127.0.0.1', 9)
      },
      'EBADF',
      'getsockopt',
    ],
    ['localAddress', () => native.localAddress(gone), 'EBADF', 'getsockname'],
    [
      'setOption',
      () => {
        native.setOption(gone, 1, 2, 1)
      },
      'EBADF',
      'setsockopt',
    ],
    ['getOption', () => native.getOption(gone, 1, 2), 'EBADF', 'getsockopt'],
    ['receiveDrops', () => native.receiveDrops(gone), 'EBADF', 'getsockopt'],
    [
      'setTunOffload',
      () => {
        native.setTunOffload(gone, 0)
      },
      'EBADF',
      'ioctl TUNSETOFFLOAD',
    ],
    ['tunRead', () => native.tunRead(gone, bytes, columns, 1, 9, 0), 'EBADF', 'read'],
    ['recv', () => native.recv(gone, bytes, columns, 1, 9, 0), 'EBADF', 'recvmmsg'],
    [
      'send',
      () => native.send(Int32Array.of(gone), bytes, pieces, entries, 1, bytes),
      'EBADF',
      'sendmmsg',
    ],
    ['write', () => native.write(gone, bytes, pieces, entries, 1), 'EBADF', 'writev'],
    [
      'recv on no socket',
      () => native.recv(event, bytes, columns, 1, 9, 0),
      'ENOTSOCK',
      'recvmmsg',
    ],
    [
      'send on no socket',
      () => native.send(Int32Array.of(event), bytes, pieces, entries, 1, bytes),
      'ENOTSOCK',
      'sendmmsg',
    ],
    [
      'offload of no TUN',
      () => {
        native.setTunOffload(udp, 0)
      },
      'ENOTTY',
      'ioctl TUNSETOFFLOAD',
    ],
    [
      'an unknown option',
      () => {
        native.setOption(udp, 0, 9999, 1)
      },
      'ENOPROTOOPT',
      'setsockopt',
    ],
    [
      'a foreign address',
      () => {
        native.bind(udp, '192.0.2.1', 0)
      },
      'EADDRNOTAVAIL',
      'bind',
    ],
    [
      'an unknown device',
      () => {
        native.bind(udp, '0.0.0.0', 0, 'no-such-dev')
      },
      'ENODEV',
      'setsockopt SO_BINDTODEVICE',
    ],
  ]
  for (const [name, call, code, syscall] of cases) {
    const errno = -(os.errno as Readonly<Record<string, number>>)[code]!
    t.throws(call, { code, errno, syscall }, name)
  }
  native.close(event)
  native.close(udp)
  t.end()
})

t.test('isNativeError says no to other errors', (t) => {
  const fault = (call: () => unknown): unknown => {
    try {
      call()
    } catch (error) {
      return error
    }
    return undefined
  }
  const ours = fault(() => {
    native.close(CLOSED_FD)
  })
  t.equal(isNativeError(ours), true)
  t.equal(isNativeError(ours, 'EBADF'), true)
  t.equal(isNativeError(ours, 'EPERM'), false)
  for (const other of [
    new Error('plain'),
    'EBADF',
    null,
    { errno: -9, code: 'EBADF', syscall: 'close' },
    fault(() => {
      native.close(-1)
    }),
  ]) {
    t.equal(isNativeError(other), false)
  }
  t.end()
})

t.test('sockets', (t) => {
  t.test('bind and localAddress, both families', (t) => {
    for (const [family, address] of [
      [4, '127.0.0.1'],
      [6, '::1'],
    ] as const) {
      const fd = native.udpSocket(family)
      native.bind(fd, address, 0, 'lo')
      const local = native.localAddress(fd)
      t.match(local, { family, address })
      t.ok(local.port > 0)
      native.close(fd)
    }
    t.end()
  })

  t.test('an address of the other family is refused', (t) => {
    const fd = native.udpSocket(4)
    for (const address of ['::1', '', '127.0.0.1.', '127.1', 'localhost']) {
      t.throws(
        () => {
          native.bind(fd, address, 0)
        },
        { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' },
      )
    }
    t.throws(
      () => {
        native.bind(fd, '127.0.0.1\0', 0)
      },
      { code: 'ERR_INVALID_ARG_TYPE' },
    )
    t.throws(() => {
      native.bind(fd, '127.0.0.1', 0, 'sixteen-bytes-xy')
    }, /more than 15 bytes/)
    native.close(fd)
    t.end()
  })

  t.test('options', (t) => {
    const fd = native.udpSocket(4)
    native.setOption(fd, SOL_SOCKET, SO_RCVBUF, 50_000)
    t.equal(native.getOption(fd, SOL_SOCKET, SO_RCVBUF), 100_000, 'socket(7): doubled')
    t.equal(native.receiveDrops(fd), 0)
    native.close(fd)
    t.end()
  })

  t.test('a process that is started inherits no descriptor', (t) => {
    const opened = [native.eventfd(), native.udpSocket(4), native.rawSocket(4, 255, true)]
    const child = spawnSync('ls', ['/proc/self/fd'], { encoding: 'utf8' }).stdout.split('\n')
    for (const fd of opened) {
      t.notOk(child.includes(String(fd)), `descriptor ${fd}`)
      native.close(fd)
    }
    t.end()
  })
  t.end()
})

t.test('no call leaves a descriptor open, also when it fails', (t) => {
  const before = openDescriptors().length
  for (let i = 0; i < 50; i++) {
    native.close(native.eventfd())
    native.close(native.udpSocket(6))
    native.close(native.rawSocket(6, 59, false))
    t.throws(() => native.rawSocket(4, 256, true))
    t.throws(() => native.openTun('bad/name', false, false), { code: 'EINVAL' })
  }
  t.equal(openDescriptors().length, before)
  t.end()
})

t.test('write stops at a full queue and says so for the rest', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-fifo-'))
  const path = join(folder, 'fifo')
  spawnSync('mkfifo', [path])
  const fd = openSync(path, flags.O_RDWR | flags.O_NONBLOCK)
  t.teardown(() => {
    native.close(fd)
    rmSync(folder, { recursive: true })
  })
  const bytes = new Uint8Array(4096)
  const pieces = Int32Array.of(0, 2048, 2048, 2048)
  const entries = new Int32Array(20 * ENTRY_STRIDE)
  for (let i = 0; i < 20; i++) {
    entries.set([0, 2, 0, -1, 99], i * ENTRY_STRIDE)
  }
  t.equal(native.write(fd, bytes, pieces, entries, 20), 20, 'all have a result')
  const results = Array.from({ length: 20 }, (_, i) => entries[i * ENTRY_STRIDE + 4])
  t.same(results.slice(0, 16), Array(16).fill(0), 'a pipe holds 16 pages (pipe(7))')
  t.same(results.slice(16), Array(4).fill(os.errno.EAGAIN))
  t.end()
})
