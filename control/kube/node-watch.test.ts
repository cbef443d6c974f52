/**
 * The loop of list and watch against servers that answer as no Kubernetes would on a good day: what is asked of them, how
 * often, and that no answer stands for an empty cluster.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { parseNetworkConfig } from '../network-config.js'
import { EventRecorder } from '../store/event-recorder.js'
import { parseSubnetKey } from '../subnet-key.js'
import { openAccess } from './access.js'
import { KubeApi } from './api.js'
import { NAMES } from './kube-fixture.js'
import { NodeTable } from './node-table.js'
import { watchNodes } from './node-watch.js'

t.setTimeout(30_000)

const nodeOf = (name: string, net: number, version: number) => ({
  metadata: {
    name,
    resourceVersion: String(version),
    annotations: { [NAMES.managed]: 'true', [NAMES.publicIP]: `192.0.2.${String(net)}` },
  },
  spec: { podCIDR: `10.244.${String(net)}.0/24` },
})

const listOf = (version: string, nodes: readonly object[], more: object = {}) => ({
  kind: 'NodeList',
  metadata: { resourceVersion: version, ...more },
  items: nodes,
})

/** Answers requests in order, the last one again and again. */
async function follow(t: Test, answers: readonly ((response: ServerResponse) => void)[]) {
  const asked: string[] = []
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const { searchParams } = new URL(request.url ?? '', 'http://x')
    searchParams.delete('timeoutSeconds')
    searchParams.delete('allowWatchBookmarks')
    const answer = answers[Math.min(asked.length, answers.length - 1)]
    asked.push(decodeURIComponent(searchParams.toString()))
    answer?.(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const apiUrl = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`
  const access = { apiUrl, kubeconfigFile: null, serviceHost: '', servicePort: '' }
  const api = new KubeApi(await openAccess(access), { answerMs: 5000, silenceMs: 5000 })
  const told: string[] = []
  const table = new NodeTable({
    names: NAMES,
    families: parseNetworkConfig('{"Network":"10.244.0.0/16"}', 'assigned'),
    own: { name: 'own', subnet: parseSubnetKey('10.244.0.0-24')!, onSeen: () => undefined },
    observer: {},
  })
  const reachability = {
    up: () => told.push('up'),
    down: (detail: string) => told.push(detail),
  }
  const recorder = new EventRecorder({
    watch: (signal) => watchNodes({ api, table, reachability }, signal),
  })
  t.teardown(async () => {
    await recorder.stop()
    server.closeAllConnections()
    server.close()
  })
  return { asked, told, recorder }
}

const json = (body: object) => (response: ServerResponse) => response.end(JSON.stringify(body))
const events = (...list: object[]) => {
  return (response: ServerResponse) =>
    response.end(list.map((e) => `${JSON.stringify(e)}\n`).join(''))
}
const refuse = (status: number) => (response: ServerResponse) =>
  response.writeHead(status).end('{"message":"no"}')
const keep = (response: ServerResponse) => {
  response.writeHead(200).flushHeaders()
}
const tooOld = { type: 'ERROR', object: { kind: 'Status', code: 410, message: 'too old' } }

t.test('a watch goes on behind what it has seen', async (t) => {
  const { asked, recorder } = await follow(t, [
    json(listOf('5', [nodeOf('a', 1, 3)])),
    events(
      { type: 'MODIFIED', object: nodeOf('a', 2, 6) },
      { type: 'BOOKMARK', object: { kind: 'Node', metadata: { resourceVersion: '9' } } },
      { type: 'SOMETHING', object: nodeOf('b', 7, 10) },
      { type: 'ADDED', object: 7 },
    ),
    events({ type: 'DELETED', object: nodeOf('a', 2, 11) }),
    keep,
  ])
  await recorder.line('delete 10.244.2.0-24')
  await recorder.until(() => asked.length === 4, 'the fourth request')
  t.same(recorder.lines, [
    'snapshot 10.244.1.0-24',
    'delete 10.244.1.0-24',
    'put 10.244.2.0-24',
    'delete 10.244.2.0-24',
  ])
  t.same(asked, [
    'limit=500&resourceVersion=0',
    'watch=true&resourceVersion=5',
    // What has no version does not change it.
    'watch=true&resourceVersion=10',
    'watch=true&resourceVersion=11',
  ])
})

t.test('a forgotten version means a list, by pages, and none that is older', async (t) => {
  for (const forgotten of [events(tooOld), refuse(410)]) {
    const { asked, told, recorder } = await follow(t, [
      json(listOf('5', [nodeOf('a', 1, 3)])),
      forgotten,
      json(listOf('8', [nodeOf('b', 2, 3)], { continue: 'x&y' })),
      json(listOf('8', [nodeOf('c', 3, 3)])),
      keep,
    ])
    await recorder.line('snapshot 10.244.2.0-24 10.244.3.0-24')
    await recorder.until(() => asked.length === 5, 'the watch')
    t.same(asked.slice(2), [
      'resourceVersion=5',
      'limit=500&continue=x&y',
      'watch=true&resourceVersion=8',
    ])
    t.same(new Set(told), new Set(['up']), 'which is no fault')
  }
})

t.test('a version that no server knows, after a restore: the newest list', async (t) => {
  for (const status of [410, 500, 504]) {
    const { asked, told, recorder } = await follow(t, [
      json(listOf('50', [nodeOf('a', 1, 3)])),
      events(tooOld),
      refuse(status),
      ...(status === 410 ? [] : [refuse(503), refuse(status)]),
      json(listOf('8', [nodeOf('b', 2, 3)])),
      keep,
    ])
    await recorder.line('snapshot 10.244.2.0-24')
    const wanted = ['resourceVersion=50', 'limit=500', 'watch=true&resourceVersion=8']
    t.same([...new Set(asked.slice(2))].slice(0, 2), wanted.slice(0, 2))
    t.match(told.join(), new RegExp(`up,.*${String(status)} no.*,up`))
  }
})

t.test('a server that is away at the start is asked for what its cache has', async (t) => {
  const { asked, recorder } = await follow(t, [
    refuse(500),
    refuse(500),
    refuse(500),
    json(listOf('5', [])),
  ])
  await recorder.ready()
  t.same(new Set(asked.slice(0, 4)), new Set(['limit=500&resourceVersion=0']))
})

t.test(
  'a server that takes watches and tells nothing counts as away, until one lasts',
  async (t) => {
    const garbage = (response: ServerResponse) => response.end('<html>\n')
    const nothing = (response: ServerResponse) => response.end()
    for (const [answer, said] of [
      [garbage, /no JSON/],
      [nothing, /ended at once/],
    ] as const) {
      const { told, recorder } = await follow(t, [
        json(listOf('5', [])),
        answer,
        answer,
        answer,
        answer,
        keep,
      ])
      await recorder.until(() => said.test(told.at(-1) ?? ''), 'away', 10_000)
      await recorder.until(() => told.at(-1) === 'up', 'back', 10_000)
    }
  },
)

t.test('a server that asks for a pause has it', async (t) => {
  const busy = (response: ServerResponse) =>
    response.writeHead(429, { 'retry-after': '3' }).end('{"message":"later"}')
  const { asked } = await follow(t, [busy])
  await pause(2000)
  t.equal(asked.length, 1)
})

t.test('a server that is busy need not list again', async (t) => {
  for (const status of [401, 403, 429, 500, 503]) {
    const { asked, told, recorder } = await follow(t, [
      json(listOf('5', [nodeOf('a', 1, 3)])),
      refuse(status),
      keep,
    ])
    await recorder.until(() => asked.length === 3 && told.length === 3, 'another watch')
    t.same(asked.slice(1), ['watch=true&resourceVersion=5', 'watch=true&resourceVersion=5'])
    t.match(told, ['up', new RegExp(`${String(status)} no`), 'up'])
    t.equal(recorder.events.length, 1)
  }
})

t.test('nothing else is a list', async (t) => {
  for (const answer of [
    json({}),
    json(listOf('', [])),
    json({ ...listOf('5', []), kind: 'Status' }),
    (response: ServerResponse) => response.end('[]'),
    (response: ServerResponse) => response.end(JSON.stringify(listOf('5', [])).slice(0, -4)),
  ]) {
    const { told, recorder } = await follow(t, [
      answer,
      json(listOf('7', [nodeOf('a', 1, 3)])),
      keep,
    ])
    await recorder.ready()
    t.same(recorder.lines, ['snapshot 10.244.1.0-24'])
    t.not(told[0] ?? 'up', 'up')
  }
})

t.test('however a server fails, it is not asked without a pause', async (t) => {
  for (const answer of [
    refuse(500),
    refuse(410),
    events(),
    events(tooOld),
    json(listOf('5', [])),
  ]) {
    const { asked, recorder } = await follow(t, [answer])
    const start = Date.now()
    await recorder.until(() => asked.length >= 3, 'more requests')
    await pause(1000)
    const seconds = Math.ceil((Date.now() - start) / 1000)
    t.ok(asked.length <= 12 * seconds, `${String(asked.length)} requests in ${String(seconds)} s`)
  }
})
