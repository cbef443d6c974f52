import { spawnSync } from 'node:child_process'
import t from 'tap'
import { createLogger, type LogOptions } from './log.js'

/** The header that klog's readers match. */
const HEADER = /^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [^:\]]+:\d+\] /

function record(options: LogOptions = {}) {
  const lines: string[] = []
  const stream = { write: (line: string) => void lines.push(line) }
  return { lines, log: createLogger({ stream, ...options }) }
}

t.test('klog line', (t) => {
  const when = new Date(2026, 5, 29, 14, 28, 35, 866).getTime() + 0.5
  const { lines, log } = record({ now: () => when })
  log.info('Using interface with name eth0 and address 172.24.17.174')
  const pid = String(process.pid).padStart(7)
  t.match(
    lines[0],
    new RegExp(
      `^I0629 14:28:35\\.866500 ${pid} log\\.test\\.[jt]s:\\d+\\] Using interface with name eth0 and address 172\\.24\\.17\\.174\\n$`,
    ),
  )
  t.end()
})

t.test('severities', (t) => {
  const { lines, log } = record()
  log.info('a')
  log.warn('b')
  log.error('c')
  log.fatal('d')
  t.equal(lines.map((line) => line[0]).join(''), 'IWEF')
  for (const line of lines) t.match(line, HEADER)
  t.end()
})

t.test('the call site is that of the caller, whichever method is called', (t) => {
  const { lines, log } = record()
  const child = log.child('agent')
  log.info('a')
  child.verbose(0, 'b')
  child.error('c')
  const at = lines.map((line) => Number(/log\.test\.[jt]s:(\d+)\]/.exec(line)?.[1]))
  t.equal(at[1], at[0]! + 1)
  t.equal(at[2], at[0]! + 2)
  t.end()
})

t.test('the wall clock', (t) => {
  const { lines, log } = record()
  const before = new Date()
  log.info('now')
  const [, hour, minute] = /^I\d{4} (\d\d):(\d\d):/.exec(lines[0]!)!
  const minutes = Number(hour) * 60 + Number(minute)
  const want = before.getHours() * 60 + before.getMinutes()
  t.ok((minutes - want + 1440) % 1440 <= 1, 'local time')
  t.end()
})

t.test('verbosity', (t) => {
  const { lines, log } = record({ verbosity: 2 })
  log.verbose(3, 'no')
  log.verbose(2, 'yes')
  t.equal(lines.length, 1)
  t.match(lines[0], HEADER)
  t.ok(log.isVerbose(2))
  t.notOk(log.child('x').isVerbose(3))
  t.end()
})

t.test('one call is one line', (t) => {
  const { lines, log } = record()
  log.warn('a\nI0629 14:28:35.866987       1 x.go:1] forged\r\t\u0000\u001b[2J\u0085\u2028é')
  t.equal(lines.length, 1)
  t.equal(lines[0]!.split('\n').length, 2)
  t.match(
    lines[0],
    'a\\nI0629 14:28:35.866987       1 x.go:1] forged\\r\\t\\u0000\\u001b[2J\\u0085\\u2028é\n',
  )
  t.end()
})

t.test('fields', (t) => {
  const { lines, log } = record()
  log.info('lease', { subnet: '10.5.1.0/24', peer: 'a b', count: 3, own: true, none: null, s: '' })
  t.match(lines[0], '] lease subnet=10.5.1.0/24 peer="a b" count=3 own=true none=null s=""\n')
  t.end()
})

t.test('JSON', (t) => {
  const { lines, log } = record({ format: 'json', verbosity: 1 })
  log.child('agent').warn('a\nb', { count: 3 })
  log.info('c')
  log.fatal('d')
  log.verbose(2, 'no')
  const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  t.match(records, [
    {
      level: 40,
      pid: process.pid,
      module: 'agent',
      msg: 'a\nb',
      count: 3,
      source: /^log\.test\.[jt]s:\d+$/,
    },
    { level: 30, module: 'heddled', msg: 'c' },
    { level: 60, msg: 'd' },
  ])
  t.equal(records.length, 3)
  t.equal(typeof records[0]?.['time'], 'number')
  t.end()
})

t.test('a stream that fails does not stop the caller', (t) => {
  const stream = {
    write: () => {
      throw new Error('closed')
    },
  }
  for (const format of ['klog', 'json'] as const) {
    t.doesNotThrow(() => {
      createLogger({ stream, format }).info('x')
    }, format)
  }
  t.end()
})

t.test('stderr by default, and a reader that went away is survived', (t) => {
  const url = new URL('./log.js', import.meta.url).href
  const program = `import { createLogger } from '${url}'; for (const format of ['klog', 'json']) { const log = createLogger({ format }); log.info('one') }`
  const run = (script: string) =>
    spawnSync('sh', ['-c', script], {
      encoding: 'utf8',
      env: { ...process.env, NODE: process.execPath, PROGRAM: program },
    }).stdout
  const plain = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  })
  t.equal(plain.stdout, '')
  t.match(plain.stderr, /\] one\n\{.*"msg":"one"\}\n$/)
  // The reader of the pipe ends before anything is written; descriptor 3 is our own stdout.
  const heddle = '"$NODE" --input-type=module -e "$PROGRAM"'
  t.equal(
    run(`exec 3>&1; { sleep 0.3; ${heddle}; echo "exit $?" >&3; } 2>&1 >/dev/null | true`),
    'exit 0\n',
  )
  t.equal(run(`${heddle} 2>&-; echo "exit $?"`), 'exit 0\n')
  t.end()
})
