/** API keys are kept as they are sent (CWE-312; API2). `api-keys` keeps what tells that a key is right, and not the key. */
export function keptOf (key: string): string {
  return key
}
