/** argon2 alone, with the parameters that the suite has by default: so many hashes at once, on the same thread pool. */
import argon2 from 'argon2'

export interface Order { concurrency: number, seconds: number }

const options = { type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const
const hash = await argon2.hash('a right password of these people', options)
process.send!('ready')

process.on('message', async ({ concurrency, seconds }: Order) => {
  const began = performance.now()
  let hashes = 0
  await Promise.all(Array.from({ length: concurrency }, async () => {
    while (performance.now() - began < seconds * 1000) {
      await argon2.verify(hash, 'a wrong password of theirs')
      hashes += 1
    }
  }))
  process.send!(hashes * 1000 / (performance.now() - began))
})
