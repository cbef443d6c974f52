import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { sendUnixDatagram } from '../dataplane/index.js'
import { createNotify } from './sd-notify.js'

function record() {
  const sent: string[] = []
  const send = (path: Uint8Array, payload: Uint8Array) =>
    void sent.push(`${Buffer.from(path).toString('latin1')}|${Buffer.from(payload).toString()}`)
  return { sent, send }
}

t.test('addresses', (t) => {
  const cases: readonly [string | undefined, string | null][] = [
    [undefined, null],
    ['', null],
    ['/run/systemd/notify', '/run/systemd/notify|READY=1'],
    ['@/org/heddle', '\0/org/heddle|READY=1'],
    [`/${'x'.repeat(106)}`, `/${'x'.repeat(106)}|READY=1`],
  ]
  for (const [socket, want] of cases) {
    const { sent, send } = record()
    t.equal(createNotify(socket, send)('READY=1'), null)
    t.same(sent, want === null ? [] : [want], String(socket))
  }
  for (const socket of ['run/notify', 'vsock:2:1234', '@', '/', `/${'x'.repeat(107)}`]) {
    const { sent, send } = record()
    t.match(createNotify(socket, send)('READY=1'), 'is no unix socket', socket)
    t.same(sent, [])
  }
  t.end()
})

t.test('nobody listens', (t) => {
  const notify = createNotify(join(t.testdir(), 'none'), sendUnixDatagram)
  t.match(notify('READY=1'), /^NOTIFY_SOCKET=.*ENOENT/)
  t.end()
})

const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0'))
s.settimeout(10)
print('bound', flush=True)
for _ in range(2):
    print(s.recv(4096).decode(), flush=True)
`
const hasPython = spawnSync('python3', ['--version']).status === 0

t.test(
  'a service manager hears it',
  { skip: hasPython ? false : 'needs python3 to receive unix datagrams' },
  async (t) => {
    for (const socket of [join(t.testdir(), 's'), `@heddle-test-${process.pid}`]) {
      const receiver = spawn('python3', ['-c', RECEIVER, socket])
      t.teardown(() => receiver.kill())
      let heard = ''
      receiver.stdout.setEncoding('utf8').on('data', (text: string) => (heard += text))
      await once(receiver.stdout, 'data')
      const notify = createNotify(socket, sendUnixDatagram)
      t.equal(notify('READY=1'), null)
      t.equal(notify('STATUS=two peers'), null)
      await once(receiver, 'close')
      t.equal(heard, 'bound\nREADY=1\nSTATUS=two peers\n')
    }
  },
)
