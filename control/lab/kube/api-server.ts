/**
 * A stand-in for kube-apiserver, which Debian does not have as a package: nodes and pods, bearer tokens, list with
 * pages, watch with bookmarks, patches of the status. The same tests run against a real one, see docs/KUBERNETES.md.
 *
 *     api-server.js --address=127.0.0.1 --port=6443 --cert=FILE --key=FILE --tokens=FILE --data=FILE
 *
 * `--tokens` is a CSV as kube-apiserver's --token-auth-file: token, user, uid. What a user may do: `system:admin`
 * everything, others what the ClusterRole of docs/kubernetes grants.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { parseArgs } from 'node:util'
import { KubeObjects, ObjectConflict, type Change, type KubeObject } from './objects.js'

/** Time between bookmarks, ms; kube-apiserver's is a minute. */
const BOOKMARK_MS = 1000

const { values: options } = parseArgs({
  options: {
    address: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    cert: { type: 'string', default: '' },
    key: { type: 'string', default: '' },
    tokens: { type: 'string', default: '' },
    data: { type: 'string', default: '' },
  },
})

interface Saved {
  readonly version: number
  readonly objects: readonly KubeObject[]
}

const users = new Map(
  readFileSync(options.tokens, 'utf8')
    .split('\n')
    .map((line) => line.split(','))
    .map(([token = '', user = '']) => [`Bearer ${token}`, user]),
)
const saved: Record<string, Saved> = existsSync(options.data)
  ? (JSON.parse(readFileSync(options.data, 'utf8')) as Record<string, Saved>)
  : {}
const resources = new Map(
  ['nodes', 'pods'].map((name) => [
    name,
    new KubeObjects(saved[name] ?? { version: 1, objects: [] }),
  ]),
)

/** What is there stays over a stop in order. */
function save(): void {
  const all: Record<string, Saved> = {}
  for (const [name, objects] of resources) {
    all[name] = { version: objects.version, objects: objects.list() }
  }
  writeFileSync(`${options.data}.new`, JSON.stringify(all))
  renameSync(`${options.data}.new`, options.data)
}

/** An answer that is no object. */
class Refusal extends Error {
  readonly code: number
  readonly reason: string

  constructor(code: number, reason: string, message: string) {
    super(message)
    this.code = code
    this.reason = reason
  }

  status(): object {
    const { code, reason, message } = this
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      code,
    }
  }
}

interface Target {
  readonly resource: string
  readonly objects: KubeObjects
  readonly name: string | null
  readonly subresource: string | null
}

/** `/api/v1/nodes[/NAME[/status]]`, `/api/v1/namespaces/NS/pods[/NAME]`; names of pods are unique over all. */
function targetOf(path: string): Target {
  const match = /^\/api\/v1(?:\/namespaces\/[^/]+)?\/(\w+)(?:\/([^/]+)(?:\/(\w+))?)?$/.exec(path)
  const [, resource = '', name, subresource] = match ?? []
  const objects = resources.get(resource)
  if (objects === undefined) {
    throw new Refusal(404, 'NotFound', 'the server could not find the requested resource')
  }
  return {
    resource,
    objects,
    name: name === undefined ? null : decodeURIComponent(name),
    subresource: subresource ?? null,
  }
}

