/**
 * A list of the API item by item, as its bytes come: thousands of nodes are some fifty megabytes of JSON, of which a
 * few bytes each are wanted.
 */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** Depth of the list's own members, and of its items. */
const OF_LIST = 1
const OF_ITEMS = 2
/** What stands before the items. */
const BEFORE_ITEMS = /"items"\s*:\s*\[$/

/**
 * The elements of the member `items` of the one object that a stream has, parsed.
 * @param maxBytes  of one element, and of all that is around them
 * @returns         the object itself, with no items
 * @throws SyntaxError for what is no JSON, Error for what is too long
 */
export async function* readItems(
  stream: AsyncIterable<unknown>,
  maxBytes: number,
): AsyncGenerator<unknown, unknown> {
  const list = new Piece(maxBytes)
  const item = new Piece(maxBytes)
  /** Of which the bytes are; null = of nothing, between two items. */
  let piece: Piece | null = list
  let depth = 0
  let isString = false
  let isEscaped = false
  for await (const chunk of stream) {
    const bytes = chunk as Buffer
    /** Where the bytes of the piece begin. */
    let from = 0
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at]
      if (isString) {
        if (isEscaped) isEscaped = false
        else if (byte === BACKSLASH) isEscaped = true
        else if (byte === QUOTE) isString = false
      } else if (byte === QUOTE) isString = true
      else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
        depth++
        if (piece === null) {
          piece = item
          from = at
        } else if (piece === list && depth === OF_ITEMS) {
          list.add(bytes.subarray(from, at + 1))
          from = at + 1
          if (BEFORE_ITEMS.test(list.tail())) piece = null
        }
      } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
        depth--
        if (piece === item && depth === OF_ITEMS) {
          item.add(bytes.subarray(from, at + 1))
          yield item.take()
          piece = null
        } else if (piece === null && depth === OF_LIST) {
          piece = list
          from = at
        }
      }
    }
    piece?.add(bytes.subarray(from))
  }
  return list.take()
}

/** JSON text that comes in parts. */
class Piece {
  readonly #maxBytes: number
  #parts: Buffer[] = []
  #length = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  add(bytes: Buffer): void {
    this.#parts.push(bytes)
    this.#length += bytes.length
    if (this.#length > this.#maxBytes) {
      throw new Error(`an object of more than ${String(this.#maxBytes)} bytes`)
    }
  }

  /** Its last few characters. */
  tail(): string {
    return Buffer.concat(this.#parts).subarray(-64).toString('latin1')
  }

  /** What it says; it is empty then. */
  take(): unknown {
    const text = Buffer.concat(this.#parts).toString('utf8')
    this.#parts = []
    this.#length = 0
    return JSON.parse(text)
  }
}
