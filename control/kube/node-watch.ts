/**
 * Following the nodes: list, then watch from the list's version, for as long as asked.
 *
 * The server ends a watch after some minutes, and a connection that is silent for too long is given up; either way
 * the watch goes on behind the last version seen. A list comes again only when the server has forgotten that version,
 * or says something else of it. Lists come from the server's cache, but none that is older than what was seen; only where
 * that is refused the newest is asked for, which costs the server a read of all nodes.
 */
import { describeError, HeddleError } from '../errors.js'
import { isAborted, sleep } from '../store/abort.js'
import { BACKOFF_MIN_MS, createBackoff } from '../store/backoff.js'
import type { Reachability } from '../store/reachability.js'
import type { StoreEvent } from '../store/store.js'
import { KubeRefusal, type KubeApi } from './api.js'
import { objectOf, textOf } from './json.js'
import { readNode, type KubeNode } from './node.js'
import type { NodeTable } from './node-table.js'

export const NODES = '/api/v1/nodes'

/**
 * Nodes a page, as client-go. With a version a limit would mean exactly that version, which is what has been forgotten;
 * with version 0 the server pays no heed to it.
 */
const PAGE = 500
/** How long the server keeps a watch, seconds: from this to the double, as client-go, so that hosts part. */
const WATCH_S = 300
/** A watch that ends sooner is no good one, ms. */
const SHORT_MS = 1000
/** Watches in a row that end at once and before anything came, by which a server counts as away. */
const BROKEN = 3
/** Longest pause between attempts, ms, as client-go: a cluster has thousands of hosts. */
const PAUSE_MS = 30_000

/** HTTP status; 410: that version is no longer kept. */
const UNAUTHORIZED = 401
const FORBIDDEN = 403
const GONE = 410
const TOO_MANY = 429
const UNAVAILABLE = 503
/** Refusals of a list in a row after which its version is taken to be the reason: one that is not known yet, after a restore. */
const REFUSED = 2

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
  /** Lists with the version that were refused in a row. */
  let refused = 0
  let broken = 0
  const up = (): void => {
    reachability.up('Kubernetes API')
  }
  while (!signal.aborted) {
    let openedAt = Infinity
    let hasSeen = false
    let pauseMs = 0
    let fault = 'the watch ended at once'
    let isForgotten = false
    let settled: NodeJS.Timeout | undefined
    try {
      if (isListDue) {
        const isRefused = refused >= REFUSED && version !== '0'
        const list = await listNodes(api, isRefused ? null : version, signal)
        if (broken < BROKEN) up()
        version = list.version
        isListDue = false
        refused = 0
        yield table.reset(list.nodes)
      }
      const onOpen = (): void => {
        openedAt = performance.now()
        if (broken < BROKEN) up()
        else settled = setTimeout(up, SHORT_MS)
      }
      for await (const event of api.watch(watchPath(version), onOpen, signal)) {
        const { type, object }: WatchEvent = objectOf(event) ?? {}
        if (type === 'ERROR') throw refusalOf(object)
        const node = readNode(object)
        if (type === 'ADDED' || type === 'MODIFIED') yield* node === null ? [] : table.put(node)
        if (type === 'DELETED' && node !== null) yield* table.remove(node.name)
        // A bookmark is an object without a name.
        version = versionOf(object) || version
        hasSeen = true
        up()
      }
    } catch (error) {
      if (isAborted(signal)) return
      fault = describeError(error)
      const isOpen = openedAt !== Infinity
      if (error instanceof KubeRefusal) {
        const { status } = error
        pauseMs = error.pauseMs
        // A version that is forgotten is no fault of the server's; one that it cannot list is.
        isForgotten = status === GONE && !isListDue
        if (isListDue && !isBusy(status)) refused += status === GONE ? REFUSED : 1
        if (isOpen || !(isBusy(status) || status >= 500)) isListDue = true
      }
      if (!isOpen && !isForgotten) reachability.down(fault)
    } finally {
      clearTimeout(settled)
    }
    const lastedMs = performance.now() - openedAt
    if (hasSeen || lastedMs >= SHORT_MS) {
      broken = 0
      backoff.reset()
    } else if (openedAt !== Infinity && !isForgotten && ++broken >= BROKEN) {
      reachability.down(fault)
    }
    if (lastedMs < SHORT_MS)
      await sleep(Math.max(backoff.next(), pauseMs), signal).catch(() => undefined)
  }
}

/** Whether a refusal says nothing of the version that was asked for. */
function isBusy(status: number): boolean {
  return [UNAUTHORIZED, FORBIDDEN, TOO_MANY, UNAVAILABLE].includes(status)
}

function watchPath(version: string): string {
  const seconds = Math.round(WATCH_S * (1 + Math.random()))
  return `${NODES}?watch=true&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(version)}&timeoutSeconds=${String(seconds)}`
}

/**
 * All nodes.
 * @param version  0 = whatever a cache has; another = not older than that; null = the newest
 */
async function listNodes(
  api: KubeApi,
  version: string | null,
  signal: AbortSignal,
): Promise<{ readonly nodes: readonly KubeNode[]; readonly version: string }> {
  const nodes: KubeNode[] = []
  const limit = `limit=${String(PAGE)}`
  const from = version === null ? '' : `resourceVersion=${encodeURIComponent(version)}`
  let query = version === null ? limit : version === '0' ? `${limit}&${from}` : from
  for (;;) {
    const items = api.list(`${NODES}?${query}`, signal)
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
    query = `${limit}&continue=${encodeURIComponent(next)}`
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
