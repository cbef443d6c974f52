/**
 * @parallel How the daemon tells that it is ready: subnet.env, NOTIFY_SOCKET, healthz and readyz.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setImmediate as yieldToIo } from 'node:timers/promises'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { baseOf, createEtcdLab, EtcdNetwork, PATIENCE_MS } from './etcd-network.js'
import { skip, until } from './overlay.js'

t.setTimeout(90_000)

const TIGHT = ['sh', '-c', 'umask 077; exec "$@"', 'sh']

function expectedEnv(subnet: string): string {
  const bridge = baseOf(subnet).replace(/0$/, '1')
  return `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${bridge}/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n`
}

function modeOf(path: string): string {
  return (statSync(path).mode & 0o7777).toString(8)
}

t.test('ready', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 2)
  const [h1, h2] = [lab.host(1), lab.host(2)]

  await t.test('F27 subnet.env: bytes, modes under umask 077, never a part of it', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f27')
    await network.configure({ Network: '10.5.0.0/16' })
    const file = network.subnetFile(h1)
    await network.start(h1, [], { wrapper: TIGHT })
    const { subnet } = (await network.ready(h1)).lease
    t.equal(readFileSync(file, 'utf8'), expectedEnv(subnet))
    t.equal(modeOf(file), '644')
    t.equal(modeOf(dirname(file)), '755')
    await network.daemon(h1).stop(5000)

    const old = `FLANNEL_SUBNET=10.9.1.1/24\n${'# written by hand\n'.repeat(400)}`
    writeFileSync(file, old)
    chmodSync(file, 0o640)
    await network.start(h1, [], { wrapper: TIGHT })
    const seen = new Set<string>()
    let reads = 0
    await until('the file is written anew', PATIENCE_MS, async () => {
      for (let i = 0; i < 200; i++, reads++) {
        seen.add(readFileSync(file, 'utf8'))
        await yieldToIo()
      }
      return seen.size > 1
    })
    await network.ready(h1)
    t.comment(`${reads} reads`)
    t.same([...seen], [old, expectedEnv(subnet)], 'either the old text or the new one')
    t.equal(modeOf(file), '640', 'the mode of the file that it replaces')
    t.same(
      (await h1.run('find', [dirname(file), '-name', '.subnet.env*'])).stdout,
      '',
      'no temporary file is left',
    )
  })

  await t.test('F28 READY=1 to NOTIFY_SOCKET once subnet.env is there', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f28')
    const file = network.subnetFile(h1)
    const socket = join(h1.dir, 'notify')
    // What the listener finds at the moment of the datagram is what a service manager would find.
    const command = `head -c 7; echo; cat ${file}`
    const listener = await h1.spawn('socat', ['-u', `UNIX-RECV:${socket}`, `SYSTEM:${command}`])
    await until('the socket is there', PATIENCE_MS, () => existsSync(socket))
    const daemon = await network.start(h1, [], { env: { NOTIFY_SOCKET: socket } })
    await daemon.waitFor(/nobody has written it yet/, PATIENCE_MS)
    t.equal(listener.stdout(), '', 'silent while it waits')
    await network.configure({ Network: '10.5.0.0/16' })
    const { lease } = await network.ready(h1)
    await listener.waitFor(/IPMASQ/, PATIENCE_MS)
    t.equal(listener.stdout(), `READY=1\n${expectedEnv(lease.subnet)}`)
    await listener.stop()
  })

  await t.test('F29 healthz and readyz: before and after, exact; port in use', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f29')
    const port = ['--healthz-ip=127.0.0.1', '--healthz-port=8081']
    const daemon = await network.start(h1, port)
    await daemon.waitFor(/nobody has written it yet/, PATIENCE_MS)
    t.equal(await ask(h1, '/healthz'), 'flanneld is running 200')
    t.equal(await ask(h1, '/readyz'), 'flanneld is not ready yet 503')
    t.match(await ask(h1, '/'), / 404$/)
    await network.configure({ Network: '10.5.0.0/16' })
    await network.ready(h1)
    t.equal(await ask(h1, '/healthz', 'POST'), 'flanneld is running 200')
    t.equal(await ask(h1, '/readyz'), 'flanneld is ready 200')

    // A folder where the file should be: it forwards, and is never ready.
    mkdirSync(join(network.subnetFile(h2), 'not-empty'), { recursive: true })
    const unready = await network.start(h2, port)
    await unready.waitFor(/^W.*Failed to write subnet file/m, PATIENCE_MS)
    t.equal(await ask(h2, '/readyz'), 'flanneld is not ready yet 503')
    t.equal((await network.peers(h1)).length, 1, 'its peers have it')

    const other = [...port, `--subnet-file=${join(h1.dir, 'other', 'subnet.env')}`]
    const second = await network.start(h1, other)
    t.same(await second.exited, { code: 1, signal: null })
    t.match(second.stderr(), /^F.*127\.0\.0\.1 port 8081: the port is taken/m)
    t.equal(await ask(h1, '/readyz'), 'flanneld is ready 200')
    await daemon.stop(5000)
  })
})

/** Body and code of an answer of the health server. */
async function ask(host: Host, path: string, method = 'GET'): Promise<string> {
  const url = `http://127.0.0.1:8081${path}`
  return (await host.run('curl', ['-s', '-X', method, '-w', ' %{http_code}', url])).stdout
}
