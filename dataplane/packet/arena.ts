/**
 * The arena: the one block of memory in which packets live, with the one `DataView` and the one
 * `Uint8Array` through which everything reads them. All header functions take `(view, at)`.
 */
export interface Arena {
  readonly bytes: Uint8Array
  readonly view: DataView
}

/**
 * Wraps a block of memory as an arena.
 * @param buffer  memory for packets; shared memory and plain memory both do
 */
export function createArena(buffer: ArrayBufferLike): Arena {
  return { bytes: new Uint8Array(buffer), view: new DataView(buffer) }
}
