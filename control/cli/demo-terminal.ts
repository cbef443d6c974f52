/**
 * Where the demo writes: coloured and drawn with lines at a terminal, plain ASCII anywhere else.
 */

const ASCII: Readonly<Record<string, string>> = {
  '─': '-',
  '│': '|',
  '┌': '+',
  '┐': '+',
  '└': '+',
  '┘': '+',
  '┬': '+',
  '┴': '+',
  '→': '->',
  '·': '-',
  µ: 'u',
}

const DRAWN = new RegExp(`[${Object.keys(ASCII).join('')}]`, 'g')

export interface Terminal {
  /** A line that opens a part of the demo. */
  heading(text: string): void
  /** Lines as they are, indented. */
  lines(...lines: readonly string[]): void
  /** Rows in columns as wide as their widest cell, indented; the first row names the columns. */
  table(rows: readonly (readonly string[])[]): void
  strong(text: string): string
  faint(text: string): string
}

/** Shows nothing. */
export const SILENT: Terminal = {
  heading: () => undefined,
  lines: () => undefined,
  table: () => undefined,
  strong: (text) => text,
  faint: (text) => text,
}

/** @param stream  colours and line drawing are used when it is a terminal */
export function createTerminal(stream: NodeJS.WritableStream & { isTTY?: boolean }): Terminal {
  const isRich = stream.isTTY === true && process.env['NO_COLOR'] === undefined
  const isDrawn = stream.isTTY === true
  const style = (code: number, text: string): string =>
    isRich ? `\u001b[${code}m${text}\u001b[0m` : text
  const write = (text: string): void => {
    const drawn = isDrawn ? text : text.replace(DRAWN, (sign) => ASCII[sign] ?? sign)
    stream.write(`${drawn.trimEnd()}\n`)
  }
  const strong = (text: string): string => style(1, text)
  const faint = (text: string): string => style(2, text)
  return {
    strong,
    faint,
    heading: (text) => {
      write(`\n${style(36, text)}`)
    },
    lines: (...lines) => {
      for (const line of lines) write(`  ${line}`)
    },
    table: (rows) => {
      const widths: number[] = []
      for (const row of rows) {
        for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
      }
      for (const [n, row] of rows.entries()) {
        const text = row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')
        write(`  ${n === 0 ? faint(text) : text}`)
      }
    },
  }
}
