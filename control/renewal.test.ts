import t from 'tap'
import { planRenewal, type RenewalState } from './renewal.js'

const MINUTE = 60_000
const DAY = 1440 * MINUTE
const NOW = 1_700_000_000_000

function plan(over: Partial<RenewalState>) {
  return planRenewal({
    nowMs: NOW,
    expiresAtMs: NOW + DAY,
    ttlMs: DAY,
    marginMs: 60 * MINUTE,
    failedAtMs: null,
    ...over,
  })
}

const CASES: readonly [string, Partial<RenewalState>, boolean, number][] = [
  ['fresh lease: looks at the clock each minute', {}, false, MINUTE],
  ['half a minute before', { expiresAtMs: NOW + 60.5 * MINUTE }, false, MINUTE / 2],
  ['at the margin', { expiresAtMs: NOW + 60 * MINUTE }, true, 0],
  ['expired while suspended', { expiresAtMs: NOW - DAY }, true, 0],
  ['margin 1439: after one minute', { marginMs: 1439 * MINUTE }, false, MINUTE],
  [
    'margin 1439: one minute later',
    { marginMs: 1439 * MINUTE, expiresAtMs: NOW + 1439 * MINUTE },
    true,
    0,
  ],
  ['just failed', { expiresAtMs: NOW + 50 * MINUTE, failedAtMs: NOW }, false, MINUTE],
  ['failed 50 s ago', { expiresAtMs: NOW + 50 * MINUTE, failedAtMs: NOW - 50_000 }, false, 10_000],
  ['failed a minute ago', { expiresAtMs: NOW + 50 * MINUTE, failedAtMs: NOW - MINUTE }, true, 0],
  ['failed, then the clock was set back', { expiresAtMs: NOW, failedAtMs: NOW + DAY }, true, 0],
  [
    'failed past the expiry: goes on',
    { expiresAtMs: NOW - DAY, failedAtMs: NOW - MINUTE },
    true,
    0,
  ],
  ['ttl 10 s: at its half', { ttlMs: 10_000, expiresAtMs: NOW + 10_000 }, false, 5000],
  ['ttl 10 s: half gone', { ttlMs: 10_000, expiresAtMs: NOW + 5000 }, true, 0],
  [
    'ttl 10 s: retries after a second',
    { ttlMs: 10_000, expiresAtMs: NOW + 4000, failedAtMs: NOW - 400 },
    false,
    600,
  ],
  ['ttl as long as the margin', { ttlMs: 60 * MINUTE, expiresAtMs: NOW + 30 * MINUTE }, true, 0],
  [
    'ttl as long as the margin: before its half',
    { ttlMs: 60 * MINUTE, expiresAtMs: NOW + 40 * MINUTE },
    false,
    MINUTE,
  ],
  ['reservation', { expiresAtMs: null }, false, MINUTE],
  ['a fraction is rounded up', { ttlMs: 15, expiresAtMs: NOW + 15 }, false, 8],
]

for (const [name, over, isDue, waitMs] of CASES) {
  t.test(name, (t) => {
    t.same(plan(over), { isDue, waitMs })
    t.end()
  })
}
