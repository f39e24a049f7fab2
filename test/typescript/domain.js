/**
 * In place of async-hook-domain, by which tap knows in which subtest an error was thrown that nobody caught: for that it listens to every asynchronous
 * operation of the process, which is a quarter of the time of all tests. Without it such an error ends the file, which has then failed.
 */
export class Domain {
  constructor (onerror) { this.onerror = onerror }

  destroy () {}
}
