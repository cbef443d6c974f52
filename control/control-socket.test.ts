/**
 * The status over its unix socket: who answers what, and how a reader tells that nobody does.
 */
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { STATUS } from './status-fixture.js'
import { askForReload, readStatus, serveControl, socketPath } from './control-socket.js'
import type { Reload } from './orders.js'
import type { Status } from './status.js'

async function place(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-status-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return join(folder, 'subnet.env')
}

function get(socket: string, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ socketPath: socket, path }, (res) => {
      res.resume()
      resolve(res.statusCode)
    })
      .on('error', reject)
      .end()
  })
}

const NO_RELOAD: Reload = { whyNot: async () => 'not here', begin: () => undefined }

t.test('read while it is served', async (t) => {
  const file = await place(t)
  const socket = socketPath(file)
  writeFileSync(socket, 'left over by a daemon that was killed')
  let status: Status | null = null
  const server = await serveControl(file, () => status, NO_RELOAD)
  t.teardown(() => server.close())
  t.equal((statSync(socket).mode & 0o777).toString(8), '600', 'root only')
  await t.rejects(readStatus(file), { code: 'HEDDLE_DEVICE', message: /it is still starting/ })
  status = STATUS
  t.same(await readStatus(file), STATUS)
  t.equal(await get(socket, '/status'), 200)
  t.equal(await get(socket, '/'), 404)
})

t.test('closed: the socket is gone', async (t) => {
  const file = await place(t)
  const server = await serveControl(file, () => STATUS, NO_RELOAD)
  await readStatus(file)
  await new Promise((resolve) => server.close(resolve))
  t.notOk(existsSync(socketPath(file)))
  await t.rejects(readStatus(file), {
    code: 'HEDDLE_DEVICE',
    message: /no daemon answers on .*\.sock: the socket does not exist; is heddled running/,
  })
})

t.test('nobody behind the socket', async (t) => {
  const file = await place(t)
  writeFileSync(socketPath(file), '')
  await t.rejects(readStatus(file), { code: 'HEDDLE_DEVICE', message: /ECONNREFUSED|ENOTSOCK/ })
})

t.test('somebody else behind the socket', async (t) => {
  const file = await place(t)
  const answers = [
    'garbage\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{"a',
    'HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n{"a',
    '',
  ]
  for (const said of answers) {
    const server = createServer((connection) => {
      connection.once('data', () => connection.end(said))
    })
    await new Promise<void>((resolve) => server.listen(socketPath(file), resolve))
    await t.rejects(readStatus(file), { code: 'HEDDLE_DEVICE' }, JSON.stringify(said))
    await new Promise((resolve) => server.close(resolve))
  }
})

t.test('a place where no socket can be', async (t) => {
  const long = join(await place(t), 'x'.repeat(120), 'subnet.env')
  await t.rejects(
    serveControl(long, () => null, NO_RELOAD),
    {
      code: 'HEDDLE_DEVICE',
      message: /cannot open the control socket/,
    },
  )
})

t.test('a reload that is begun, and one that is refused', async (t) => {
  const file = await place(t)
  let why: string | null = 'the store is not reachable'
  let begun = 0
  const server = await serveControl(file, () => STATUS, {
    whyNot: async () => why,
    begin: () => {
      begun++
    },
  })
  t.teardown(() => server.close())
  t.equal(await askForReload(file), why)
  t.equal(begun, 0)
  why = null
  t.equal(await askForReload(file), null)
  t.equal(begun, 1)
  t.equal(await get(socketPath(file), '/reload'), 404, 'not by a GET')
  t.equal(begun, 1)
})
