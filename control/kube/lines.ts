/**
 * A stream of bytes as lines of text.
 */

const NEWLINE = 10

/**
 * The lines without their ends; empty ones are left out. A line that is cut off by the end of the stream is none.
 * @param maxLength  bytes
 * @throws Error for a longer line, so that nobody fills the memory
 */
export async function* splitLines(
  stream: AsyncIterable<unknown>,
  maxLength: number,
): AsyncGenerator<string> {
  let parts: Buffer[] = []
  let length = 0
  for await (const chunk of stream) {
    let rest = chunk as Buffer
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      parts.push(rest.subarray(0, end))
      rest = rest.subarray(end + 1)
      const line = Buffer.concat(parts).toString('utf8')
      parts = []
      length = 0
      if (line !== '') yield line
    }
    if (rest.length > 0) parts.push(rest)
    length += rest.length
    if (length > maxLength) throw new Error(`a line of more than ${String(maxLength)} bytes`)
  }
}
