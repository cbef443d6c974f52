import { constants as os } from 'node:os'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { native } from './native.js'

const { POLLIN } = native.constants

/** A descriptor number that no process ever reaches (fs.nr_open is smaller). */
const CLOSED_FD = 2 ** 31 - 1

t.test('wait', (t) => {
  const fds = Int32Array.of(native.eventfd(), -1, native.eventfd())
  const revents = new Int32Array(3)
  const [first, , last] = fds as unknown as [number, number, number]
  t.teardown(() => {
    native.close(first)
    native.close(last)
  })

  t.test('returns 0 when the time is over, with and without spinning', (t) => {
    for (const spinUs of [0, 2000]) {
      const before = performance.now()
      revents.fill(7)
      t.equal(native.wait(fds, revents, spinUs, 20), 0)
      const took = performance.now() - before
      t.ok(took >= 19, `slept ${took} ms`)
      t.same([...revents], [0, 0, 0])
    }
    t.equal(native.wait(fds, revents, 1_000_000, 0), 0, 'a look does not spin')
    t.end()
  })

  t.test('tells which descriptor is ready, until it is drained', (t) => {
    native.signal(last)
    native.signal(last)
    t.equal(native.wait(fds, revents, 0, 1000), 1)
    t.same([...revents], [0, 0, POLLIN])
    native.signal(first)
    t.equal(native.wait(fds, revents, 50, 1000), 2)
    t.same([...revents], [POLLIN, 0, POLLIN])
    t.equal(native.drain(first), true)
    t.equal(native.drain(last), true)
    t.equal(native.drain(last), false)
    t.equal(native.wait(fds, revents, 0, 0), 0)
    t.end()
  })

  t.test('a closed descriptor is an error', (t) => {
    t.throws(() => native.wait(Int32Array.of(first, CLOSED_FD), revents, 0, 0), {
      code: 'EBADF',
      errno: -os.errno.EBADF,
      syscall: 'poll',
    })
    t.end()
  })
  t.end()
})

t.test('a worker sleeps in wait and the main thread wakes it', async (t) => {
  const fd = native.eventfd()
  const loader = new URL('./native.js', import.meta.url).href
  const source = `
    import { parentPort } from 'node:worker_threads'
    import { native } from ${JSON.stringify(loader)}
    parentPort.postMessage('waiting')
    const ready = native.wait(Int32Array.of(${fd}), new Int32Array(1), 50, 60000)
    parentPort.postMessage({ ready, drained: native.drain(${fd}) })
  `
  const url = new URL(`data:text/javascript,${encodeURIComponent(source)}`)
  for (let round = 0; round < 2; round++) {
    const worker = new Worker(url, { execArgv: [] })
    const messages: unknown[] = []
    let signalledAt = 0
    await new Promise<void>((resolve, reject) => {
      worker.once('error', reject)
      worker.once('exit', () => {
        resolve()
      })
      worker.on('message', (message) => {
        messages.push(message)
        if (message === 'waiting') {
          setTimeout(() => {
            signalledAt = performance.now()
            native.signal(fd)
          }, 30)
        }
      })
    })
    t.same(messages, ['waiting', { ready: 1, drained: true }])
    t.ok(performance.now() - signalledAt < 30_000, 'long before the wait ends by itself')
  }
  native.close(fd)
})
