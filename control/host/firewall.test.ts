/**
 * Reading and changing the kernel's firewall rules with the real iptables and nft, in a network namespace
 * of its own: this file runs itself again there.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { iptablesChanges } from '../firewall/iptables.js'
import { nftablesChanges, type Wanted } from '../firewall/nftables.js'
import {
  FAMILIES,
  forwardRules,
  masqueradeRules,
  PURPOSES,
  type Carried,
  type Family,
  type Purpose,
} from '../firewall/rules.js'
import {
  canNftRandomize,
  changeIptables,
  changeNftables,
  demandBridgeNetfilter,
  isLegacyTableUsed,
  isProgramMissing,
  parseIptablesVersion,
  readIptables,
  readIptablesTraits,
  readNftables,
} from './firewall.js'
import { parseNetworkConfig } from '../network-config.js'

const INSIDE = 'in its own namespace'

const CARRIED: Readonly<Record<Family, Carried>> = {
  4: { family: 4, network: '10.5.0.0/16', subnet: '10.5.7.0/24' },
  6: { family: 6, network: 'fd05::/48', subnet: 'fd05:0:0:7::/64' },
}
const PREFIXES = [...Object.values(CARRIED).map(({ network }) => network), '10.4.9.0/24']

function run(command: string): string {
  const [program = '', ...args] = (command.match(/"[^"]*"|\S+/g) ?? []).map((word) =>
    word.replaceAll('"', ''),
  )
  return execFileSync(program, args, { encoding: 'utf8' })
}

function rulesFor(family: Family, purpose: Purpose, isRandom = true) {
  const carried = CARRIED[family]
  return purpose === 'masquerade' ? masqueradeRules(carried, isRandom) : forwardRules(carried)
}

/** Brings a table to what is wanted. @returns how many changes it took */
async function applyIptables(family: Family, purpose: Purpose, isWanted = true): Promise<number> {
  const wanted = isWanted ? rulesFor(family, purpose) : []
  const lines = iptablesChanges(purpose, wanted, await readIptables(family, purpose), PREFIXES)
  if (lines.length > 0) {
    await changeIptables(family, purpose, lines, await readIptablesTraits())
  }
  return lines.length
}

async function applyNftables(family: Family, isWanted = true): Promise<number> {
  const wanted: Wanted = isWanted
    ? { masquerade: rulesFor(family, 'masquerade'), forward: rulesFor(family, 'forward') }
    : {}
  const listed = await readNftables(family)
  const lines = nftablesChanges(family, wanted, listed, PREFIXES, isWanted)
  if (lines.length > 0) await changeNftables(lines)
  return lines.length
}

const C = '-m comment --comment "flanneld masq"'

