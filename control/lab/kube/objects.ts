/**
 * Objects of a Kubernetes API as a stand-in keeps them: versions, a history for watches, and strategic merge patches
 * of the members that networks use.
 */
import { randomUUID } from 'node:crypto'

export interface KubeObject {
  metadata: {
    name: string
    namespace?: string
    uid: string
    resourceVersion: string
    annotations?: Record<string, string>
  }
  status?: { conditions?: Condition[] }
  [member: string]: unknown
}

interface Condition {
  type: string
  [member: string]: unknown
}

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly version: number
  readonly object: KubeObject
}

export class ObjectConflict extends Error {}

/** Objects of one resource, by name. */
export class KubeObjects {
  readonly #objects: Map<string, KubeObject>
  /** As they were at the start. */
  readonly #first: readonly KubeObject[]
  /** Changes since the start, oldest first. */
  readonly #changes: Change[] = []
  readonly #listeners = new Set<() => void>()
  #version: number
  /** Changes up to this version are not kept. */
  readonly #since: number

  constructor(saved: { readonly version: number; readonly objects: readonly KubeObject[] }) {
    this.#version = saved.version
    this.#since = saved.version
    this.#first = saved.objects
    this.#objects = new Map(saved.objects.map((object) => [object.metadata.name, object]))
  }

  get version(): number {
    return this.#version
  }

  list(): KubeObject[] {
    return sorted(this.#objects)
  }

  /** What there was at a version, null = that is not known any more. */
  at(version: number): KubeObject[] | null {
    if (version < this.#since) return null
    const objects = new Map(this.#first.map((object) => [object.metadata.name, object]))
    for (const change of this.#changes.filter((known) => known.version <= version)) {
      const { name } = change.object.metadata
      if (change.type === 'DELETED') objects.delete(name)
      else objects.set(name, change.object)
    }
    return sorted(objects)
  }

  get(name: string): KubeObject | null {
    return this.#objects.get(name) ?? null
  }

  /** @throws ObjectConflict when there is one of that name */
  create(given: KubeObject): KubeObject {
    const { name } = given.metadata
    if (this.#objects.has(name)) throw new ObjectConflict(`nodes "${name}" already exists`)
    return this.#write('ADDED', { ...given, metadata: { ...given.metadata, uid: randomUUID() } })
  }

  /**
   * Merges a patch: maps member by member, conditions by their type, null removes.
   * @throws ObjectConflict when it is for another object of the same name
   */
  patch(object: KubeObject, patch: unknown): KubeObject {
    const { uid } = (patch as Partial<KubeObject>).metadata ?? {}
    if (uid !== undefined && uid !== object.metadata.uid) {
      throw new ObjectConflict(`Precondition failed: UID in precondition: ${uid}`)
    }
    const merged = merge(object, patch) as KubeObject
    // What changes nothing is no new version.
    if (JSON.stringify(merged) === JSON.stringify(object)) return object
    return this.#write('MODIFIED', merged)
  }

  remove(object: KubeObject): KubeObject {
    return this.#write('DELETED', object)
  }

  /** What came behind a version; null = that is not known any more. */
  since(version: number): Change[] | null {
    if (version < this.#since) return null
    return this.#changes.filter((change) => change.version > version)
  }

  /** @returns ends it */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #write(type: Change['type'], object: KubeObject): KubeObject {
    const version = ++this.#version
    const metadata = { ...object.metadata, resourceVersion: String(version) }
    const versioned = { ...object, metadata }
    if (type === 'DELETED') this.#objects.delete(metadata.name)
    else this.#objects.set(metadata.name, versioned)
    this.#changes.push({ type, version, object: versioned })
    for (const listener of this.#listeners) listener()
    return versioned
  }
}

function sorted(objects: ReadonlyMap<string, KubeObject>): KubeObject[] {
  return [...objects.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
}

type Fields = Record<string, unknown>

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function merge(base: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch
  const merged = new Map(isFields(base) ? Object.entries(base) : [])
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name)
    else if (name === 'conditions' && Array.isArray(value)) {
      merged.set(name, mergeConditions(merged.get(name), value as Condition[]))
    } else merged.set(name, merge(merged.get(name), value))
  }
  return Object.fromEntries(merged)
}

function mergeConditions(base: unknown, patch: readonly Condition[]): Condition[] {
  const byType = new Map((Array.isArray(base) ? (base as Condition[]) : []).map((c) => [c.type, c]))
  for (const condition of patch) {
    byType.set(condition.type, { ...byType.get(condition.type), ...condition })
  }
  return [...byType.values()]
}
