/** What uploads ask of a service, and what its handlers get. */
import type { UploadFacts } from './records.js'

/** Looks at what is to be stored: a virus scanner, for one. */
export interface UploadScanner {
  /**
   * Null where the file may be kept, else why not: for the log. What it throws, or an answer that comes too late, refuses the file too (503).
   *
   * @param file `path` is that of a file of this machine, which is gone afterwards
   */
  scan: (file: UploadFacts & { path: string }) => Promise<string | null>
}

/** A file that was received and checked, and is not kept yet: what nobody saves until the answer is gone leaves nothing. */
export interface Upload extends UploadFacts {
  /**
   * Keeps it under its generated name; durable once this resolves.
   *
   * @throws UploadCutOff where the client is gone, UploadQuotaExceeded
   */
  save: () => Promise<UploadFacts>
}
