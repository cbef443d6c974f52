/**
 * @parallel Docker on the overlay, as README and OPERATIONS say: a real dockerd on each of two hosts, its bridge
 * from our subnet.env. Containers reach each other, although Docker's own FORWARD policy is DROP, and a
 * published port is reached from outside the network.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Host } from '../lab/host.js'
import { ManagedProcess, must, run } from '../lab/process.js'
import { createOverlay, skip, until } from './overlay.js'

t.setTimeout(180_000)

const BUSYBOX = '/bin/busybox'
const BYTES = 20_000_000
const FILE = '/tmp/file'

/** Why there is no Docker to test with. It is not installed by the tests: it would run on this machine from then on. */
function whyNoDocker(): string | false {
  const missing = ['dockerd', 'docker', BUSYBOX].filter((program) => {
    try {
      execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program])
      return false
    } catch {
      return true
    }
  })
  if (missing.length > 0)
    return `needs ${missing.join(', ')}: apt-get install docker.io busybox-static`
  return existsSync('/sys/fs/cgroup/devices') || existsSync('/sys/fs/cgroup/cgroup.controllers')
    ? false
    : 'needs control groups'
}

/** A Docker daemon of one host, with an image of busybox alone. */
class Docker {
  private readonly socket: string

  private constructor(socket: string) {
    this.socket = socket
  }

  static async start(t: Test, host: Host): Promise<Docker> {
    const dir = join(host.dir, 'docker')
    mkdirSync(join(dir, 'root/bin'), { recursive: true })
    mkdirSync(join(dir, 'root/tmp'))
    cpSync(BUSYBOX, join(dir, 'root/bin/busybox'))
    const env = Object.fromEntries(
      readFileSync(host.subnetFile, 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split('=') as [string, string]),
    )
    const socket = join(dir, 'sock')
    // Not by `ip netns exec`, which hides the control groups.
    const child = await ManagedProcess.start(
      'nsenter',
      [
        `--net=/run/netns/${host.netns}`,
        // What it mounts goes with it.
        'unshare',
        '--mount',
        'dockerd',
        `--bip=${String(env['FLANNEL_SUBNET'])}`,
        `--mtu=${String(env['FLANNEL_MTU'])}`,
        `--ip-masq=${String(env['FLANNEL_IPMASQ'] !== 'true')}`,
        `--data-root=${dir}/data`,
        `--exec-root=${dir}/exec`,
        `--pidfile=${dir}/pid`,
        `--host=unix://${socket}`,
        '--storage-driver=vfs',
        '--userland-proxy=false',
      ],
      { log: join(dir, 'dockerd') },
    )
    const docker = new Docker(socket)
    t.teardown(async () => {
      const names = (await docker.try('ps', '-aq')).stdout.split('\n').filter(Boolean)
      await docker.try('rm', '-f', ...names)
      await child.stop()
    })
    await until('dockerd answers', 60_000, async () => (await docker.try('info')).code === 0)
    await must('tar', ['-C', join(dir, 'root'), '-cf', join(dir, 'image.tar'), '.'])
    await docker.must('import', join(dir, 'image.tar'), 'busybox')
    return docker
  }

  private args(args: readonly string[]): string[] {
    return ['-H', `unix://${this.socket}`, ...args]
  }

  try(...args: string[]) {
    return run('docker', this.args(args), { timeoutMs: 60_000 })
  }

  must(...args: string[]): Promise<string> {
    return must('docker', this.args(args), { timeoutMs: 60_000 })
  }

  /** Starts a container that runs a script of busybox. @returns its name */
  async script(name: string, script: string, ...options: string[]): Promise<string> {
    // With its input open: at its end nc would stop listening to the other side.
    await this.must(
      'run',
      '-d',
      '-i',
      '--name',
      name,
      ...options,
      'busybox',
      BUSYBOX,
      'sh',
      '-c',
      script,
    )
    return name
  }

  async address(name: string): Promise<string> {
    const format = '{{.NetworkSettings.IPAddress}}'
    return (await this.must('inspect', '-f', format, name)).trim()
  }
}

/** Listens once, and prints the hash of what it is sent. */
const SERVER = 'busybox nc -l -p 8000 | busybox sha256sum'
const PATH = 'export PATH=/bin; '

t.test('containers of two dockerds', { skip: skip || whyNoDocker() }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  for (const host of [h1, h2]) await overlay.start(host, ['--ip-masq'])
  for (const host of [h1, h2]) await overlay.ready(host, 1)
  // As Docker sets it on a host where nobody has switched forwarding on before.
  for (const host of [h1, h2])
    await must('ip', ['netns', 'exec', host.netns, 'iptables', '-P', 'FORWARD', 'DROP'])
  const [d1, d2] = await Promise.all([Docker.start(t, h1), Docker.start(t, h2)])

  await t.test('the bridge has our subnet, the containers our MTU', async (t) => {
    const { gateway, prefixLen, mtu } = await h1.subnetEnv()
    const { stdout } = await h1.run('ip', ['-4', 'address', 'show', 'docker0'])
    t.match(stdout, `inet ${gateway}/${prefixLen}`)
    const said = await d1.must('run', '--rm', 'busybox', BUSYBOX, 'ip', 'link', 'show', 'eth0')
    t.match(said, `mtu ${mtu}`)
  })

  await t.test('Docker drops what is forwarded, our rules accept it', async (t) => {
    const { stdout } = await h1.run('iptables', ['-S', 'FORWARD'])
    t.match(stdout, /^-P FORWARD DROP$/m)
    await d2.script('idle', 'busybox sleep 100000')
    const to = await d2.address('idle')
    const said = await d1.must('run', '--rm', 'busybox', BUSYBOX, 'ping', '-c3', '-W2', to)
    t.match(said, /3 packets received/)
  })

  await t.test('TCP between containers, and its hash', async (t) => {
    await d2.script('server', PATH + SERVER)
    const to = await d2.address('server')
    const send = `busybox head -c ${BYTES} /dev/urandom > ${FILE}; busybox sha256sum < ${FILE}; busybox nc ${to} 8000 < ${FILE}`
    const sent = await d1.must('run', '--rm', 'busybox', BUSYBOX, 'sh', '-c', PATH + send)
    await d2.must('wait', 'server')
    const got = await d2.must('logs', 'server')
    t.match(got, /^[0-9a-f]{64} /)
    t.equal(got, sent)
  })

  await t.test('a published port, from outside the network', async (t) => {
    await d2.script('published', PATH + SERVER, '-p', '8080:8000')
    const { lab } = overlay
    const path = join(lab.dir, 'file')
    const send = `head -c ${BYTES} /dev/urandom > "$1"; sha256sum < "$1"; ${BUSYBOX} nc "$2" 8080 < "$1"`
    const sent = await lab.switch.run('sh', ['-c', send, 'sh', path, h2.address])
    await d2.must('wait', 'published')
    t.equal(await d2.must('logs', 'published'), sent.stdout)
  })

  await t.test('a restart of the daemon leaves the containers alone', async (t) => {
    await overlay.daemon(h2).stop()
    await overlay.start(h2, ['--ip-masq'])
    await overlay.ready(h2, 1)
    const to = await d2.address('idle')
    const said = await d1.must('run', '--rm', 'busybox', BUSYBOX, 'ping', '-c2', '-W2', to)
    t.match(said, /2 packets received/)
  })
})
