/**
 * What a forwarding table (FIB) is: prefixes to next hops, the longest prefix wins.
 *
 * One thread writes, any number of engines read, all over shared memory. A reader brackets each
 * breath with `enter()` and `leave()`; between them everything it finds stays valid. The writer
 * frees what it replaced only after every reader has left or moved on.
 *
 * Hop indices are positive int32; 0 means "no route".
 */
export interface FibReader {
  /** Begins a breath: marks this reader's epoch odd and loads the current root. */
  enter(): void
  /** Ends a breath: marks the epoch even; everything found since `enter()` may be freed from now on. */
  leave(): void
  /**
   * @param dst  IPv4 destination as address bits: int32, host order
   * @returns    hop index, 0 = no route
   */
  lookup4(dst: number): number
  /**
   * @param view  the bytes to read the 16-byte destination from
   * @param at    where it begins
   * @returns     hop index, 0 = no route
   */
  lookup6(view: DataView, at: number): number
}

export interface FibWriter {
  /** Adds a route or replaces the hop of an existing one. `addr` is int32 or uint32; bits beyond `len` must be 0. */
  insert4(addr: number, len: number, hop: number): void
  /** Removes a route. @returns false when there is none for exactly this prefix */
  remove4(addr: number, len: number): boolean
  /** Adds a route or replaces its hop. `addr` is 16 bytes; bits beyond `len` must be 0. */
  insert6(addr: Uint8Array, len: number, hop: number): void
  remove6(addr: Uint8Array, len: number): boolean
  /** Number of IPv4 / IPv6 prefixes. */
  readonly size4: number
  readonly size6: number
}
