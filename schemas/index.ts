export * from './account.js'
export * from './closed.js'
export * from './problem.js'
export * from './tokens.js'
