/** The part of the npm package `longest-prefix-match` that the benches use: a binary trie in plain JavaScript. */
declare module 'longest-prefix-match' {
  export default class LongestPrefixMatch<T> {
    addPrefix(prefix: string, payload: T): void
    getMatch(prefix: string, all: boolean): T[]
  }
}
