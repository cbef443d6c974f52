/**
 * Reads tap's output and tells a person about it: a line for each file, failures in full, skips by reason.
 *
 * What counts as one test: a `t.test` block without blocks inside, or the bare assertions of a block
 * that has some or of a file. A test all of whose assertions are skipped is skipped.
 */
import { Parser } from 'tap-parser'

export class TapReport {
  /** Takes the output of `tap run --reporter=tap`. */
  parser = new Parser()
  /** Every test that ended: its titles from the file inwards, and `passed`, `failed` or `skipped`. */
  results = []
  #expected
  #finished = new Set()
  #passed = 0
  #failures = []
  #skips = []

  /** @param files  compiled test files that must report */
  constructor(files) {
    this.#expected = files
    this.#follow(this.parser, createBlock([]), (block, closing) => this.#fileEnded(block, closing))
  }

  /** A check that is no test file: passed or failed as a whole. */
  check(name, ok, output, seconds) {
    if (ok) this.#passed++
    else this.fail(name, output)
    this.#line(ok, name, seconds, '')
  }

  fail(name, details) {
    this.#failures.push({ name, details: details.trim() })
  }

  /** @param status  exit code or signal of tap, which must agree with what it reported */
  ended(status) {
    for (const file of this.#expected) {
      if (!this.#finished.has(file)) this.fail(title(file), 'did not report: see above')
    }
    if (status !== 0 && this.#failures.length === 0)
      this.fail('tap', `ended with ${status} although no test failed`)
  }

  /** Prints everything that is not plainly good, then the totals. @returns whether all went well */
  summary() {
    const reasons = new Map()
    for (const { name, reason } of this.#skips)
      reasons.set(reason, [...(reasons.get(reason) ?? []), name])
    for (const [reason, names] of reasons) {
      console.log(`\nskipped: ${reason}`)
      for (const name of names) console.log(`  ${name}`)
    }
    for (const { name, details } of this.#failures) {
      console.log(`\nFAILED: ${name}\n${details.replace(/^/gm, '  ')}`)
    }
    if (this.#passed === 0 && this.#failures.length === 0) this.fail('tests', 'nothing was tested')
    console.log(
      `\n${this.#passed} passed, ${this.#failures.length} failed, ${this.#skips.length} skipped`,
    )
    return this.#failures.length === 0
  }

  /** Collects what one level of the output says; `onBlock` is told of every block that ends. */
  #follow(parser, block, onBlock) {
    let open = null
    parser.on('child', (child) => {
      const inside = createBlock([...block.path, child.name])
      block.blocks++
      open = inside
      this.#follow(child, inside, (inner, closing) => this.#blockEnded(inner, closing, inside))
    })
    parser.on('assert', (assertion) => {
      const ended = open
      open = null
      if (ended !== null) onBlock(ended, assertion)
      else if (block.path.length > 0) block.bare.push(assertion)
      // A whole file that is skipped has no output of its own.
      else onBlock(createBlock([assertion.name]), assertion)
    })
  }

  #fileEnded(file, closing) {
    const name = file.path[0]
    this.#finished.add(name)
    const own = { failed: 0, tests: 0 }
    const noTests =
      closing.ok && closing.skip && file.blocks === 0 && /no tests found/.test(String(closing.skip))
    if (noTests) this.#failed(own, title(name), 'holds no tests')
    else this.#blockEnded(file, closing, own)
    this.#line(own.failed === 0, title(name), (closing.time ?? 0) / 1000, `${own.tests}`)
  }

  #blockEnded(block, closing, parent) {
    const name = [title(block.path[0]), ...block.path.slice(1)].join(' › ')
    const bad = block.bare.filter((assertion) => !assertion.ok && !assertion.todo)
    const skipped = block.bare.filter((assertion) => assertion.skip || assertion.todo)
    if (closing.skip || closing.todo) {
      this.#skipped(block, name, reasonOf(closing))
    } else if (bad.length > 0) {
      this.#failed(block, name, bad.map(describe).join('\n\n'))
    } else if (!closing.ok && block.failed === 0) {
      this.#failed(block, name, describe(closing))
    } else if (skipped.length > 0) {
      for (const one of skipped) this.#skipped(block, `${name} › ${one.name}`, reasonOf(one))
      if (skipped.length < block.bare.length) this.#didPass(block)
    } else if (block.bare.length > 0 || block.blocks === 0) {
      this.#didPass(block)
    }
    parent.failed += block.failed
    parent.tests += block.tests
  }

  #didPass(block) {
    this.results.push({ path: block.path, outcome: 'passed' })
    this.#passed++
    block.tests++
  }

  #failed(block, name, details) {
    this.results.push({ path: block.path ?? [name], outcome: 'failed' })
    this.fail(name, details)
    block.failed++
    block.tests++
  }

  #skipped(block, name, reason) {
    this.results.push({ path: block.path, outcome: 'skipped' })
    this.#skips.push({ name, reason })
    block.tests++
  }

  #line(ok, name, seconds, tests) {
    console.log(
      `${ok ? 'ok  ' : 'FAIL'} ${seconds.toFixed(1).padStart(7)} s ${tests.padStart(5)}  ${name}`,
    )
  }
}

/** What is known of one level of the output while it is read. */
function createBlock(path) {
  return { path, bare: [], blocks: 0, failed: 0, tests: 0 }
}

function title(file) {
  return file.replace(/^dist\//, '').replace(/\.test\.js$/, '')
}

function reasonOf({ skip, todo }) {
  const reason = skip || todo
  return reason === true ? 'no reason given' : String(reason)
}

/** An assertion with what tap knows about it: place, difference, fault. */
function describe({ name, diag }) {
  const lines = [name]
  const { at, stack, diff, found, wanted, message, source, ...rest } = diag ?? {}
  if (message) lines.push(String(message))
  if (at?.fileName) lines.push(`at ${at.fileName}:${at.lineNumber}:${at.columnNumber}`)
  if (source) lines.push(String(source).trimEnd())
  if (diff) lines.push(String(diff).trimEnd())
  else if (found !== undefined || wanted !== undefined)
    lines.push(`found ${JSON.stringify(found)}, wanted ${JSON.stringify(wanted)}`)
  if (stack) lines.push(String(stack).trimEnd())
  for (const key of [
    'signal',
    'exitCode',
    'timeout',
    'expired',
    'reason',
    'error',
    'code',
    'errno',
    'syscall',
    'tapError',
  ]) {
    if (rest[key] !== undefined && rest[key] !== null) lines.push(`${key}: ${rest[key]}`)
  }
  return lines.join('\n')
}
