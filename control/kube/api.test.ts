/**
 * The client against servers that answer badly: late, by halves, with garbage, with too much.
 */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { openAccess } from './access.js'
import { KubeApi } from './api.js'
import { splitLines } from './lines.js'

const { signal } = new AbortController()
/** For servers that answer, however slow the machine is, and for those that do not. */
const LONG = { answerMs: 20_000, silenceMs: 20_000 }
const SHORT = { answerMs: 300, silenceMs: 300 }

async function apiOf(t: Test, listener: RequestListener, times = LONG): Promise<KubeApi> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const apiUrl = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/prefix/`
  const options = { apiUrl, kubeconfigFile: null, serviceHost: '', servicePort: '' }
  return new KubeApi(await openAccess(options), times)
}

async function events(api: KubeApi): Promise<unknown[]> {
  const seen: unknown[] = []
  for await (const event of api.watch('/w', () => seen.push('open'), signal)) seen.push(event)
  return seen
}

t.test('a request, its path and its patch', async (t) => {
  const seen: string[] = []
  const api = await apiOf(t, (request, response) => {
    let body = ''
    request.on('data', (part: Buffer) => (body += part.toString()))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      seen.push([method, url, headers['content-type'] ?? '', body].join(' '))
      response.end('{"a":1}')
    })
  })
  t.same(await api.get('/api/v1/nodes?a=b%26c', signal), { a: 1 })
  await api.patch('/api/v1/nodes/n/status', { b: 'ü' }, signal)
  t.same(seen, [
    'GET /prefix/api/v1/nodes?a=b%26c  ',
    'PATCH /prefix/api/v1/nodes/n/status application/strategic-merge-patch+json {"b":"ü"}',
  ])
})

t.test('answers that are none', async (t) => {
  const cases: readonly [string, RequestListener, RegExp][] = [
    ['garbage', (_q, r) => r.end('<html>'), /\/x: the answer is no JSON/],
    ['never', () => undefined, /\/x: no answer within 300 ms/],
    ['half', (_q, r) => r.write('{"a":'), /\/x: nothing came for too long/],
    ['cut', (_q, r) => r.write('{"a":', () => r.destroy()), /\/x: /],
    ['hung up', (q) => q.socket.destroy(), /\/x: socket hang up/],
    [
      'another protocol',
      (q) => q.socket.write('HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n'),
      /\/x: the connection was closed/,
    ],
    [
      'too much',
      (_q, r) => r.end(`{"a":"${'x'.repeat(17 << 20)}"}`),
      /\/x: an object of more than 16777216 bytes/,
    ],
    [
      'a Status',
      (_q, r) => r.writeHead(403).end('{"kind":"Status","message":"no"}'),
      /GET \/x: 403 no; the service account needs the ClusterRole/,
    ],
    [
      'a page',
      (_q, r) => r.writeHead(502).end(`<b>\n${'x'.repeat(999)}`),
      /GET \/x: 502 <b> x{296}$/,
    ],
    ['moved', (_q, r) => r.writeHead(302, { location: '/y' }).end(), /GET \/x: 302/],
  ]
  for (const [name, listener, message] of cases) {
    const isSilent = ['never', 'half'].includes(name)
    const api = await apiOf(t, listener, isSilent ? SHORT : LONG)
    const wanted = { code: 'HEDDLE_STORE', retryable: true, message }
    await t.rejects(api.get('/x?limit=1', signal), wanted, name)
  }
  const gone = new AbortController()
  const api = await apiOf(t, () => {
    gone.abort()
  })
  await t.rejects(api.get('/x', gone.signal), { name: 'AbortError' })
})

t.test('watches that end', async (t) => {
  const line = '{"type":"ADDED","object":{"name":"ü"}}\n'
  const parsed = { type: 'ADDED', object: { name: 'ü' } }
  t.same(await events(await apiOf(t, (_q, r) => r.end(line + line))), ['open', parsed, parsed])
  t.same(await events(await apiOf(t, (_q, r) => r.write(line), SHORT)), ['open', parsed], 'silent')
  const garbage = await apiOf(t, (_q, r) => r.end(`${line}oops\n`))
  await t.rejects(events(garbage), { code: 'HEDDLE_STORE', message: /no JSON/ })
  const cut = await apiOf(t, (_q, r) => r.write(line, () => r.destroy()))
  await t.rejects(events(cut), { code: 'HEDDLE_STORE' })
  const refused = await apiOf(t, (_q, r) => r.writeHead(410).end('{"message":"old"}'))
  await t.rejects(events(refused), { status: 410, message: /old/ })
})

t.test('lines however they are cut, and none that is too long', async (t) => {
  const bytes = Buffer.from('eins\n\nzwei ü\ndrei')
  for (let size = 1; size <= bytes.length; size++) {
    const lines: string[] = []
    const pieces = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
    }
    for await (const text of splitLines(pieces(), 10)) lines.push(text)
    t.same(lines, ['eins', 'zwei ü'], `${String(size)} bytes at a time`)
  }
  const endless = async function* () {
    for (;;) yield Buffer.alloc(4)
  }
  await t.rejects(async () => {
    for await (const text of splitLines(endless(), 10)) t.fail(text)
  }, /more than 10 bytes/)
})