function inside(): void {
  t.test('iptables: from nothing to what is wanted, and then nothing more', async (t) => {
    const { isNft } = await readIptablesTraits()
    t.equal(isNft, process.argv[3] === undefined)
    for (const family of FAMILIES) {
      for (const purpose of PURPOSES) {
        t.equal(isLegacyTableUsed(family, purpose), false)
        await readIptables(family, purpose)
        t.equal(isLegacyTableUsed(family, purpose), !isNft, 'a legacy table comes by being read')
      }
    }
    t.equal(run('nft list ruleset'), '', 'others do not')
    for (const family of FAMILIES) {
      for (const purpose of PURPOSES) {
        t.ok((await applyIptables(family, purpose)) > 0)
        t.equal(await applyIptables(family, purpose), 0, 'all is right')
      }
    }
    t.equal(
      run('iptables -t nat -S FLANNEL-POSTRTG'),
      [
        '-N FLANNEL-POSTRTG',
        `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${C} -j RETURN`,
        `-A FLANNEL-POSTRTG -s 10.5.7.0/24 -d 10.5.0.0/16 ${C} -j RETURN`,
        `-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.7.0/24 ${C} -j RETURN`,
        `-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.7.0/24 ${C} -j RETURN`,
        `-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 ${C} -j MASQUERADE --random-fully`,
        `-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 ${C} -j MASQUERADE --random-fully`,
        '',
      ].join('\n'),
    )
    t.match(run('ip6tables -t nat -S FLANNEL-POSTRTG'), /-s fd05::\/48 ! -d ff00::\/8 .*MASQUERADE/)
  })

  const damages: Readonly<Record<string, readonly string[]>> = {
    'a rule is gone': ['-D FLANNEL-POSTRTG 3'],
    'the order is wrong': [
      `-D FLANNEL-POSTRTG 1`,
      `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${C} -j RETURN`,
    ],
    'the chain is empty': ['-F FLANNEL-POSTRTG'],
    'the jump is gone': [`-D POSTROUTING ${C} -j FLANNEL-POSTRTG`],
    'three jumps': [
      `-I POSTROUTING ${C} -j FLANNEL-POSTRTG`,
      `-A POSTROUTING ${C} -j FLANNEL-POSTRTG`,
    ],
    'the chain is gone': [
      `-D POSTROUTING ${C} -j FLANNEL-POSTRTG`,
      '-F FLANNEL-POSTRTG',
      '-X FLANNEL-POSTRTG',
    ],
    'rules of an old subnet': [`-A FLANNEL-POSTRTG -s 10.4.9.0/24 -d 10.4.0.0/16 ${C} -j RETURN`],
    'rules of an old flannel': [`-A POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 ${C} -j RETURN`],
    'a rule of an operator': ['-I FLANNEL-POSTRTG -p tcp -j ACCEPT'],
  }
  for (const [name, commands] of Object.entries(damages)) {
    t.test(`iptables: put back: ${name}`, async (t) => {
      const before = rulesIn('iptables -t nat -S')
      for (const command of commands) run(`iptables -t nat ${command}`)
      t.not(rulesIn('iptables -t nat -S'), before)
      t.ok((await applyIptables(4, 'masquerade')) > 0)
      t.equal(rulesIn('iptables -t nat -S'), before)
      t.equal(await applyIptables(4, 'masquerade'), 0)
    })
  }

  t.test('iptables: rules of another daemon stay, those of operators too', async (t) => {
    const theirs = `-A FLANNEL-POSTRTG -s 10.6.0.0/16 ! -d 224.0.0.0/4 ${C} -j MASQUERADE`
    run(`iptables -t nat ${theirs}`)
    run('iptables -t nat -A POSTROUTING -s 10.5.0.0/16 -j ACCEPT')
    t.equal(await applyIptables(4, 'masquerade'), 0)
    await applyIptables(4, 'masquerade', false)
    t.match(run('iptables -t nat -S'), theirs)
    t.match(run('iptables -t nat -S'), '-A POSTROUTING -s 10.5.0.0/16 -j ACCEPT')
    t.notMatch(run('iptables -t nat -S FLANNEL-POSTRTG'), /10\.5\./)
    await applyIptables(4, 'masquerade')
    t.match(run('iptables -t nat -S'), theirs)
  })

  t.test('iptables: removed', async (t) => {
    run('iptables -t nat -D FLANNEL-POSTRTG 7')
    for (const family of FAMILIES) {
      for (const purpose of PURPOSES) {
        t.ok((await applyIptables(family, purpose, false)) > 0)
        t.equal(await applyIptables(family, purpose, false), 0)
      }
    }
    t.notMatch(run('iptables-save') + run('ip6tables-save'), /FLANNEL/i)
  })

  t.test('nftables: from nothing to what is wanted, and then nothing more', async (t) => {
    for (const family of FAMILIES) {
      t.equal(await readNftables(family), null)
      t.ok((await applyNftables(family)) > 0)
      t.equal(await applyNftables(family), 0)
    }
    t.ok(await canNftRandomize())
    t.notMatch(run('nft list tables'), /probe/, 'to ask leaves nothing')
  })

  const nftDamages: Readonly<Record<string, readonly string[]>> = {
    'a rule more': ['add rule ip flannel-ipv4 postrtg ip saddr 10.5.1.0/24 accept'],
    'an empty chain': ['flush chain ip flannel-ipv4 forward'],
    'no chain': ['flush chain ip flannel-ipv4 postrtg', 'delete chain ip flannel-ipv4 postrtg'],
    'a chain at another place': [
      'flush chain ip flannel-ipv4 forward',
      'delete chain ip flannel-ipv4 forward',
      'add chain ip flannel-ipv4 forward { type filter hook input priority 0 ; }',
      'add rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 accept',
    ],
    'no table': ['delete table ip flannel-ipv4'],
  }
  for (const [name, commands] of Object.entries(nftDamages)) {
    t.test(`nftables: put back: ${name}`, async (t) => {
      const chains = () =>
        ['postrtg', 'forward'].map((chain) => run(`nft list chain ip flannel-ipv4 ${chain}`))
      const before = chains()
      for (const command of commands) execFileSync('nft', [command])
      t.ok((await applyNftables(4)) > 0)
      t.same(chains(), before)
      t.equal(await applyNftables(4), 0)
    })
  }

  t.test('nftables: removed, with the rules of another daemon left', async (t) => {
    execFileSync('nft', ['add rule ip flannel-ipv4 forward ip saddr 10.6.0.0/16 accept'])
    t.equal(await applyNftables(4), 0)
    t.ok((await applyNftables(4, false)) > 0)
    t.match(
      run('nft list table ip flannel-ipv4'),
      /forward \{[^}]*\n\t\tip saddr 10\.6\.0\.0\/16 accept\n\t\}/,
    )
    t.notMatch(run('nft list table ip flannel-ipv4'), /postrtg|10\.5\./)
    execFileSync('nft', ['flush chain ip flannel-ipv4 forward'])
    for (const family of FAMILIES) await applyNftables(family, false)
    t.notMatch(run('nft list tables'), /flannel/)
  })

  t.test('what the kernel refuses changes nothing', async (t) => {
    const traits = await readIptablesTraits()
    await t.rejects(changeIptables(4, 'forward', ['-A FORWARD -j ACCEPT', '-A NOWHERE'], traits), {
      code: 'HEDDLE_FIREWALL',
      message: /^iptables-restore --noflush --wait=4: .+/,
    })
    t.notMatch(run('iptables -S FORWARD'), /-j ACCEPT/)
    await t.rejects(changeNftables(['add table ip x', 'add rule ip x y accept']), {
      code: 'HEDDLE_FIREWALL',
      message: /^nft -f -: .+/,
    })
    t.notMatch(run('nft list tables'), /table ip x/)
  })

  t.test('programs that are missing', async (t) => {
    const path = process.env['PATH']
    t.teardown(() => (process.env['PATH'] = path))
    process.env['PATH'] = '/nonexistent'
    for (const [reads, name] of [
      [readIptablesTraits(), 'iptables'],
      [readIptables(6, 'forward'), 'iptables'],
      [readNftables(4), 'nftables'],
      [canNftRandomize(), 'nftables'],
    ] as const) {
      const error: unknown = await reads.then(
        () => null,
        (fault: unknown) => fault,
      )
      t.ok(isProgramMissing(error))
      t.match(error, { code: 'HEDDLE_FIREWALL', message: new RegExp(`\\(package ${name}\\)`) })
    }
    t.notOk(isProgramMissing(new Error('ENOENT')))
  })
}

