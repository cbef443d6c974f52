/**
 * @parallel The daemon as a process: flags, environment, version, exit codes, signals in each phase, the
 * log and what must never be in it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { HEDDLED } from '../lab/host.js'
import type { ManagedProcess } from '../lab/process.js'
import { VERSION } from '../version.js'
import { createEtcdLab, EtcdNetwork, etcdProcess, PATIENCE_MS } from './etcd-network.js'
import { links, skip, until } from './overlay.js'

t.setTimeout(120_000)

/** klog's line: severity, month and day, time with microseconds, pid in 7 columns, place. */
const KLOG = /^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{7} [\w.-]+:\d+\] \S/

const PASSWORD = 'correct-horse-7'

interface Once {
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly code: number
  readonly out?: RegExp
  readonly err?: RegExp
}

const USAGE = /--subnet-file/
const RUNS: Readonly<Record<string, readonly Once[]>> = {
  'F23 flags that end the process: help with 0, faults with 2 and the usage': [
    { args: ['--help'], code: 0, out: USAGE },
    { args: ['-h'], code: 0, out: USAGE },
    { args: ['--no-such-flag=1'], code: 2, err: /no-such-flag[^]*--subnet-file/ },
    { args: ['--subnet-lease-renew-margin=0'], code: 2, err: /1 to 1439[^]*--subnet-file/ },
    { args: ['-subnet-lease-renew-margin', '1440'], code: 2, err: /1 to 1439/ },
    { args: ['--healthz-port=many'], code: 2, err: /healthz-port/ },
    { args: ['--version=maybe'], code: 2, err: /version/ },
    { args: ['--iface'], code: 2, err: /iface/ },
    { args: ['--kube-subnet-mgr', '--store=file:/x'], code: 2, err: /exclude each other/ },
  ],
  'F24 variables are flags': [
    {
      args: ['--store=file:/x'],
      env: { FLANNELD_KUBE_SUBNET_MGR: 'true' },
      code: 2,
      err: /exclude each other/,
    },
  ],
  'F25 the version goes to stderr, exit 0, before anything else': [
    { args: ['--version'], code: 0, err: new RegExp(`^${VERSION}\n$`) },
    { args: ['-version=T', '--etcd-prefix='], code: 0, err: new RegExp(`^${VERSION}\n$`) },
    { args: ['--version'], env: { FLANNELD_KUBE_SUBNET_MGR: '1' }, code: 0, err: /^\S+\n$/ },
  ],
}

