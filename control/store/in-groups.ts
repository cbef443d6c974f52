/**
 * Work on many files at a time: one after the other most of the time is spent on waiting.
 */

/** Enough to keep the threads of the file system calls busy, far below any limit of descriptors. */
const GROUP = 32

/** Does the work for each item, a group at a time. @returns the results in the items' order */
export async function inGroups<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  for (let at = 0; at < items.length; at += GROUP) {
    results.push(...(await Promise.all(items.slice(at, at + GROUP).map(work))))
  }
  return results
}

/** The same for work without a result. */
export async function forEachInGroups<T>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  for (let at = 0; at < items.length; at += GROUP) {
    await Promise.all(items.slice(at, at + GROUP).map(work))
  }
}
