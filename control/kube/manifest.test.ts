/**
 * The manifests of docs/kubernetes: what they say is what the daemon takes, and a real API takes it all.
 */
import t from 'tap'
import { REAL_SERVER } from '../lab/kube/cluster.js'
import { pathOf, readManifest } from '../lab/kube/manifest.js'
import { parseNetworkConfig } from '../network-config.js'
import { parseOptions } from '../options.js'
import { startCluster } from './kube-fixture.js'

t.setTimeout(90_000)

const objects = readManifest()
const byKind = (kind: string) => objects.find((object) => object.kind === kind)

interface Container {
  readonly name: string
  readonly image: string
  readonly command?: string[]
  readonly args?: string[]
  readonly volumeMounts: { readonly name: string; readonly mountPath: string }[]
}

interface PodSpec {
  readonly containers: Container[]
  readonly initContainers: Container[]
  readonly volumes: { readonly name: string }[]
}

const pod = (byKind('DaemonSet')?.['spec'] as { template: { spec: PodSpec } }).template.spec
const [daemon] = pod.containers

t.test('the daemon takes its arguments and its configuration', async (t) => {
  const { options } = parseOptions(daemon?.args ?? [], {})
  t.same(options.store, { kind: 'kubernetes' })
  t.same(options.healthz, { ip: '0.0.0.0', port: 8081 })
  const data = byKind('ConfigMap')?.['data'] as Record<string, string>
  const config = parseNetworkConfig(data['net-conf.json'] ?? '', 'assigned')
  t.equal(config.backend.type, 'vxlan')
  t.match(JSON.parse(data['cni-conf.json'] ?? ''), { name: 'cbr0', plugins: [{ type: 'flannel' }] })
  const mounts = daemon?.volumeMounts.map(({ mountPath }) => mountPath) ?? []
  for (const path of [options.kube.netConfigPath, options.subnetFile]) {
    t.ok(mounts.includes(path.replace(/\/[^/]*$/, '')), `${path} is mounted`)
  }
})

t.test('every volume is there, and used', async (t) => {
  const used = [...pod.containers, ...pod.initContainers].flatMap(({ volumeMounts }) =>
    volumeMounts.map(({ name }) => name),
  )
  t.same(new Set(used), new Set(pod.volumes.map(({ name }) => name)))
})

const skip = REAL_SERVER === '' && 'needs a real kube-apiserver: npm run test:kube'

t.test('a real API takes every object', { skip }, async (t) => {
  const { cluster } = await startCluster(t)
  for (const object of objects.filter(({ kind }) => kind !== 'ClusterRole')) {
    await cluster.ask('POST', pathOf(object), object)
  }
  const [name] = objects.filter(({ kind }) => kind === 'DaemonSet').map((o) => o.metadata.name)
  const found = await cluster.ask(
    'GET',
    `/apis/apps/v1/namespaces/kube-heddle/daemonsets/${String(name)}`,
  )
  t.match(found, { spec: { template: { spec: { hostNetwork: true } } } })
})
