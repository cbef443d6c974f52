/**
 * Following the nodes: list, then watch from the list's version, for as long as asked.
 *
 * The server ends a watch after some minutes, and a connection that is silent for too long is given up; either way
 * the watch goes on behind the last version seen. A list comes again only when the server has forgotten that version,
 * or says something else of it. Lists come from the server's cache, but none that is older than what was seen.
 */
import { describeError, HeddleError } from '../errors.js'
import { sleep } from '../store/abort.js'
import { BACKOFF_MIN_MS, createBackoff } from '../store/backoff.js'
import type { Reachability } from '../store/reachability.js'
import type { StoreEvent } from '../store/store.js'
import { KubeRefusal, type KubeApi } from './api.js'
import { objectOf, readNode, textOf, type KubeNode } from './node.js'
import type { NodeTable } from './node-table.js'

export const NODES = '/api/v1/nodes'

/** Nodes a page, as client-go; a list from a cache is one page. */
const PAGE = 500
/** How long the server keeps a watch, seconds: from this to the double, as client-go, so that hosts part. */
const WATCH_S = 300
/** A watch that ends sooner is no good one, ms. */
const SHORT_MS = 1000
/** Watches in a row that break at once and before anything came, by which a server counts as away. */
const BROKEN = 3
/** Longest pause between attempts, ms, as client-go: a cluster has thousands of hosts. */
const PAUSE_MS = 30_000

/** HTTP status; 410: that version is no longer kept, 504: it is not known yet. */
const UNAUTHORIZED = 401
const FORBIDDEN = 403
const GONE = 410
const TOO_MANY = 429
const TOO_NEW = 504

export interface NodeWatchParts {
  readonly api: KubeApi
  readonly table: NodeTable
  readonly reachability: Reachability
}

interface WatchEvent {
  readonly type?: unknown
  readonly object?: unknown
}

/** Ends when the signal fires; never throws. */
export async function* watchNodes(
  { api, table, reachability }: NodeWatchParts,
  signal: AbortSignal,
): AsyncGenerator<StoreEvent, void, undefined> {
  const backoff = createBackoff(BACKOFF_MIN_MS, PAUSE_MS)
  /** Of the last object or bookmark seen. */
  let version = '0'
  let isListDue = true
  /** Whether the list has to be the newest, whatever that costs the server. */
  let isNewest = false
  let broken = 0
  const up = (): void => {
    reachability.up('Kubernetes API')
  }
  while (!signal.aborted) {
    let openedAt = Infinity
    let pauseMs = 0
    try {
      if (isListDue) {
        const list = await listNodes(api, isNewest ? '' : `&resourceVersion=${version}`, signal)
        up()
        version = list.version
        isListDue = false
        isNewest = false
        yield table.reset(list.nodes)
      }
      const onOpen = (): void => {
        openedAt = performance.now()
        if (broken < BROKEN) up()
      }
      for await (const event of api.watch(watchPath(version), onOpen, signal)) {
        const { type, object }: WatchEvent = objectOf(event) ?? {}
        if (type === 'ERROR') throw refusalOf(object)
        const node = readNode(object)
        if (type === 'ADDED' || type === 'MODIFIED') yield* node === null ? [] : table.put(node)
        if (type === 'DELETED' && node !== null) yield* table.remove(node.name)
        // A bookmark is an object without a name.
        version = versionOf(object) || version
        broken = 0
        up()
      }
    } catch (error) {
      if (isStopped(signal)) return
      const isOpen = openedAt !== Infinity
      const status = error instanceof KubeRefusal ? error.status : 0
      const isRefusal = error instanceof KubeRefusal
      if (isRefusal) pauseMs = error.pauseMs
      // A version that is forgotten is no fault of the server's; one that it cannot list is.
      const isForgotten = status === GONE && !isListDue
      if (isListDue && (status === GONE || status === TOO_NEW)) isNewest = true
      if (isRefusal && (isOpen || !isPassing(status))) isListDue = true
      if (isOpen && !isForgotten && performance.now() - openedAt < SHORT_MS) broken++
      if ((!isOpen && !isForgotten) || broken >= BROKEN) reachability.down(describeError(error))
    }
    if (performance.now() - openedAt >= SHORT_MS) backoff.reset()
    else await sleep(Math.max(backoff.next(), pauseMs), signal).catch(() => undefined)
  }
}

/** Whether a refusal says nothing of the version: a server that starts or is overloaded should not have to list. */
function isPassing(status: number): boolean {
  return status === UNAUTHORIZED || status === FORBIDDEN || status === TOO_MANY || status >= 500
}

function isStopped(signal: AbortSignal): boolean {
  return signal.aborted
}

function watchPath(version: string): string {
  const seconds = Math.round(WATCH_S * (1 + Math.random()))
  return `${NODES}?watch=true&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(version)}&timeoutSeconds=${String(seconds)}`
}

/**
 * All nodes.
 * @param from  `&resourceVersion=V` = from a cache, not older than V; empty = the newest, by pages
 */
async function listNodes(
  api: KubeApi,
  from: string,
  signal: AbortSignal,
): Promise<{ readonly nodes: readonly KubeNode[]; readonly version: string }> {
  const nodes: KubeNode[] = []
  let more = from
  for (;;) {
    const items = api.list(`${NODES}?limit=${String(PAGE)}${more}`, signal)
    let read = await items.next()
    for (; read.done !== true; read = await items.next()) {
      const node = readNode(read.value)
      if (node !== null) nodes.push(node)
    }
    const page = objectOf(read.value)
    // Whatever else answered, it must not stand for a cluster without nodes.
    if (page?.['kind'] !== 'NodeList' || versionOf(page) === '') {
      throw new HeddleError(
        'HEDDLE_STORE',
        `Kubernetes API: ${NODES}: the answer is no list of nodes`,
        { retryable: true },
      )
    }
    const next = textOf(objectOf(page['metadata'])?.['continue'])
    if (next === '') return { nodes, version: versionOf(page) }
    more = `&continue=${encodeURIComponent(next)}`
  }
}

function versionOf(object: unknown): string {
  return textOf(objectOf(objectOf(object)?.['metadata'])?.['resourceVersion'])
}

/** The Status object by which a server ends a watch. */
function refusalOf(object: unknown): KubeRefusal {
  const { code, message } = objectOf(object) ?? {}
  const status = typeof code === 'number' ? code : 0
  return new KubeRefusal(status, `Kubernetes API: ${NODES}: watch ended: ${textOf(message)}`)
}
