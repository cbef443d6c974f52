/** The status as text: what it says of offloads. */
import t from 'tap'
import type { OffloadReport } from '../../dataplane/index.js'
import { STATUS } from '../status-fixture.js'
import type { Status } from '../status.js'
import { formatStatus } from './status.js'

const since = '2026-01-02T03:04:05.678Z'
const offloads: readonly OffloadReport[] = [
  {
    name: 'tun-offload',
    state: 'on',
    detail: 'TCP super-packets',
    since: null,
    counters: { tso_cut: 7, tso_packets: 300 },
  },
  {
    name: 'tun-uso',
    state: 'unavailable',
    detail: 'EINVAL (ioctl TUNSETOFFLOAD)',
    since: null,
    counters: { uso_cut: 0, uso_packets: 0 },
  },
  { name: 'tun-gro', state: 'off', detail: '', since: null, counters: { joins_written: 0 } },
  {
    name: 'udp-segment',
    state: 'given-up',
    detail: 'EIO',
    since,
    counters: { runs_sent: 12, run_packets: 500, runs_resent: 1, runs_avoided: 0 },
  },
  { name: 'udp-gro', state: 'untested', detail: 'trains of datagrams', since: null, counters: {} },
]
const status: Status = {
  ...STATUS,
  counters: {
    ...STATUS.counters,
    gauges: { egress_read: 0, runs_lost: 1, runs_sent: 12, uso_cut: 0 },
  },
  offloads,
}

t.test('a line for each offload: state, what or why, counts that are not 0', async (t) => {
  const lines = formatStatus(status).split('\n')
  const from = lines.findIndex((line) => line.startsWith('OFFLOAD'))
  const words = lines.slice(from, from + 6).map((line) => line.split(/ {2,}/))
  t.same(words, [
    ['OFFLOAD', 'STATE'],
    ['tun-offload', 'on', 'TCP super-packets', 'tso_cut 7', 'tso_packets 300'],
    ['tun-uso', 'unavailable', 'EINVAL (ioctl TUNSETOFFLOAD)'],
    ['tun-gro', 'off', '--tun-gro=false'],
    [
      'udp-segment',
      'given-up',
      `EIO, ${since}`,
      'runs_sent 12',
      'run_packets 500',
      'runs_resent 1',
    ],
    ['udp-gro', 'untested', 'trains of datagrams'],
  ])
  t.same(lines.slice(from + 6), ['', 'runs_lost  1', ''], 'counts of offloads stand there alone')
})

t.test('a line for each engine where there are several', (t) => {
  const queues = [
    { egress: 5, ingress: 70 },
    { egress: 6, ingress: 0 },
  ]
  const lines = formatStatus({ ...status, queues }).split('\n')
  const from = lines.findIndex((line) => line.startsWith('QUEUE'))
  t.same(
    lines.slice(from, from + 3).map((line) => line.split(/ {2,}/)),
    [
      ['QUEUE', 'READ FROM DEVICE', 'READ FROM SOCKET'],
      ['0', '5', '70'],
      ['1', '6', '0'],
    ],
  )
  t.end()
})

t.test('firewall rules: what for, by whom, and whether they are there', (t) => {
  const line = (firewall: Status['firewall']) =>
    formatStatus({ ...status, firewall })
      .split('\n')
      .find((text) => text.startsWith('firewall'))
  t.equal(
    line({ mode: 'nftables', rules: ['masquerade', 'forward'], fault: null }),
    'firewall  masquerade and forward by nftables',
  )
  t.match(line({ mode: 'iptables', rules: ['forward'], fault: 'locked' }), /NOT IN PLACE: locked$/)
  t.equal(line({ mode: 'iptables', rules: [], fault: null }), 'firewall  no rules asked for')
  t.end()
})
