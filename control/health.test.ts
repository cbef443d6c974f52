import { request } from 'node:http'
import { connect } from 'node:net'
import t from 'tap'
import { startHealthServer } from './health.js'

const AT = { ip: '127.0.0.1', port: 0 }

/** Status and body, as text. */
function ask(port: number, path: string, method = 'GET', host = '127.0.0.1'): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = request({ host, port, path, method, agent: false }, (res) => {
      let body = ''
      res.setEncoding('utf8')
      res.on('data', (chunk: string) => (body += chunk))
      res.on('end', () => {
        resolve(`${String(res.statusCode)} ${body}`)
      })
    })
    req.on('error', reject)
    req.end()
  })
}

t.test('paths, codes, bodies', async (t) => {
  let isReady = false
  const server = await startHealthServer(AT, () => isReady)
  t.teardown(() => server.close())
  t.equal(await ask(server.port, '/healthz'), '200 flanneld is running')
  t.equal(await ask(server.port, '/readyz'), '503 flanneld is not ready yet')
  isReady = true
  t.equal(await ask(server.port, '/readyz'), '200 flanneld is ready')
  t.equal(await ask(server.port, '/readyz?verbose'), '200 flanneld is ready')
  t.equal(await ask(server.port, '/healthz', 'POST'), '200 flanneld is running')
  t.equal(await ask(server.port, '/healthz', 'HEAD'), '200 ')
  for (const path of ['/', '/healthz/', '/healthzz', '/metrics', '/%zz']) {
    t.match(await ask(server.port, path), /^404 /, path)
  }
})

t.test('IPv6', async (t) => {
  const server = await startHealthServer({ ip: '::1', port: 0 }, () => true)
  t.equal(await ask(server.port, '/readyz', 'GET', '::1'), '200 flanneld is ready')
  await server.close()
})

t.test('cannot listen', async (t) => {
  const server = await startHealthServer(AT, () => true)
  t.teardown(() => server.close())
  const port = server.port
  await t.rejects(
    startHealthServer({ ...AT, port }, () => true),
    {
      code: 'HEDDLE_BUSY',
      message: new RegExp(`127.0.0.1 port ${port}: the port is taken`),
    },
  )
  await t.rejects(
    startHealthServer({ ip: '192.0.2.77', port: 0 }, () => true),
    {
      code: 'HEDDLE_USAGE',
      message: /EADDRNOTAVAIL.*set --healthz-ip/,
    },
  )
})

t.test('garbage on the port does no harm', async (t) => {
  const server = await startHealthServer(AT, () => true)
  const client = connect(server.port, '127.0.0.1')
  const closed = new Promise((resolve) => client.on('close', resolve))
  client.on('error', () => undefined)
  client.resume()
  client.write('\0\xff garbage\r\n\r\n')
  await closed
  t.equal(await ask(server.port, '/healthz'), '200 flanneld is running')
  await server.close()
})

t.test('stops at once when idle, within its limit otherwise', async (t) => {
  const idle = await startHealthServer(AT, () => true)
  await ask(idle.port, '/healthz')
  const started = performance.now()
  await idle.close()
  t.ok(performance.now() - started < 1000, 'idle')

  const busy = await startHealthServer(AT, () => true)
  const client = connect(busy.port, '127.0.0.1')
  client.on('error', () => undefined)
  client.resume()
  await new Promise((resolve) => client.write('GET /healthz HTTP/1.1\r\n', resolve))
  await ask(busy.port, '/healthz')
  const stopping = performance.now()
  await busy.close()
  const took = performance.now() - stopping
  t.ok(took < 3800, `a request that never ends: ${took.toFixed(0)} ms`)
  client.destroy()
  await t.rejects(ask(busy.port, '/healthz'), { code: 'ECONNREFUSED' })
})
