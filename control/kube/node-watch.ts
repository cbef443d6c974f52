/**
 * Following the nodes: list, then watch from the list's version, for as long as asked.
 *
 * The server ends a watch after some minutes, and a connection that is silent for too long is given up; either way
 * the watch goes on behind the last version seen. A list comes again only when the server has forgotten that version,
 * or refuses. Only the very first list may come from the server's cache: a later one must not go back in time.
 */
import type { Reachability } from '../store/reachability.js'
import { sleep } from '../store/abort.js'
import { createBackoff } from '../store/backoff.js'
import type { StoreEvent } from '../store/store.js'
import { KubeRefusal, type KubeApi } from './api.js'
import { objectOf, readNode, textOf, type KubeNode } from './node.js'
import type { NodeTable } from './node-table.js'

export const NODES = '/api/v1/nodes'

/** Nodes a page, as client-go. */
const PAGE = 500
/** How long the server keeps a watch, seconds: from this to the double, as client-go, so that hosts part. */
const WATCH_S = 300
/** A watch that ends sooner is no good one, ms. */
const SHORT_MS = 1000
/** HTTP status: the version is no longer kept. */
const GONE = 410

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
  const backoff = createBackoff()
  let query = `limit=${String(PAGE)}&resourceVersion=0`
  /** Of the last object or bookmark seen; null = a list is due. */
  let version: string | null = null
  while (!signal.aborted) {
    let openedAt = Infinity
    try {
      if (version === null) {
        const list = await listNodes(api, query, signal)
        reachability.up('Kubernetes API')
        query = `limit=${String(PAGE)}`
        version = list.version
        yield table.reset(list.nodes)
      }
      const onOpen = (): void => {
        openedAt = performance.now()
        reachability.up('Kubernetes API')
      }
      for await (const event of api.watch(watchPath(version), onOpen, signal)) {
        const { type, object }: WatchEvent = objectOf(event) ?? {}
        if (type === 'ERROR') throw refusalOf(object)
        const node = readNode(object)
        if (type === 'ADDED' || type === 'MODIFIED') yield* node === null ? [] : table.put(node)
        if (type === 'DELETED' && node !== null) yield* table.remove(node.name)
        // A bookmark is an object without a name.
        version = versionOf(object) || version
      }
    } catch (error) {
      if (isStopped(signal)) return
      if (error instanceof KubeRefusal) {
        version = null
        // Not the server is at fault: that version is older than what it keeps.
        if (error.status === GONE) continue
      }
      if (openedAt === Infinity) {
        reachability.down(error instanceof Error ? error.message : String(error))
      }
    }
    if (performance.now() - openedAt >= SHORT_MS) backoff.reset()
    else await sleep(backoff.next(), signal).catch(() => undefined)
  }
}

function isStopped(signal: AbortSignal): boolean {
  return signal.aborted
}

function watchPath(version: string): string {
  const seconds = Math.round(WATCH_S * (1 + Math.random()))
  return `${NODES}?watch=true&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(version)}&timeoutSeconds=${String(seconds)}`
}

async function listNodes(
  api: KubeApi,
  query: string,
  signal: AbortSignal,
): Promise<{ readonly nodes: readonly KubeNode[]; readonly version: string }> {
  const nodes: KubeNode[] = []
  let more = ''
  for (;;) {
    const page = objectOf(await api.get(`${NODES}?${query}${more}`, signal))
    const items: unknown[] = Array.isArray(page?.['items']) ? page['items'] : []
    for (const item of items) {
      const node = readNode(item)
      if (node !== null) nodes.push(node)
    }
    const next = textOf(objectOf(page?.['metadata'])?.['continue'])
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
