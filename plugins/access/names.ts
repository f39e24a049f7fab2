/** The names of roles, permissions and resources: those of the service, where it says them. */

/** The names a service uses: augment it with `role`, `permission` and `resources`, and misspelt ones do not compile. */
export interface AccessNames {}

export type Role = AccessNames extends { role: infer Name extends string } ? Name : string
export type Permission = AccessNames extends { permission: infer Name extends string } ? Name : string
export type ResourceMap = AccessNames extends { resources: infer Map } ? Map : Record<string, unknown>
export type ResourceName = keyof ResourceMap & string

/** What the route with this config loads. */
export type LoadedResource<Config> = Config extends { access: { resource: infer Name extends ResourceName } } ? ResourceMap[Name] : unknown

/** One name or several, as a list. */
export function listOf<T extends string> (names: T | readonly T[] | undefined): readonly T[] {
  return names === undefined ? [] : typeof names === 'string' ? [names] : names as readonly T[]
}