/** A table's rules, those of the kernel's chains before those of ours. */
function rulesIn(command: string): string {
  return run(command)
    .split('\n')
    .sort((a, b) => Number(a.includes('-A FLANNEL')) - Number(b.includes('-A FLANNEL')))
    .join('\n')
}

if (process.argv[2] === INSIDE) inside()
else {
  t.test('versions', async (t) => {
    for (const [text, isRecent, isNft] of [
      ['iptables v1.8.9 (nf_tables)', true, true],
      ['iptables v1.8.9 (legacy)', true, false],
      ['iptables v1.6.2', true, false],
      ['iptables v1.6.1', false, false],
      ['iptables v1.4.21', false, false],
      ['iptables v2.0', true, false],
      ['', false, false],
    ] as const) {
      t.same(parseIptablesVersion(text), { isRecent, isNft }, text)
    }
  })

  t.test('with nftables br_netfilter does not matter', async (t) => {
    const config = { Network: '10.5.0.0/16', EnableNFTables: true }
    t.doesNotThrow(() => {
      demandBridgeNetfilter(parseNetworkConfig(JSON.stringify(config)))
    })
  })

  const skip = process.getuid?.() === 0 ? false : 'needs root for a network namespace'
  const args = ['-n', process.execPath, fileURLToPath(import.meta.url), INSIDE]
  t.spawn('unshare', args, { skip }, INSIDE)

  /** A folder in which the names of iptables lead to the legacy programs. */
  const legacy = t.testdir(
    Object.fromEntries(
      ['iptables', 'ip6tables'].flatMap((name) =>
        ['', '-save', '-restore'].map((suffix) => [
          `${name}${suffix}`,
          t.fixture('symlink', `/usr/sbin/${name}-legacy${suffix}`),
        ]),
      ),
    ),
  )
  const probe = spawnSync('unshare', ['-n', 'iptables-legacy', '-S'])
  const env = { ...process.env, PATH: `${legacy}:${process.env['PATH'] ?? ''}` }
  const why = skip || (probe.status === 0 ? false : 'this kernel or host has no legacy iptables')
  t.spawn('unshare', [...args, legacy], { skip: why, env }, `${INSIDE}, with the legacy iptables`)
}
