/**
 * The firewall rules of a running daemon: put in place at the start, compared with the kernel's again
 * and again, put back when somebody has changed them. At the exit they stay, as flannel leaves them, and
 * a restart changes only what is not right: traffic of pods never meets a host without them.
 */
import { describeError, isHeddleError, type HeddleError } from '../errors.js'
import {
  canNftRandomize,
  changeIptables,
  changeNftables,
  isLegacyTableUsed,
  isProgramMissing,
  readIptables,
  readIptablesTraits,
  readNftables,
  type IptablesTraits,
} from '../host/firewall.js'
import { prefixesOf, type LeaseSubnet } from '../lease.js'
import type { Logger } from '../log.js'
import type { NetworkConfig } from '../network-config.js'
import { formatPrefix4, formatPrefix6 } from '../prefix.js'
import { sleep } from '../store/abort.js'
import { iptablesChanges } from './iptables.js'
import { nftablesChanges, type Wanted } from './nftables.js'
import {
  FAMILIES,
  forwardRules,
  masqueradeRules,
  PURPOSES,
  type Carried,
  type Family,
  type Purpose,
} from './rules.js'

export interface FirewallOptions {
  /** Whether traffic that leaves the network is masqueraded. */
  readonly masquerade: boolean
  /** Whether source ports are chosen at random then, where the host can. */
  readonly fullyRandom: boolean
  /** Whether forwarded traffic of the network is accepted. */
  readonly forward: boolean
  /** Milliseconds between two comparisons, 0 = only at the start. */
  readonly resyncMs: number
}

/** The firewall rules of a daemon, for its status. */
export interface FirewallStatus {
  readonly mode: 'iptables' | 'nftables'
  /** What they are for: `masquerade`, `forward`. */
  readonly rules: readonly Purpose[]
  /** Why some are not in place; null = they are. */
  readonly fault: string | null
}

interface Fault {
  readonly purpose: Purpose
  readonly error: HeddleError
}

/** What the log says of a change. */
type Outcome = (mode: 'iptables' | 'nftables') => string
const PUT_IN_PLACE: Outcome = (mode) => `${mode} rules put in place`
/** Flannel's words, which people look for. */
const MISSING: Outcome = (mode) => `Some ${mode} rules are missing; deleting and recreating rules`

const START_ATTEMPTS = 5
const START_PAUSE_MS = 1000
/** As long as a timer can run. */
const FOREVER_MS = 2 ** 31 - 1

export class Firewall {
  private readonly options: FirewallOptions
  private readonly carried: readonly Carried[]
  /** What tells our rules from those of another daemon. */
  private readonly prefixes: readonly string[]
  private readonly usesNftables: boolean
  private readonly log: Logger
  private traits: IptablesTraits | null = null
  private nftRandom: boolean | null = null
  /** The faults that the log has told last. */
  private told = ''

  /** @param former  the subnet of last time, whose rules are to go if it has changed */
  constructor(
    options: FirewallOptions,
    config: NetworkConfig,
    subnet: LeaseSubnet,
    former: LeaseSubnet | null,
    log: Logger,
  ) {
    this.options = options
    this.carried = carriedBy(config, subnet)
    const networks = this.carried.map(({ network }) => network)
    this.prefixes = [...networks, ...prefixesOf(subnet), ...(former ? prefixesOf(former) : [])]
    this.usesNftables = config.enableNFTables
    this.log = log
  }

  /**
   * Puts the rules in place, and removes those that are not wanted any more.
   * @throws HEDDLE_FIREWALL when traffic is to be masqueraded and cannot be, after some attempts, or an
   *         AbortError; anything else is a warning
   */
  async start(signal: AbortSignal): Promise<void> {
    const faults = await this.applyWithPatience(signal)
    const forward = faults.find(({ purpose }) => purpose === 'forward')
    if (forward !== undefined) {
      this.log.warn(
        `no FORWARD rules: ${describeError(forward.error)}; traffic of the network passes where the FORWARD policy accepts it; --iptables-forward-rules=false asks for none`,
      )
    }
    this.told = describeFaults(faults)
    await this.removeUnwanted()
  }

  /** Others may hold the lock of iptables for a while. */
  private async applyWithPatience(signal: AbortSignal): Promise<Fault[]> {
    for (let attempt = 1; ; attempt++) {
      const faults = await this.apply(PUT_IN_PLACE)
      const fatal = faults.find(({ purpose }) => purpose === 'masquerade')?.error
      if (fatal === undefined) return faults
      if (attempt === START_ATTEMPTS || !fatal.retryable) throw fatal
      this.log.warn(`firewall: ${describeError(fatal)} (trying again)`)
      await sleep(START_PAUSE_MS, signal)
    }
  }

  /** What is kept, and by which program. */
  describe(): FirewallStatus {
    return {
      mode: this.usesNftables ? 'nftables' : 'iptables',
      rules: PURPOSES.filter((purpose) => this.isWanted(purpose)),
      fault: this.told === '' ? null : this.told,
    }
  }

  /** Compares and puts back until the signal fires. */
  async keep(signal: AbortSignal): Promise<void> {
    const { resyncMs } = this.options
    for (;;) {
      await sleep(resyncMs || FOREVER_MS, signal).catch(() => undefined)
      if (signal.aborted) return
      if (resyncMs === 0) continue
      const fault = describeFaults(await this.apply(MISSING))
      if (fault !== this.told && fault !== '') this.log.error(`firewall: ${fault}`)
      this.told = fault
    }
  }

