/** A command of `npx fastify-bastion`. */
export interface Command {
  name: string
  /** One line, for the list of commands. */
  summary: string
  /** What `--help` prints: how it is called, and what its options are. */
  help: string
  /**
   * Runs it; resolves with the exit code.
   *
   * @throws TypeError for arguments that are wrong: its message is shown, and the exit code is 2
   */
  run: (args: readonly string[], print: (line: string) => void) => Promise<number> | number
}

/** The exit code for arguments that are wrong. */
export const MISUSED = 2
