/** The ledger: every budget of the service, by its name. */
import type { Principal } from '../identity.js'
import type { State } from '../state/index.js'
import { Budget, type WhenAway } from './budget.js'
import { BudgetUnknown, LimitsMisconfigured } from './errors.js'
import { describeBy } from './subject.js'
import { isSameTerms, type DescribedTerms, type Terms } from './terms.js'

/** What stands under one name: the budget of everybody, and one for each plan. */
export class Budgets {
  readonly terms: Terms
  /** Null where only plans have one. */
  readonly standard: Budget | null
  readonly #plans: ReadonlyMap<string, Budget>

  constructor (terms: Terms, standard: Budget | null, plans: ReadonlyMap<string, Budget>) {
    this.terms = terms
    this.standard = standard
    this.#plans = plans
  }

  get all (): readonly Budget[] { return [...this.standard === null ? [] : [this.standard], ...this.#plans.values()] }

  /** The one that this principal spends; null: none. */
  of (principal: Principal | null): Budget | null {
    const plan = principal?.plan
    return plan === undefined ? this.standard : this.#plans.get(plan) ?? this.standard
  }

  describe (): DescribedTerms {
    const { by, windows, algorithm, plans, ban } = this.terms
    return { by: describeBy(by), windows, algorithm, ...(plans !== undefined && { plans }), ...(ban !== undefined && { ban }) }
  }
}

export class Ledger {
  readonly #known = new Map<string, { budgets: Budgets, owner: string }>()
  readonly #state: State
  readonly #whenAway: WhenAway

  constructor (state: State, whenAway: WhenAway) {
    this.#state = state
    this.#whenAway = whenAway
  }

  /**
   * The budgets of this name.
   *
   * @param owner who asks for it, for people
   * @throws LimitsMisconfigured where it is there already with other terms, or they are wrong
   */
  open (name: string, terms: Terms, owner: string): Budgets {
    const known = this.#known.get(name)
    if (known !== undefined) {
      if (isSameTerms(known.budgets.terms, terms)) return known.budgets
      throw new LimitsMisconfigured(
        `limits: the budget ${name} is there already with other terms, from ${known.owner}: who shares it must write the same windows, plans, by, algorithm and ban`)
    }
    const { windows, plans = {} } = terms
    const budget = (plan: string | null, windows: readonly string[]) => new Budget(name, plan, { ...terms, windows }, this.#state, this.#whenAway)
    const ofPlans = Object.entries(plans).map(([plan, windows]) => [plan, budget(plan, windows)] as const)
    const budgets = new Budgets(terms, windows === false ? null : budget(null, windows), new Map(ofPlans))
    this.#known.set(name, { budgets, owner })
    return budgets
  }

  /** @throws BudgetUnknown */
  find (name: string): Budgets {
    const known = this.#known.get(name)
    if (known === undefined) throw new BudgetUnknown()
    return known.budgets
  }

  list (): { name: string, budgets: Budgets }[] {
    return [...this.#known].map(([name, { budgets }]) => ({ name, budgets }))
  }
}
