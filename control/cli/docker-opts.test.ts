/**
 * `heddle docker-opts`: the bytes that it writes, case by case as flannel's mk-docker-opts.sh is tested (F70).
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const HEDDLE = fileURLToPath(new URL('heddle.js', import.meta.url))
const ENV = `FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.74.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
`
const ALL = ' --bip=10.1.74.1/24 --ip-masq=false --mtu=1472'
const EACH = `DOCKER_OPT_BIP="--bip=10.1.74.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=false"
DOCKER_OPT_MTU="--mtu=1472"
`

function run(dir: string, args: readonly string[], text = ENV, env: Record<string, string> = {}) {
  const [file, output] = [join(dir, 'subnet.env'), join(dir, 'docker.env')]
  writeFileSync(file, text)
  writeFileSync(output, 'old')
  const all = [HEDDLE, 'docker-opts', '-f', file, '-d', output, ...args]
  const { status, stderr } = spawnSync(process.execPath, all, {
    env: { PATH: process.env['PATH'], ...env },
    encoding: 'utf8',
  })
  return { status, stderr, written: readFileSync(output, 'utf8') }
}

t.test('F70 the file, byte for byte', async (t) => {
  const cases: readonly (readonly [string[], string, Record<string, string>?, string?])[] = [
    [[], `${EACH}DOCKER_OPTS="${ALL}"\n`],
    [['-i', '-c'], `${EACH}DOCKER_OPTS="${ALL}"\n`],
    [['-i'], EACH],
    [['-c'], `DOCKER_OPTS="${ALL}"\n`],
    [['-c', '-k', 'CUSTOM_KEY'], `CUSTOM_KEY="${ALL}"\n`],
    [['-cm'], 'DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"\n'],
    [['-c'], `DOCKER_OPTS="--debug${ALL}"\n`, { DOCKER_OPTS: '--debug' }],
    [['-c'], `DOCKER_OPTS="${ALL.replace('false', 'true')}"\n`, {}, ENV.replace('true', 'false')],
    [['-c'], 'DOCKER_OPTS=" --mtu=1472"\n', {}, 'FLANNEL_MTU=1472\n'],
    [
      ['-i'],
      EACH,
      {},
      ENV.replace('1472', '"1472" # bytes').replaceAll('FLANNEL', 'export FLANNEL'),
    ],
  ]
  for (const [args, want, env, text] of cases) {
    const { status, stderr, written } = run(t.testdir(), args, text, env)
    t.equal(written, want, `${args.join(' ')} ${JSON.stringify(env ?? {})}`)
    t.equal(status, 0, stderr)
  }
})

t.test('F70 what is wrong ends with 1 and a message', async (t) => {
  const cases: readonly (readonly [string[], RegExp, string?])[] = [
    [['-h'], /^usage: heddle docker-opts/],
    [['-x'], /Unknown option '-x'[^]*usage:/],
    [['-k', 'no name'], /-k no name is no name of a variable/],
    [[], /invalid value of FLANNEL_IPMASQ: yes/, ENV.replace('true', 'yes')],
    [['-f', '/no/such/file'], /ENOENT.*\/no\/such\/file/],
    [['-d', '/no/such/folder/file'], /ENOENT.*\/no\/such\/folder/],
  ]
  for (const [args, message, text] of cases) {
    const { status, stderr, written } = run(t.testdir(), args, text)
    t.equal(status, 1, args.join(' '))
    t.match(stderr, message)
    t.equal(written, 'old', 'nothing is lost')
  }
})

const skip = process.getuid?.() === 0 ? false : 'needs root for a network namespace'
t.test(
  'F70 a route in the way of the bridge is told, after the file is written',
  { skip },
  async (t) => {
    const dir = t.testdir()
    writeFileSync(join(dir, 'subnet.env'), ENV)
    const script = `ip link add u0 type bridge && ip addr add 192.0.2.1/24 dev u0 && ip link set u0 up &&
    ip route add 10.1.74.0/24 via 192.0.2.2 && ! "$@"`
    const args = [
      process.execPath,
      HEDDLE,
      'docker-opts',
      '-f',
      join(dir, 'subnet.env'),
      '-d',
      join(dir, 'out'),
    ]
    const said = execFileSync('unshare', ['-n', 'sh', '-c', `{ ${script}; } 2>&1`, 'sh', ...args], {
      encoding: 'utf8',
    })
    t.match(said, /a route to 10\.1\.74\.0\/24 through 192\.0\.2\.2.*ip route del 10\.1\.74\.0\/24/)
    t.equal(readFileSync(join(dir, 'out'), 'utf8'), `${EACH}DOCKER_OPTS="${ALL}"\n`)
  },
)
