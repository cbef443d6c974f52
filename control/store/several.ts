/**
 * Several asynchronous calls at a time, but not all: reading ten thousand small files one after the
 * other waits ten thousand times for a thread of libuv's pool.
 */

/** Chosen by us: keeps the pool (four threads) busy; more gained nothing. */
const AT_A_TIME = 16

/**
 * Calls a function for every element, at most {@link AT_A_TIME} calls under way.
 * @returns the results, in the order of the elements
 * @throws  what the first call that rejects rejects with; no further element is begun then
 */
export async function mapSeveral<T, R>(
  list: readonly T[],
  call: (element: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(list.length)
  const rest = list.entries()
  let hasFailed = false
  const work = async (): Promise<void> => {
    for (const [i, element] of rest) {
      if (hasFailed) return
      try {
        results[i] = await call(element)
      } catch (error) {
        hasFailed = true
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, work))
  return results
}
