/**
 * Leasing through a Kubernetes API: what is read of nodes and written to the own one, and what happens when the
 * server, the node or its annotations change.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { LeaseAttrs } from '../lease.js'
import { LeaseWatcher } from '../lease-watcher.js'
import type { Tenure } from '../leasing.js'
import { EventRecorder } from '../store/event-recorder.js'
import { TcpRelay } from '../store/tcp-relay.js'
import { KubeApi } from './api.js'
import { findNodeName } from './kube-leasing.js'
import { openAccess } from './access.js'
import { openLeasing, startCluster, type KubePlace, type Opened } from './kube-fixture.js'

t.setTimeout(400_000)

const P = 'flannel.alpha.coreos.com/'
const { signal } = new AbortController()

const vxlan = (publicIP: string, mac = '12:c6:65:89:b4:e3'): LeaseAttrs => ({
  publicIP,
  publicIPv6: null,
  backendType: 'vxlan',
  backendData: { VNI: 1, VtepMAC: mac },
})

/** A node with the annotations of a flannel. */
async function addPeer(place: KubePlace, name: string, podCIDR: string, ip: string): Promise<void> {
  await place.cluster.addNode(name, [podCIDR], peerAnnotations(ip))
}

const peerAnnotations = (ip: string) => ({
  [`${P}kube-subnet-manager`]: 'true',
  [`${P}backend-type`]: 'vxlan',
  [`${P}backend-data`]: '{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}',
  [`${P}public-ip`]: ip,
})

async function take(opened: Opened, attrs: LeaseAttrs): Promise<Tenure> {
  const config = await opened.leasing.readConfig(signal)
  if (config === null) throw new Error('no configuration')
  return opened.leasing.take(config, attrs, signal)
}

/** Follows the watch and keeps the lease, as the agent does, until the test ends. */
function live(t: Test, { leasing }: Opened, tenure: Tenure) {
  const stop = new AbortController()
  const recorder = new EventRecorder({
    async *watch(signal: AbortSignal) {
      const watcher = new LeaseWatcher(tenure.lease.subnet)
      for await (const event of leasing.watch(signal)) {
        const { own } = watcher.apply(event)
        if (own !== null) await tenure.observe(own === 'gone' ? null : own, signal)
        yield event
      }
    },
  })
  const over = tenure.renew(stop.signal)
  over.catch(() => undefined)
  t.teardown(async () => {
    stop.abort()
    await recorder.stop()
    await over.catch(() => undefined)
  })
  return { recorder, over }
}

async function soon(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 60_000
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`still not so: ${what}`)
    await pause(20)
  }
}

t.test('F65 a node publishes itself by annotations, then says that it has a network', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('n1', ['10.244.1.0/24'], { other: 'stays' })
  const opened = await openLeasing(t, place, 'n1')
  t.equal(opened.leasing.description, 'Kubernetes Subnet Manager - n1')
  t.same(await opened.leasing.givenAddresses(signal), { publicIP: null, publicIPv6: null })
  t.match(await opened.leasing.published(vxlan('192.0.2.1'), signal), { backendType: '' })
  const tenure = await take(opened, vxlan('192.0.2.1'))
  t.match(tenure.lease, { subnet: { v4: { addr: 0x0af40100, len: 24 }, v6: null } })
  t.equal(tenure.lease.expiresAt, null)
  t.same((await cluster.node('n1')).metadata.annotations, {
    other: 'stays',
    [`${P}kube-subnet-manager`]: 'true',
    [`${P}backend-type`]: 'vxlan',
    [`${P}backend-data`]: '{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}',
    [`${P}public-ip`]: '192.0.2.1',
  })
  const { metadata } = await cluster.node('n1')
  live(t, opened, tenure)
  t.notOk((await cluster.node('n1')).status?.conditions?.length, 'not before packets flow')
  opened.leasing.noteReady()
  await soon('the condition', async () => {
    return ((await cluster.node('n1')).status?.conditions ?? []).length > 0
  })
  t.match((await cluster.node('n1')).status?.conditions, [
    {
      type: 'NetworkUnavailable',
      status: 'False',
      reason: 'FlannelIsUp',
      message: 'Flannel is running on this node',
      lastHeartbeatTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
      lastTransitionTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    },
  ])
  t.not((await cluster.node('n1')).metadata.resourceVersion, metadata.resourceVersion)

  await t.test('a restart writes nothing, and finds its MAC address', async (t) => {
    const before = (await cluster.node('n1')).metadata.resourceVersion
    const again = await openLeasing(t, place, 'n1')
    t.match(await again.leasing.published(vxlan('192.0.2.1'), signal), vxlan('192.0.2.1'))
    await take(again, vxlan('192.0.2.1'))
    t.equal((await cluster.node('n1')).metadata.resourceVersion, before)
  })
})

