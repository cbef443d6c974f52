/** The status of a daemon that has done nothing yet. */
import type { Status } from './status.js'

export const STATUS: Status = {
  version: '0.0.0',
  pid: 7,
  state: 'ready',
  startedAt: '2026-01-01T00:00:00.000Z',
  store: { description: 'etcd', isReachable: true },
  backend: { type: 'udp', port: 8285, dataplane: 'user' },
  device: { name: 'flannel0', mtu: 1472, receiveBuffer: 4096 },
  kernelDevices: [],
  network: '10.5.0.0/16',
  lease: { subnet: '10.5.1.0/24', publicIP: '192.0.2.1', publicIPv6: null, expiresAt: null },
  peers: [],
  firewall: { mode: 'iptables', rules: ['forward'], fault: null },
  routes: 0,
  skippedKeys: 0,
  counters: { egress: { read: 0, verdicts: {} }, ingress: { read: 0, verdicts: {} }, gauges: {} },
  queues: [{ egress: 0, ingress: 0 }],
  offloads: [],
  tunnels: [
    {
      device: { name: 'flannel0', mtu: 1472, receiveBuffer: 4096 },
      outer: 'ipv4',
      inner: ['ipv4'],
      routes: 0,
      counters: {
        egress: { read: 0, verdicts: {} },
        ingress: { read: 0, verdicts: {} },
        gauges: {},
      },
      queues: [{ egress: 0, ingress: 0 }],
      offloads: [],
    },
  ],
}