  private isWanted(purpose: Purpose): boolean {
    return this.options[purpose]
  }

  /** Brings what is wanted to what it should be. @returns what could not be done */
  private async apply(outcome: Outcome): Promise<Fault[]> {
    const wanted = PURPOSES.filter((purpose) => this.isWanted(purpose))
    if (this.usesNftables) {
      try {
        for (const { family } of this.carried) await this.applyNftables(family, outcome)
        return []
      } catch (error) {
        if (!isHeddleError(error)) throw error
        return wanted.map((purpose) => ({ purpose, error }))
      }
    }
    const faults: Fault[] = []
    for (const purpose of wanted) {
      try {
        for (const carried of this.carried) await this.applyIptables(carried, purpose, outcome)
      } catch (error) {
        if (!isHeddleError(error)) throw error
        faults.push({ purpose, error })
      }
    }
    return faults
  }

  private async applyIptables(carried: Carried, purpose: Purpose, outcome: Outcome): Promise<void> {
    const { family } = carried
    this.traits ??= await readIptablesTraits()
    const isRandom = this.options.fullyRandom && this.traits.isRecent
    const rules = this.rulesFor(carried, purpose, isRandom)
    const saved = await readIptables(family, purpose)
    const lines = iptablesChanges(purpose, rules, saved, this.prefixes)
    if (lines.length === 0) return
    await changeIptables(family, purpose, lines, this.traits)
    this.tell(`${outcome('iptables')} (IPv${family}, ${purpose})`, lines)
  }

  private async applyNftables(family: Family, outcome: Outcome): Promise<void> {
    if (this.options.masquerade) this.nftRandom ??= await canNftRandomize()
    const isRandom = this.options.fullyRandom && this.nftRandom === true
    const wanted: Wanted = Object.fromEntries(
      this.carried
        .filter((carried) => carried.family === family)
        .flatMap((carried) =>
          PURPOSES.filter((purpose) => this.isWanted(purpose)).map((purpose) => [
            purpose,
            this.rulesFor(carried, purpose, isRandom),
          ]),
        ),
    )
    const listed = await readNftables(family)
    const lines = nftablesChanges(family, wanted, listed, this.prefixes, true)
    if (lines.length === 0) return
    await changeNftables(lines)
    this.tell(`${outcome('nftables')} (IPv${family})`, lines)
  }

  private rulesFor(carried: Carried, purpose: Purpose, isRandom: boolean) {
    return purpose === 'masquerade' ? masqueradeRules(carried, isRandom) : forwardRules(carried)
  }

  private tell(what: string, lines: readonly string[]): void {
    this.log.info(what)
    this.log.verbose(1, `applied ${JSON.stringify(lines)}`)
  }

  /**
   * Removes our rules of the other mode, of a purpose that is not wanted, and of a family that the network
   * has no more.
   */
  private async removeUnwanted(): Promise<void> {
    const steps = FAMILIES.flatMap((family) => {
      const isUsed = !this.usesNftables && this.isCarried(family)
      const unwanted = PURPOSES.filter((purpose) => !(isUsed && this.isWanted(purpose)))
      const ours = this.prefixes.filter((prefix) => prefix.includes(':') === (family === 6))
      return [
        () => (this.usesNftables ? this.addOtherTable(family) : this.removeNftables(family)),
        ...(ours.length === 0 ? [] : unwanted).map((purpose) => {
          return () => this.removeIptables(family, purpose)
        }),
      ]
    })
    await Promise.all(steps.map((step) => this.attempt(step)))
  }

  private isCarried(family: Family): boolean {
    return this.carried.some((carried) => carried.family === family)
  }

  /** Flannel makes the tables of both families, whether the network has both or not. */
  private async addOtherTable(family: Family): Promise<void> {
    if (!this.isCarried(family)) await this.applyNftables(family, PUT_IN_PLACE)
  }

  private async removeNftables(family: Family): Promise<void> {
    const listed = await readNftables(family)
    const lines = nftablesChanges(family, {}, listed, this.prefixes, false)
    if (lines.length > 0) await changeNftables(lines)
  }

  private async removeIptables(family: Family, purpose: Purpose): Promise<void> {
    this.traits ??= await readIptablesTraits()
    if (!this.traits.isNft && !isLegacyTableUsed(family, purpose)) return
    const saved = await readIptables(family, purpose)
    const lines = iptablesChanges(purpose, [], saved, this.prefixes)
    if (lines.length > 0) await changeIptables(family, purpose, lines, this.traits)
  }

  /** Where the program is missing there is nothing of it to remove. */
  private async attempt(step: () => Promise<void>): Promise<void> {
    try {
      await step()
    } catch (error) {
      if (isProgramMissing(error)) return
      this.log.warn(`old firewall rules may be left: ${describeError(error)}`)
    }
  }
}

function describeFaults(faults: readonly Fault[]): string {
  return [...new Set(faults.map(({ error }) => describeError(error)))].join('; ')
}

/** The networks of a configuration with our parts of them. */
function carriedBy({ ipv4, ipv6 }: NetworkConfig, { v4, v6 }: LeaseSubnet): Carried[] {
  const list: Carried[] = []
  if (ipv4 !== null) {
    list.push({ family: 4, network: formatPrefix4(ipv4.network), subnet: formatPrefix4(v4) })
  }
  if (ipv6 !== null && v6 !== null) {
    list.push({ family: 6, network: formatPrefix6(ipv6.network), subnet: formatPrefix6(v6) })
  }
  return list
}