t.test('F66 what people write: overwritten and given addresses', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('n1', ['10.244.1.0/24'], {
    [`${P}public-ip-overwrite`]: '198.51.100.9',
    [`${P}node-public-ip`]: '192.0.2.7',
  })
  const opened = await openLeasing(t, place, 'n1')
  t.same(await opened.leasing.givenAddresses(signal), { publicIP: '192.0.2.7', publicIPv6: null })
  const tenure = await take(opened, vxlan('192.0.2.7'))
  t.equal((await cluster.node('n1')).metadata.annotations?.[`${P}public-ip`], '198.51.100.9')
  t.equal(tenure.lease.attrs.publicIP, '198.51.100.9')
  await cluster.annotate('n1', { [`${P}node-public-ip`]: 'x' })
  await t.rejects(opened.leasing.givenAddresses(signal), {
    code: 'HEDDLE_CONFIG',
    message: /node-public-ip=x of node n1/,
  })
})

t.test('subnets that are none', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('none', [])
  await cluster.addNode('outside', ['10.9.1.0/24'])
  await cluster.addNode('wider', ['10.244.0.0/15'])
  const takeAs = async (node: string) => take(await openLeasing(t, place, node), vxlan('192.0.2.1'))
  await t.rejects(takeAs('none'), { code: 'HEDDLE_STORE', message: /no IPv4 podCIDR yet/ })
  await t.rejects(takeAs('absent'), { code: 'HEDDLE_STORE', message: /404.*"absent" not found/ })
  for (const node of ['outside', 'wider']) {
    await t.rejects(takeAs(node), { code: 'HEDDLE_CONFIG', message: /not inside the network/ })
  }
  // Assigned while the daemon waits.
  await cluster.patchNode('none', {
    spec: { podCIDR: '10.244.4.0/24', podCIDRs: ['10.244.4.0/24'] },
  })
  t.match((await takeAs('none')).lease.subnet.v4, { addr: 0x0af40400 })
})

t.test('F68 nodes join, change and leave', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('n1', ['10.244.1.0/24'])
  await addPeer(place, 'n2', '10.244.2.0/24', '192.0.2.2')
  await cluster.addNode('stranger', ['10.244.9.0/24'])
  const skipped: string[] = []
  const observer = { onSkip: (what: string, why: string) => skipped.push(`${what}: ${why}`) }
  const opened = await openLeasing(t, place, 'n1', { observer })
  const { recorder } = live(t, opened, await take(opened, vxlan('192.0.2.1')))
  await recorder.line('snapshot 10.244.1.0-24 10.244.2.0-24')

  await addPeer(place, 'n3', '10.244.3.0/24', '192.0.2.3')
  await recorder.line('put 10.244.3.0-24')
  t.match(recorder.leases.get('10.244.3.0-24')?.attrs, {
    publicIP: '192.0.2.3',
    backendType: 'vxlan',
    backendData: { VNI: 1, VtepMAC: '0a:00:00:00:00:01' },
  })
  const count = recorder.events.length
  await cluster.annotate('n3', { heartbeat: '1' })
  await cluster.annotate('n3', { [`${P}public-ip`]: '192.0.2.33' })
  await recorder.until(
    () => recorder.leases.get('10.244.3.0-24')?.attrs.publicIP === '192.0.2.33',
    'the new address',
  )
  t.equal(recorder.events.length, count + 1, 'a heartbeat is no event')

  await cluster.annotate('n3', { [`${P}kube-subnet-manager`]: null })
  await recorder.line('delete 10.244.3.0-24')
  await cluster.annotate('n3', { [`${P}kube-subnet-manager`]: 'true' })
  await recorder.until(() => recorder.leases.has('10.244.3.0-24'), 'it takes part again')
  await cluster.removeNode('n2')
  await recorder.line('delete 10.244.2.0-24')
  // The same node with another subnet, and garbage.
  await addPeer(place, 'n2', '10.244.5.0/24', '192.0.2.2')
  await recorder.line('put 10.244.5.0-24')
  await cluster.addNode('bad', ['10.244.6.0/24'], { ...peerAnnotations('none') })
  await recorder.until(() => skipped.length > 0, 'the garbage')
  t.match(skipped, [/^node bad: annotation .*public-ip is "none"$/])
  await cluster.annotate('bad', { [`${P}public-ip`]: '192.0.2.6' })
  await recorder.line('put 10.244.6.0-24')
  t.same([...recorder.leases.keys()].sort(), [
    '10.244.1.0-24',
    '10.244.3.0-24',
    '10.244.5.0-24',
    '10.244.6.0-24',
  ])
})

