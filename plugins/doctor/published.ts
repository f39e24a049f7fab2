/**
 * Advisories that were published of packages that guard a Fastify service, as they stood when this version was made. It is no full list:
 * `npx fastify-bastion doctor --refresh` asks the registry for what is known today, and `npm audit` of everything that is installed.
 */
export interface Advisory {
  package: string
  /** Versions that have it. */
  range: string
  severity: 'low' | 'moderate' | 'high' | 'critical'
  id: string
  title: string
}

export const AS_OF = '2026-11-21'

const list = (name: string, ...advisories: readonly (readonly [string, string, Advisory['severity'], string])[]): Advisory[] =>
  advisories.map(([id, range, severity, title]) => ({ package: name, range, severity, id, title }))

export const PUBLISHED: readonly Advisory[] = [
  ...list('fastify',
    ['GHSA-455w-c45v-86rg', '>=4.0.0 <4.8.1', 'high', 'a Content-Type header ends the process'],
    ['GHSA-3fjj-p79j-c9hh', '<3.29.4 || >=4.0.0 <4.10.2', 'moderate', 'forged requests by a wrong Content-Type'],
    ['GHSA-mg2h-6x62-wpwc', '=4.29.0 || >=5.0.0 <5.3.2', 'high', 'a Content-Type in another case or with spaces skips validation'],
    ['GHSA-jx2c-rxcm-jvmq', '<5.7.2', 'high', 'a tab in the Content-Type skips validation'],
    ['GHSA-mrq3-vjjr-p77c', '<5.7.3', 'low', 'memory without bounds in answers from web streams']),
  ...list('find-my-way', ['GHSA-rrr8-f88r-h8q6', '>=5.5.0 <8.2.2 || >=9.0.0 <9.0.1', 'high', 'two parameters between slashes make a slow regular expression']),
  ...list('fast-jwt',
    ['GHSA-c2ff-88x2-x9pg', '<3.3.2', 'moderate', 'RS256 keys are taken for HS256 secrets'],
    ['GHSA-gm45-q3v2-6cf8', '<5.0.6', 'moderate', 'an issuer that is a list passes'],
    ['GHSA-rp9m-7r4c-75qg', '<6.2.0', 'critical', 'a cache key of one\'s own may answer with the claims of another token'],
    ['GHSA-hm7r-c7qw-ghp6', '<=6.1.0', 'high', 'critical header parameters that nobody understands are taken']),
  ...list('jsonwebtoken',
    ['GHSA-8cf7-32gw-wr33', '<=8.5.1', 'moderate', 'unrestricted key types: old keys pass'],
    ['GHSA-hjrf-2m68-5959', '<=8.5.1', 'moderate', 'RSA keys are taken for HMAC secrets'],
    ['GHSA-qwph-4952-7xr6', '<9.0.0', 'moderate', 'no signature is asked for where algorithms are unset']),
  ...list('jose', ['GHSA-hhhv-q57g-882q', '<2.0.7 || >=3.0.0 <4.15.5', 'moderate', 'compressed tokens take the processor and memory']),
  ...list('@fastify/multipart',
    ['GHSA-hpp2-2cr5-pf6g', '<6.0.1 || >=7.0.0 <7.4.1', 'high', 'as many parts as somebody sends'],
    ['GHSA-27c6-mcxv-x3fh', '<8.3.1 || >=9.0.0 <9.0.3', 'high', 'files of aborted requests stay']),
  ...list('@fastify/session', ['GHSA-pj27-2xvp-4qxg', '<10.9.0', 'high', 'an expired session is revived']),
  ...list('@fastify/secure-session', ['GHSA-9wwp-q7wq-jx35', '<7.3.0', 'high', 'a destroyed session is good when its cookie is sent again']),
  ...list('@fastify/csrf-protection', ['GHSA-qrgf-9gpc-vrxw', '<4.1.0 || >=5.0.0 <6.3.0', 'moderate', 'a token of one user is good for another']),
  ...list('@fastify/passport',
    ['GHSA-4m3m-ppvx-xgw9', '<1.1.0 || >=2.0.0 <2.3.0', 'high', 'the session id is kept at sign-in'],
    ['GHSA-2ccf-ffrj-m4qw', '<1.1.0 || >=2.0.0 <2.3.0', 'high', 'what a session held is kept at sign-in']),
  ...list('@fastify/bearer-auth', ['GHSA-376v-xgjx-7mfr', '<7.0.2 || >=8.0.0 <8.0.1', 'high', 'keys are not compared in constant time']),
  ...list('@fastify/static', ['CVE-2026-6414', '>=8.0.0 <9.1.1', 'moderate', 'encoded separators get around guards of routes']),
  ...list('@fastify/express',
    ['CVE-2026-33807', '<=4.0.4', 'critical', 'middleware of a child with a prefix never runs'],
    ['CVE-2026-33808', '<=4.0.4', 'critical', 'double slashes and semicolons get around middleware']),
  ...list('@fastify/middie', ['CVE-2026-33804', '<=9.3.1', 'high', 'double slashes get around middleware']),
  ...list('passport', ['GHSA-v923-w3x8-wh69', '<0.6.0', 'moderate', 'the session id is kept at sign-in']),
  ...list('sanitize-html', ['GHSA-rm97-x556-q36h', '<2.12.1', 'moderate', 'style attributes tell which files there are']),
  ...list('file-type', ['GHSA-mhxj-85r3-2x55', '>=13.0.0 <16.5.4 || >=17.0.0 <17.1.3', 'moderate', 'a malformed file makes it loop for ever']),
  ...list('sharp', ['GHSA-54xq-cgqr-rpm3', '<0.32.6', 'high', 'a WebP image writes outside of its buffer']),
  ...list('ajv', ['GHSA-v88g-cgmw-v5xw', '<6.12.3', 'moderate', 'a schema writes to the prototype of objects']),
  ...list('nodemailer', ['GHSA-9h6g-pr28-7cqp', '<=6.9.8', 'moderate', 'an address makes a slow regular expression']),
]

/** Looked at beside those of {@link PUBLISHED}: what guards a service, and what carries its secrets. */
export const WATCHED: readonly string[] = [...new Set([
  ...PUBLISHED.map(({ package: name }) => name),
  'fastify-bastion', '@fastify/cookie', '@fastify/cors', '@fastify/helmet', '@fastify/jwt', '@fastify/rate-limit', '@fastify/under-pressure', '@fastify/swagger', '@fastify/oauth2',
  'argon2', 'bcrypt', 'bcryptjs', 'otpauth', 'ioredis', 'pg', 'fast-json-stringify', 'light-my-request', 'undici', 'ws', 'helmet', 'express', '@nestjs/core', 'better-auth', '@simplewebauthn/server',
  'yauzl', 'busboy', '@fastify/busboy', 'pino', 'send', '@fastify/send', '@peculiar/x509', 'reflect-metadata', '@sinclair/typebox', 'secure-json-parse', 'fast-uri',
])].sort()
