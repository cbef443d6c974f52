/**
 * Bar charts of ratios as SVG: a panel per measurement, a bar per contender, from the line at 1 to
 * the right where Heddle's figure is larger, to the left where it is smaller, on a logarithmic scale.
 *
 * The picture has a background of its own and a dark dress, so it can be read on any page.
 */

export interface Bar {
  readonly name: string
  /** Heddle's figure over this contender's. */
  readonly ratio: number
  /** The ratio and the contender's own figure, as text. */
  readonly label: string
  readonly figure: string
  readonly isBetter: boolean
}

export interface Panel {
  readonly title: string
  /** Heddle's own figure and which way is better. */
  readonly subtitle: string
  readonly bars: readonly Bar[]
}

const WIDTH = 760
const MARGIN = 16
const NAMES_END = 168
/** Where bars may lie; their labels have the space around it. */
const PLOT_START = 236
const PLOT_END = 560
const LABEL_GAP = 6
const HEADER = 66
const PANEL_HEAD = 44
const ROW = 22
const BAR = 14
const PANEL_FOOT = 12
/** At least so far does the scale go to both sides of 1. */
const LEAST_REACH = 1.25

const STYLE = `
    text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
    .page { fill: #ffffff }
    .head { font-size: 16px; font-weight: 600 }
    .panel { font-weight: 600 }
    .quiet { fill: #59636e }
    .better { fill: #1f6feb }
    .worse { fill: #bc5a05 }
    .one { stroke: #59636e; stroke-width: 1 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .page { fill: #0d1117 }
      .quiet { fill: #9198a1 }
      .better { fill: #4c8dff }
      .worse { fill: #e0823d }
      .one { stroke: #9198a1 }
    }`

/** @param panels  those without bars are left out */
export function renderChart(title: string, panels: readonly Panel[]): string {
  const shown = panels.filter(({ bars }) => bars.length > 0)
  const x = createScale(shown.flatMap(({ bars }) => bars.map(({ ratio }) => ratio)))
  const body: string[] = []
  let y = HEADER
  for (const panel of shown) {
    body.push(...renderPanel(panel, x, y))
    y += PANEL_HEAD + panel.bars.length * ROW + PANEL_FOOT
  }
  const height = y + MARGIN - PANEL_FOOT
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${String(WIDTH)}" height="${String(height)}" viewBox="0 0 ${String(WIDTH)} ${String(height)}" role="img" aria-labelledby="title">`,
    `  <title id="title">${escape(title)}</title>`,
    `  <style>${STYLE}\n  </style>`,
    `  <rect class="page" width="${String(WIDTH)}" height="${String(height)}"/>`,
    text(MARGIN, 28, title, 'head'),
    ...renderLegend(),
    ...body,
    '</svg>',
    '',
  ].join('\n')
}

function renderLegend(): string[] {
  const second = MARGIN + 130
  return [
    box(MARGIN, 40, 10, 10, 'better'),
    text(MARGIN + 16, 50, 'Heddle is better', 'quiet'),
    box(second, 40, 10, 10, 'worse'),
    text(
      second + 16,
      50,
      'Heddle is worse; lengths are logarithms of the ratio, the line is 1 ×',
      'quiet',
    ),
  ]
}

function renderPanel(panel: Panel, x: (ratio: number) => number, top: number): string[] {
  const first = top + PANEL_HEAD
  const one = x(1)
  const bottom = first + panel.bars.length * ROW
  return [
    text(MARGIN, top + 18, panel.title, 'panel'),
    text(MARGIN, top + 36, panel.subtitle, 'quiet'),
    ...panel.bars.flatMap((bar, i) => renderBar(bar, one, x(bar.ratio), first + i * ROW)),
    `  <line class="one" x1="${fixed(one)}" y1="${fixed(first)}" x2="${fixed(one)}" y2="${fixed(bottom)}"/>`,
  ]
}

function renderBar(bar: Bar, one: number, end: number, top: number): string[] {
  const baseline = top + ROW / 2 + 4
  const isRight = end >= one
  return [
    text(NAMES_END, baseline, bar.name, '', 'end'),
    box(
      Math.min(one, end),
      top + (ROW - BAR) / 2,
      Math.max(1, Math.abs(end - one)),
      BAR,
      bar.isBetter ? 'better' : 'worse',
    ),
    isRight
      ? text(end + LABEL_GAP, baseline, bar.label)
      : text(end - LABEL_GAP, baseline, bar.label, '', 'end'),
    text(WIDTH - MARGIN, baseline, bar.figure, 'quiet', 'end'),
  ]
}

/** From ratio to abscissa: logarithmic, with all ratios and some room on both sides of 1. */
function createScale(ratios: readonly number[]): (ratio: number) => number {
  const logs = ratios.map(Math.log)
  const low = Math.min(-Math.log(LEAST_REACH), ...logs)
  const high = Math.max(Math.log(LEAST_REACH), ...logs)
  return (ratio) => PLOT_START + ((Math.log(ratio) - low) / (high - low)) * (PLOT_END - PLOT_START)
}

function text(x: number, y: number, content: string, kind = '', anchor = ''): string {
  const attributes = [
    kind === '' ? '' : ` class="${kind}"`,
    anchor === '' ? '' : ` text-anchor="${anchor}"`,
  ].join('')
  return `  <text x="${fixed(x)}" y="${fixed(y)}"${attributes}>${escape(content)}</text>`
}

function box(x: number, y: number, width: number, height: number, kind: string): string {
  return `  <rect class="${kind}" x="${fixed(x)}" y="${fixed(y)}" width="${fixed(width)}" height="${fixed(height)}"/>`
}

const fixed = (value: number): string => String(Math.round(value * 10) / 10)

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
}

function escape(content: string): string {
  return content.replace(/[&<>"]/g, (sign) => ENTITIES[sign] ?? sign)
}