t.test('the process', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 4)
  const [h1, h2, h3, h4] = [lab.host(1), lab.host(2), lab.host(3), lab.host(4)]

  for (const [name, runs] of Object.entries(RUNS)) {
    await t.test(name, async (t) => {
      const one = async ({ args, env = {}, code, out = /^$/, err = /^$/ }: Once) => {
        const options = { env, timeoutMs: PATIENCE_MS }
        const result = await h1.run(process.execPath, [HEDDLED, ...args], options)
        const what = [...Object.keys(env), ...args].join(' ')
        t.equal(result.code, code, `${what}\n${result.stderr}`)
        t.match(result.stdout, out, `${what}: stdout`)
        t.match(result.stderr, err, `${what}: stderr`)
      }
      for (let i = 0; i < runs.length; i += 3) await Promise.all(runs.slice(i, i + 3).map(one))
    })
  }

  await t.test('F23 F24 every form of a flag; variables, which the flags win over', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f24')
    const env = {
      FLANNELD_V: '1',
      FLANNELD_HEALTHZ_PORT: 'many',
      FLANNELD_PUBLIC_IP: '203.0.113.7',
      FLANNELD_ETCD_PREFIX: '/not/this/one',
      FLANNELD_SUBNET_LEASE_RENEW_MARGIN: '',
      FLANNELD_VERSION: 'true',
    }
    const args = ['-healthz-ip', '127.0.0.1', '-busy-poll-us=9', '--busy-poll-us', '0x11']
    const daemon = await network.start(h1, [...args, 'extra', '--no-such-flag'], { env })
    await daemon.waitFor(/nobody has written it yet/, PATIENCE_MS)
    const log = daemon.stderr()
    for (const setting of [
      'healthz-ip=127.0.0.1',
      'busy-poll-us=17',
      'v=1',
      'public-ip=203.0.113.7',
      'subnet-lease-renew-margin=60',
      'healthz-port=0',
      `etcd-prefix=${network.prefix}`,
    ]) {
      t.ok(log.includes(` ${setting} `), setting)
    }
    t.match(log, /^W.*ignoring FLANNELD_HEALTHZ_PORT="many"/m)
    t.match(log, /^W.*ignoring "extra" and all behind it/m)
    await network.configure({ Network: '10.5.0.0/16' })
    const { lease } = await network.ready(h1)
    t.equal((await network.record(lease.subnet)).value, network.value('203.0.113.7'))
  })

  await t.test('F26 signals in each phase: exit 0 < 5 s, key and file stay', async (t) => {
    const running = new EtcdNetwork(t, lab, 'f26')
    await running.configure({ Network: '10.5.0.0/16' })
    const waiting = new EtcdNetwork(t, lab, 'f26-waiting')
    const ended = async (daemon: ManagedProcess, signal: NodeJS.Signals, phase: string) => {
      const start = performance.now()
      daemon.kill(signal)
      t.same(await daemon.exited, { code: 0, signal: null }, `${phase}: ${signal}`)
      const took = performance.now() - start
      t.ok(took < 5000, `${phase}: ${took.toFixed(0)} ms`)
      t.match(daemon.stderr(), new RegExp(`${signal}: shutdownHandler sent cancel signal`))
      t.match(daemon.stderr(), /Exiting cleanly\.\.\.\n$/)
    }
    await Promise.all([waiting.start(h3), waiting.start(h4)])
    await running.startAll([h1, h2])
    const before = await running.records()
    const files = [h1, h2].map((host) => readFileSync(running.subnetFile(host), 'utf8'))
    for (const host of [h3, h4]) {
      await waiting.daemon(host).waitFor(/nobody has written it yet/, PATIENCE_MS)
    }
    await ended(waiting.daemon(h3), 'SIGTERM', 'waiting for a configuration')
    await ended(waiting.daemon(h4), 'SIGINT', 'waiting for a configuration')
    await ended(running.daemon(h1), 'SIGTERM', 'running')

    // Frozen: connections stay open and nothing answers.
    const early = await running.start(h3)
    await early.waitFor(/Using interface with name eth0/, PATIENCE_MS)
    const etcd = etcdProcess(lab)
    etcd.kill('SIGSTOP')
    const late = await running.start(h4)
    await late.waitFor(/Installing signal handlers/, PATIENCE_MS)
    await sleep(300)
    await ended(late, 'SIGTERM', 'asking a frozen etcd for the configuration')
    await ended(early, 'SIGINT', 'taking a lease, or just having it')
    await ended(running.daemon(h2), 'SIGINT', 'running beside a frozen etcd')
    etcd.kill('SIGCONT')

    for (const host of lab.hosts) {
      t.notOk((await links(host)).includes('flannel0'), `${host.name}: the device is gone`)
      t.notOk(existsSync(`${running.subnetFile(host)}.sock`))
    }
    const after = await running.records()
    for (const [subnet, record] of before) t.same(after.get(subnet), record, 'the key stays')
    const still = [h1, h2].map((host) => readFileSync(running.subnetFile(host), 'utf8'))
    t.same(still, files, 'the files stay')
  })

  await t.test('F30 the log: klog lines, JSON lines, verbosity, no secrets', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f30')
    await network.configure({ Network: '10.5.0.0/16' })
    const json = '--log-format=json'
    await Promise.all([
      network.start(h1),
      network.start(h2, ['-v=10']),
      network.start(h3, [json, '-v=10']),
    ])
    await Promise.all([h1, h2, h3].map((host) => network.ready(host, 2)))
    await network.ctl('put', `${network.prefix}/subnets/a\nb`, 'two\nlines')
    await network.daemon(h1).waitFor(/ignoring .*a\\nb/, PATIENCE_MS)
    await network.daemon(h3).waitFor(/ignoring .*a/, PATIENCE_MS)
    await Promise.all([h1, h2, h3].map((host) => network.daemon(host).stop(5000)))
    const lines = (n: 1 | 2 | 3) => network.daemon(lab.host(n)).stderr().trimEnd().split('\n')
    for (const n of [1, 2] as const) {
      t.same(
        lines(n).filter((line) => !KLOG.test(line)),
        [],
        'every line has klog’s header',
      )
    }
    t.notMatch(lines(1).join('\n'), /applied \{|to renew lease/)
    t.match(lines(2).join('\n'), /applied \{[^]*Waiting for .* to renew lease/, '-v=10 tells more')
    for (const line of lines(3)) {
      const record = JSON.parse(line) as Record<string, unknown>
      t.equal(record['pid'], network.daemon(h3).pid)
      t.type(record['msg'], 'string')
      t.type(record['time'], 'number')
    }
    t.equal(network.daemon(h1).stdout() + network.daemon(h3).stdout(), '', 'nothing on stdout')
  })

  await t.test('F30 a password is in no line of the log', async (t) => {
    const network = new EtcdNetwork(t, lab, 'secret')
    await network.configure({ Network: '10.5.0.0/16' })
    const user = '--etcd-username=root'
    const inUrl = `--etcd-endpoints=http://root:${PASSWORD}@172.30.0.254:2379`
    const daemons = await Promise.all([
      network.start(h1, [user, `--etcd-password=${PASSWORD}`, '-v=10']),
      network.start(h2, [user, '-v=10'], { env: { FLANNELD_ETCD_PASSWORD: PASSWORD } }),
      network.start(h3, [inUrl, '-v=10']),
      network.start(h4, [`--etcd-pasword=${PASSWORD}`]),
    ])
    // This etcd has no users, so it refuses the name and password.
    for (const daemon of daemons.slice(0, 2)) {
      await daemon.waitFor(/Couldn't fetch network config.*auth/, PATIENCE_MS)
    }
    t.equal((await daemons[2].exited).code, 1, 'an address with a password is refused')
    t.equal((await daemons[3].exited).code, 2)
    for (const [i, daemon] of daemons.entries()) {
      t.notMatch(daemon.stderr(), PASSWORD, `daemon ${i + 1}`)
    }
  })

  await t.test('F21 etcd unreachable at the start: it waits, and says so once', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f21')
    await network.configure({ Network: '10.5.0.0/16' })
    // A closed port, and an address that nothing answers for.
    const dead = 'http://172.30.0.254:1'
    const silent = 'http://172.30.0.200:2379'
    const [closed, lost] = await Promise.all([
      network.start(h1, [`--etcd-endpoints=${dead}`]),
      network.start(h2, [`--etcd-endpoints=${silent}`]),
      network.start(h3, [`--etcd-endpoints=${dead},${lab.etcd.endpoint}`]),
    ])
    t.equal((await network.ready(h3)).state, 'ready', 'one endpoint of two is enough')
    for (const daemon of [closed, lost]) await daemon.waitFor(/store not reachable/, PATIENCE_MS)
    await sleep(3000)
    for (const daemon of [closed, lost]) {
      const lines = daemon.stderr().trimEnd().split('\n').slice(5)
      t.ok(lines.length <= 6, `${lines.length} lines:\n${lines.join('\n')}`)
      daemon.kill('SIGTERM')
      t.same(await daemon.exited, { code: 0, signal: null })
    }
    await until('h3 goes on', 1000, () => network.daemon(h3).running)
  })
})