function authorize(request: IncomingMessage, { resource, name, subresource }: Target): void {
  const user = users.get(request.headers.authorization ?? '')
  if (user === undefined) throw new Refusal(401, 'Unauthorized', 'Unauthorized')
  const isReading = request.method === 'GET'
  const isGranted =
    resource === 'nodes'
      ? (isReading && subresource === null) ||
        (request.method === 'PATCH' && subresource === 'status')
      : isReading && name !== null
  if (user === 'system:admin' || isGranted) return
  const verb = { GET: 'get', PATCH: 'patch', POST: 'create', DELETE: 'delete' }[
    request.method ?? ''
  ]
  throw new Refusal(
    403,
    'Forbidden',
    `${resource} "${name ?? ''}" is forbidden: User "${user}" cannot ${String(verb)} resource "${resource}" in API group "" at the cluster scope`,
  )
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return JSON.parse(Buffer.concat(parts).toString('utf8'))
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'https://server')
  const target = targetOf(url.pathname)
  authorize(request, target)
  const { objects, name, resource } = target
  const reply = (code: number, body: object): void => {
    response
      .writeHead(code, { 'content-type': 'application/json' })
      .end(`${JSON.stringify(body)}\n`)
  }
  if (name === null) {
    if (request.method === 'POST') reply(201, objects.create((await bodyOf(request)) as KubeObject))
    else if (url.searchParams.get('watch') === 'true') watch(objects, url.searchParams, response)
    else reply(200, page(resource, objects, url.searchParams))
    return
  }
  const object = objects.get(name)
  if (object === null) throw new Refusal(404, 'NotFound', `${resource} "${name}" not found`)
  if (request.method === 'PATCH') {
    if (request.headers['content-type'] !== 'application/strategic-merge-patch+json') {
      throw new Refusal(415, 'UnsupportedMediaType', 'this stand-in merges strategically alone')
    }
    reply(200, objects.patch(object, await bodyOf(request)))
  } else if (request.method === 'DELETE') reply(200, objects.remove(object))
  else reply(200, object)
}

/**
 * A list as kube-apiserver gives it: with version 0 everything from the cache; with another one without a limit
 * everything, not older than that; with both exactly that version; with neither the newest, by pages.
 */
function page(resource: string, objects: KubeObjects, query: URLSearchParams): object {
  const version = Number(query.get('resourceVersion') ?? 0)
  const limit = query.get('resourceVersion') === '0' ? 0 : Number(query.get('limit') ?? 0)
  if (version > objects.version) {
    throw new Refusal(504, 'Timeout', `Too large resource version: ${String(version)}`)
  }
  const isExact = version > 0 && limit > 0
  const all = isExact ? objects.at(version) : objects.list()
  if (all === null) throw new Refusal(410, 'Expired', 'The provided resource version is too old')
  const from = Number(query.get('continue') ?? 0)
  const to = limit > 0 ? Math.min(from + limit, all.length) : all.length
  const resourceVersion = String(isExact ? version : objects.version)
  const more = to < all.length ? { continue: String(to) } : {}
  const kind = resource === 'nodes' ? 'NodeList' : 'PodList'
  return {
    kind,
    apiVersion: 'v1',
    metadata: { resourceVersion, ...more },
    items: all.slice(from, to),
  }
}

function watch(objects: KubeObjects, query: URLSearchParams, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.flushHeaders()
  let told = Number(query.get('resourceVersion') ?? 0)
  const write = (type: string, object: object): void => {
    response.write(`${JSON.stringify({ type, object })}\n`)
  }
  const tell = (): void => {
    const changes: Change[] | null = objects.since(told)
    if (changes === null) {
      const message = `too old resource version: ${String(told)} (${String(objects.version)})`
      write('ERROR', new Refusal(410, 'Expired', message).status())
      response.end()
      return
    }
    for (const { type, version, object } of changes) {
      write(type, object)
      told = version
    }
  }
  const bookmark = (): void => {
    const metadata = { resourceVersion: String(objects.version), creationTimestamp: null }
    write('BOOKMARK', { kind: 'Node', apiVersion: 'v1', metadata, spec: {}, status: {} })
  }
  const bookmarks =
    query.get('allowWatchBookmarks') === 'true' ? setInterval(bookmark, BOOKMARK_MS) : undefined
  const end = setTimeout(() => response.end(), Number(query.get('timeoutSeconds') ?? 1800) * 1000)
  const stopListening = objects.onChange(tell)
  response.on('close', () => {
    stopListening()
    clearInterval(bookmarks)
    clearTimeout(end)
  })
  tell()
}

const tls = { cert: readFileSync(options.cert), key: readFileSync(options.key) }
const server = createServer(tls, (request, response) => {
  answer(request, response).catch((error: unknown) => {
    const refusal =
      error instanceof Refusal
        ? error
        : error instanceof ObjectConflict
          ? new Refusal(409, 'AlreadyExists', error.message)
          : new Refusal(400, 'BadRequest', String(error))
    response.writeHead(refusal.code, { 'content-type': 'application/json' })
    response.end(`${JSON.stringify(refusal.status())}\n`)
  })
})
server.listen(Number(options.port), options.address)
process.on('SIGTERM', () => {
  save()
  process.exit(0)
})
