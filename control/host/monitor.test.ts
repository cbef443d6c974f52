/**
 * Which of the kernel's announcements are of something that is ours: lines as `ip -o monitor` writes them.
 */
import t from 'tap'
import { isAbout } from './monitor.js'
import { NOTHING, type HostState } from './state.js'

const wanted: HostState = {
  ...NOTHING,
  links: [{ name: 'flannel.1', mtu: 1450, isUp: true }],
  routes: [
    { destination: '10.5.7.0/24', device: 'flannel.1', via: '10.5.7.0' },
    { destination: '10.5.8.0/24', device: 'eth0', via: '172.30.0.12' },
    { destination: '10.5.1.0/24', device: '', isBlackhole: true },
    { destination: 'fd05::/64', device: '', isBlackhole: true },
  ],
}

const cases: readonly (readonly [line: string, want: boolean])[] = [
  ['Deleted 10.5.7.0/24 via 10.5.7.0 dev flannel.1 proto 72 onlink ', true],
  ['Deleted 10.5.8.0/24 via 172.30.0.12 dev eth0 proto 72 ', true],
  ['Deleted 10.0.0.2 dev flannel.1 lladdr 0e:00:00:00:00:0c NOARP PERMANENT ', true],
  ['10.5.7.0 dev flannel.1 FAILED ', true],
  ['3: flannel.1: <BROADCAST,MULTICAST> mtu 1450 qdisc noqueue state DOWN group default ', true],
  ['Deleted 3: flannel.1: <BROADCAST,MULTICAST> mtu 1450 qdisc noop state DOWN ', true],
  ['2: eth0@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP ', true],
  ['3: flannel.1    inet 10.5.1.0/32 scope global flannel.1\\       valid_lft forever', true],
  ['172.30.0.12 dev eth0 lladdr 02:2e:1c:b8:d5:f5 REACHABLE ', false],
  ['dev eth0 lladdr 02:2e:1c:b8:d5:f5 PERMANENT ', false],
  ['4: cni0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 ', false],
  ['10.5.1.7 dev cni0 lladdr 02:2e:1c:b8:d5:f5 STALE ', false],
  ['local 10.0.0.1 dev e0 table local proto kernel scope host src 10.0.0.1 ', false],
  ['Deleted blackhole 10.5.1.0/24 proto 72 metric 4294967295 ', true],
  ['Deleted blackhole fd05::/64 dev lo proto 72 metric 4294967295 pref medium', true],
  ['blackhole 10.6.1.0/24 proto 72 metric 4294967295 ', false],
  ['10.5.7.0/24 via 192.168.8.9 dev eth1 ', true],
  ['unreachable 10.5.8.0/24 dev lo metric 4294967295 ', true],
  ['blackhole 10.5.7.0/24 ', true],
  ['10.6.7.0/24 via 192.168.8.9 dev eth1 ', false],
  ['', false],
]
for (const [line, want] of cases) t.equal(isAbout(line, wanted), want, line)