t.test('a server that goes, comes back and has forgotten', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('n1', ['10.244.1.0/24'])
  await addPeer(place, 'n2', '10.244.2.0/24', '192.0.2.2')
  await addPeer(place, 'n3', '10.244.3.0/24', '192.0.2.3')
  const connections: string[] = []
  const observer = { onConnection: (isUp: boolean) => connections.push(isUp ? 'up' : 'down') }
  const relay = await TcpRelay.start(cluster.url)
  t.teardown(() => relay.cut())
  const url = relay.endpoint.replace('http:', 'https:')
  const times = { answerMs: 3000, silenceMs: 3000 }
  const opened = await openLeasing(t, place, 'n1', { url, times, observer })
  const { recorder } = live(t, opened, await take(opened, vxlan('192.0.2.1')))
  await recorder.ready()
  const snapshots = () => recorder.events.filter(({ type }) => type === 'snapshot').length

  await t.test('what happened while it was away is learned by the watch', async (t) => {
    await relay.cut()
    await soon('it is away', () => connections.at(-1) === 'down')
    await addPeer(place, 'n4', '10.244.4.0/24', '192.0.2.4')
    await cluster.removeNode('n3')
    await relay.restore()
    await recorder.line('put 10.244.4.0-24', 10_000)
    await recorder.line('delete 10.244.3.0-24', 10_000)
    t.equal(snapshots(), 1, 'without another list')
    t.same(connections, ['down', 'up'])
  })

  await t.test('a server that holds its connections and says nothing', async (t) => {
    cluster.signal('SIGSTOP')
    await soon('it counts as away', () => connections.at(-1) === 'down')
    cluster.signal('SIGCONT')
    await addPeer(place, 'n5', '10.244.5.0/24', '192.0.2.5')
    await recorder.line('put 10.244.5.0-24', 10_000)
    t.equal(connections.at(-1), 'up')
  })

  await t.test('a version that is forgotten means a list', async (t) => {
    await relay.cut()
    await cluster.removeNode('n2')
    await cluster.restart()
    await addPeer(place, 'n6', '10.244.6.0/24', '192.0.2.6')
    await relay.restore()
    await recorder.until(() => recorder.leases.has('10.244.6.0-24'), 'the new node', 60_000)
    t.notOk(recorder.leases.has('10.244.2.0-24'), 'the node that went meanwhile is forgotten')
    t.equal(snapshots(), 2)
  })
})

t.test('the own node is kept as it should be', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('n1', ['10.244.1.0/24'])
  const opened = await openLeasing(t, place, 'n1')
  const { recorder, over } = live(t, opened, await take(opened, vxlan('192.0.2.1')))
  await recorder.ready()
  opened.leasing.noteReady()
  const isWhole = async () => {
    const { metadata, status } = await cluster.node('n1')
    const told = status?.conditions?.some(({ type }) => type === 'NetworkUnavailable') === true
    return told && metadata.annotations?.[`${P}public-ip`] === '192.0.2.1'
  }
  await soon('told', isWhole)

  await t.test('annotations that somebody removed come back', async (t) => {
    await cluster.annotate('n1', { [`${P}kube-subnet-manager`]: null, [`${P}public-ip`]: null })
    await soon('put back', isWhole)
    t.match(opened.log.at(-1), /W wrote .*somebody had changed them.*NODE_NAME=n1\?/)
  })

  await t.test('what a person overwrites counts from then on', async (t) => {
    const published = async () => (await cluster.node('n1')).metadata.annotations?.[`${P}public-ip`]
    const said = opened.log.length
    await cluster.annotate('n1', { [`${P}public-ip-overwrite`]: '198.51.100.1' })
    await soon('published', async () => (await published()) === '198.51.100.1')
    await cluster.annotate('n1', { [`${P}public-ip-overwrite`]: 'no address' })
    await soon('taken back', isWhole)
    t.match(opened.log.slice(said).join('\n'), /E node n1: annotation .*=no address is no address/)
    t.notMatch(opened.log.slice(said).join('\n'), /somebody had changed them/)
    await cluster.annotate('n1', { [`${P}public-ip-overwrite`]: null })
  })

  await t.test('a node that was registered again is told again', async () => {
    await cluster.removeNode('n1')
    await cluster.addNode('n1', ['10.244.1.0/24'])
    await soon('told again', isWhole)
  })

  await t.test('with another subnet the lease is lost', async (t) => {
    await cluster.removeNode('n1')
    await cluster.addNode('n1', ['10.244.7.0/24'])
    await t.rejects(over, {
      code: 'HEDDLE_LEASE_LOST',
      message: /n1 has the subnet 10\.244\.7\.0\/24 now, and no longer 10\.244\.1\.0\/24/,
    })
    t.notOk(recorder.leases.has('10.244.7.0-24'), 'and is no peer of itself')
  })
})

