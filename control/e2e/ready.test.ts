/**
 * @serial How a daemon tells that it is ready (NOTIFY_SOCKET, healthz, readyz, log), and what it does
 * when somebody takes its kernel state away later.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { HEDDLED, type Host } from '../lab/host.js'
import type { ManagedProcess } from '../lab/process.js'
import { createOverlay, links, NETWORK, overlayAddress, skip, until } from './overlay.js'

t.setTimeout(90_000)

/** klog's line header, as log scrapers expect it. */
const KLOG = /^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.-]+:\d+\] /

t.test('ready: NOTIFY_SOCKET, healthz, readyz, the log (F28 to F30)', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  await overlay.configure({ Network: 'nonsense' })
  const socket = join(h1.dir, 'notify')
  const listener = await h1.spawn('socat', ['-u', `UNIX-RECV:${socket}`, 'STDOUT'])
  await until('the notify socket is there', 5000, () => existsSync(socket))
  const args = [`--store=file:${overlay.directory}`, '--iface=eth0', '--healthz-port=8081']
  const start = async (host: Host, subnetFile: string): Promise<ManagedProcess> => {
    const all = [HEDDLED, ...args, `--subnet-file=${subnetFile}`]
    const daemon = await host.spawn(process.execPath, all, {
      name: 'heddled',
      env: { NOTIFY_SOCKET: socket },
    })
    overlay.daemons.set(host, daemon)
    return daemon
  }
  const health = async (host: Host, path: string): Promise<string> => {
    const url = `http://127.0.0.1:8081${path}`
    return (await host.run('curl', ['-s', '-w', ' %{http_code}', url])).stdout
  }

  const daemon = await start(h1, h1.subnetFile)
  await daemon.waitFor(/Couldn't fetch network config: .*Network/)
  t.equal(await health(h1, '/healthz'), 'flanneld is running 200', 'no valid configuration yet')
  t.equal(await health(h1, '/readyz'), 'flanneld is not ready yet 503')
  t.equal(await health(h1, '/other').then((text) => text.slice(-3)), '404')
  t.equal(listener.stdout(), '')
  t.notOk((await links(h1)).includes('flannel0'))

  await overlay.configure({ Network: NETWORK, Backend: { Type: 'udp' } })
  await listener.waitFor(/READY=1/)
  t.ok(existsSync(h1.subnetFile), 'told after the file is there')
  t.equal(await health(h1, '/healthz'), 'flanneld is running 200')
  t.equal(await health(h1, '/readyz'), 'flanneld is ready 200')
  t.equal(listener.stdout().match(/READY=1/g)?.length, 1, 'once')

  // A subnet file that cannot be written: the daemon forwards, and is never ready.
  const folder = join(h2.dir, 'folder')
  mkdirSync(join(folder, 'not-empty'), { recursive: true })
  const unready = await start(h2, folder)
  await unready.waitFor(/Failed to write subnet file/)
  t.equal(await health(h2, '/readyz'), 'flanneld is not ready yet 503')
  t.ok((await links(h2)).includes('flannel0'))

  for (const one of [daemon, unready]) {
    one.kill('SIGTERM')
    t.same(await one.exited, { code: 0, signal: null })
    const lines = one.stderr().trim().split('\n')
    t.same(
      lines.filter((line) => !KLOG.test(line)),
      [],
      'every line has klog’s header',
    )
  }
})

t.test('somebody takes the kernel’s state away', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const base = await overlayAddress(h2)
  const ping = async () => (await h1.run('ping', ['-c1', '-W1', base])).code
  t.equal(await ping(), 0)

  for (const damage of [
    [`route del ${NETWORK} dev flannel0`, 'link set flannel0 mtu 1000'],
    ['link set flannel0 down'],
  ]) {
    const name = damage.join(', ')
    await h1.ip(...damage)
    await until(`repaired: ${name}`, 10_000, () => isWhole(h1))
    t.equal(await ping(), 0, name)
  }

  const daemon = overlay.daemon(h1)
  await h1.ip('link del flannel0')
  await daemon.waitFor(/flannel0 is there again/)
  t.match(daemon.stderr(), /^W.*flannel0 was deleted, it is made anew/m)
  await until('it is whole', 10_000, () => isWhole(h1))
  t.equal(await ping(), 0, 'device deleted')
})

/** Whether the TUN device is as it was made. */
async function isWhole(host: Host): Promise<boolean> {
  const link = (await host.run('ip', ['link', 'show', 'flannel0'])).stdout
  const routes = (await host.run('ip', ['route'])).stdout
  return /[<,]UP[,>].*mtu 1472/.test(link) && routes.includes(`${NETWORK} dev flannel0`)
}