t.test('many nodes come in pages, and all of them', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  const names = Array.from({ length: 620 }, (_, i) => `n${String(i)}`)
  for (let i = 0; i < names.length; i += 20) {
    await Promise.all(
      names.slice(i, i + 20).map((name, j) => {
        const subnet = `10.244.${String(Math.floor((i + j) / 8))}.${String(((i + j) % 8) * 32)}/27`
        return addPeer(place, name, subnet, `192.0.2.${String((i + j) % 250)}`)
      }),
    )
  }
  const relay = await TcpRelay.start(cluster.url)
  t.teardown(() => relay.cut())
  const url = relay.endpoint.replace('http:', 'https:')
  const opened = await openLeasing(t, place, 'n0', { url })
  const { recorder } = live(t, opened, await take(opened, vxlan('192.0.2.0')))
  await recorder.until(() => recorder.leases.size === names.length, 'all', 10_000)
  await relay.cut()
  await cluster.annotate('n1', { [`${P}public-ip`]: '192.0.2.251' })
  await cluster.restart()
  await relay.restore()
  // By pages now: the first list may come from the server's cache, as a whole.
  const isListed = () => recorder.events.filter(({ type }) => type === 'snapshot').length === 2
  await recorder.until(isListed, 'a second list', 60_000)
  t.equal(recorder.leases.get('10.244.0.32-27')?.attrs.publicIP, '192.0.2.251')
  t.equal(recorder.leases.size, names.length)
})

t.test('whose node this is', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  const access = (kubeconfigFile: string) =>
    openAccess({ apiUrl: null, kubeconfigFile, serviceHost: '', servicePort: '' })
  const api = new KubeApi(await access(cluster.kubeconfig))
  t.equal(await findNodeName(api, { NODE_NAME: 'n1' }, signal), 'n1')
  await t.rejects(findNodeName(api, {}, signal), { code: 'HEDDLE_USAGE', message: /set NODE_NAME/ })
  const env = { POD_NAME: 'kube-heddle-x', POD_NAMESPACE: 'kube-heddle' }
  await t.rejects(findNodeName(api, env, signal), { code: 'HEDDLE_STORE', message: /404/ })
  await cluster.addPod('kube-heddle-x', 'kube-heddle', 'n7')
  t.equal(await findNodeName(api, env, signal), 'n7')
})

t.test('a user that may not, and one whom nobody knows', async (t) => {
  const place = await startCluster(t)
  const { cluster } = place
  await cluster.addNode('n1', ['10.244.1.0/24'])
  const path = `${cluster.kubeconfig}-2`
  writeFileSync(path, readFileSync(cluster.kubeconfig, 'utf8').replace('flannel-secret', 'guess'))
  const options = { apiUrl: null, serviceHost: '', servicePort: '' }
  const stranger = new KubeApi(await openAccess({ ...options, kubeconfigFile: path }))
  await t.rejects(stranger.get('/api/v1/nodes', signal), {
    message: /401 Unauthorized/,
    status: 401,
  })
  const api = new KubeApi(await openAccess({ ...options, kubeconfigFile: cluster.kubeconfig }))
  await t.rejects(
    api.patch('/api/v1/nodes/n1', { metadata: { annotations: { a: 'b' } } }, signal),
    {
      status: 403,
      message: /cannot patch resource "nodes".*ClusterRole/,
    },
  )
})
