/**
 * Advisories that were published of packages that guard a Fastify service, as GitHub's advisory database had them (ids, ranges and severities; of what was
 * published up to {@link AS_OF}, the day of the newest that is here). It is no full list: `npx fastify-bastion doctor --refresh` asks the registry for what is
 * known today and keeps it below `node_modules`, and `npm audit` asks of everything that is installed.
 *
 * Left out: GHSA-g8qq-57p8-ggw5 of sanitize-html (moderate). It needs an allowlist with SVG animations, which `html` does not take, and the releases
 * without it are made for Node 22.
 */
export interface Advisory {
  package: string
  /** Versions that have it. */
  range: string
  severity: 'low' | 'moderate' | 'high' | 'critical'
  id: string
  title: string
}

export const AS_OF = '2026-10-08'

const list = (name: string, ...advisories: readonly (readonly [string, string, Advisory['severity'], string])[]): Advisory[] =>
  advisories.map(([id, range, severity, title]) => ({ package: name, range, severity, id, title }))

export const PUBLISHED: readonly Advisory[] = [
  ...list('fastify',
    ['GHSA-xw5p-hw6r-2j98', '<2.15.1', 'moderate', 'allErrors takes the processor'],
    ['GHSA-455w-c45v-86rg', '>=4.0.0 <4.8.1', 'high', 'a Content-Type header ends the process'],
    ['GHSA-3fjj-p79j-c9hh', '>=3.0.0 <3.29.4 || >=4.0.0 <4.10.2', 'moderate', 'forged requests by a wrong Content-Type'],
    ['GHSA-mg2h-6x62-wpwc', '=4.29.0 || >=5.0.0 <5.3.2', 'high', 'a Content-Type in another case or with spaces skips validation'],
    ['GHSA-jx2c-rxcm-jvmq', '<5.7.2', 'high', 'a tab in the Content-Type skips validation'],
    ['GHSA-mrq3-vjjr-p77c', '<5.7.3', 'low', 'memory without bounds in answers from web streams'],
    ['GHSA-573f-x89g-hqp9', '>=5.7.2 <5.8.1', 'moderate', 'a malformed Content-Type passes'],
    ['GHSA-444r-cwp2-x5xf', '<5.8.3', 'moderate', 'host and protocol are believed from peers that are not trusted'],
    ['GHSA-247c-9743-5963', '>=5.3.2 <5.8.5', 'high', 'a space before the Content-Type skips validation'],
    ['GHSA-3m5p-2c4r-xxw2', '>=5.8.3 <5.12.1', 'moderate', 'forwarded headers are believed where trustProxy counts hops'],
    ['GHSA-w2qp-rph6-63g4', '<5.12.1', 'moderate', 'a body that is a number or a text reaches the handler as it was before coercion']),
  ...list('find-my-way',
    ['GHSA-jgrh-5m3h-9c5f', '<2.2.5 || >=3.0.0 <3.0.5', 'moderate', 'Accept-Version poisons caches'],
    ['GHSA-rrr8-f88r-h8q6', '>=5.5.0 <8.2.2 || >=9.0.0 <9.0.1', 'high', 'two parameters between slashes make a slow regular expression'],
    ['GHSA-c96f-x56v-gq3h', '<9.7.0', 'high', 'a method over HTTP/2 ends the process']),
  ...list('fast-jwt',
    ['GHSA-c2ff-88x2-x9pg', '<3.3.2', 'moderate', 'RS256 keys are taken for HS256 secrets'],
    ['GHSA-gm45-q3v2-6cf8', '<5.0.6', 'moderate', 'an issuer that is a list passes'],
    ['GHSA-hm7r-c7qw-ghp6', '<=6.1.0', 'high', 'critical header parameters that nobody understands are taken'],
    ['GHSA-mvf2-f6gm-w987', '<6.2.0', 'critical', 'a space before an RSA key makes it an HS256 secret'],
    ['GHSA-rp9m-7r4c-75qg', '>=0.0.1 <6.2.0', 'critical', 'a cache key of one\'s own may answer with the claims of another token'],
    ['GHSA-cjw9-ghj4-fwxf', '>=5.0.0 <6.2.1', 'moderate', 'regular expressions for claims take the processor'],
    ['GHSA-3j8v-cgw4-2g6q', '<6.2.1', 'moderate', 'regular expressions for claims with a state refuse every second token'],
    ['GHSA-gmvf-9v4p-v8jc', '<6.2.4', 'critical', 'a resolver that finds no key lets forged tokens pass'],
    ['GHSA-ww5h-9m49-7xx4', '>=6.2.0 <6.3.0', 'critical', 'a byte before an RSA key makes it an HS256 secret'],
    ['GHSA-5hjw-83fp-phq9', '<=6.2.4', 'high', 'no claim is checked of a payload that is a list'],
    ['GHSA-687g-22h4-j4w4', '<=6.2.4', 'moderate', 'an infinite clockTolerance outlives its setting in the cache'],
    ['GHSA-8wpc-h4q6-8fxv', '<=6.3.0', 'high', 'no signature is checked where the key is empty and algorithms are given']),
  ...list('jsonwebtoken',
    ['GHSA-c7hr-j4mj-j2w6', '<4.2.2', 'critical', 'the token chooses its algorithm'],
    ['GHSA-8cf7-32gw-wr33', '<9.0.0', 'high', 'unrestricted key types: old keys pass'],
    ['GHSA-hjrf-2m68-5959', '<9.0.0', 'moderate', 'RSA keys are taken for HMAC secrets'],
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
    ['GHSA-2ccf-ffrj-m4qw', '<1.1.0 || >=2.0.0 <2.3.0', 'moderate', 'what a session held is kept at sign-in']),
  ...list('@fastify/bearer-auth', ['GHSA-376v-xgjx-7mfr', '<7.0.2 || >=8.0.0 <8.0.1', 'high', 'keys are not compared in constant time']),
  ...list('@fastify/static',
    ['GHSA-pr96-94w5-mx2h', '>=8.0.0 <9.1.1', 'moderate', 'lists of files leave the folder'],
    ['GHSA-x428-ghpx-8j92', '>=8.0.0 <9.1.1', 'moderate', 'encoded separators get around guards of routes'],
    ['GHSA-83w8-p2f5-377r', '<10.1.1', 'high', 'dots within a path get around guards of routes'],
    ['GHSA-8pvw-jcv7-9cmj', '<10.1.2', 'moderate', 'paths in another form get around allowedPath']),
  ...list('@fastify/swagger-ui', ['GHSA-62jr-84gf-wmg4', '>=2.0.0 <2.1.0', 'moderate', 'all files of the module are served']),
  ...list('@fastify/reply-from',
    ['GHSA-v2v2-hph8-q5xp', '<9.6.0', 'moderate', 'a Content-Type is read otherwise than behind it'],
    ['GHSA-2q7r-29rg-6m5h', '<12.5.0', 'moderate', 'dots in a path reach routes that are not forwarded']),
  ...list('@fastify/express',
    ['GHSA-g6q3-96cp-5r5m', '<4.0.3', 'high', 'encoded letters get around middleware'],
    ['GHSA-hrwm-hgmj-7p9c', '<4.0.5', 'critical', 'middleware of a child with a prefix never runs'],
    ['GHSA-6hw5-45gm-fj88', '<4.0.5', 'critical', 'double slashes and semicolons get around middleware']),
  ...list('@fastify/middie',
    ['GHSA-cxrg-g7r8-w69p', '<9.1.0', 'high', 'encoded letters get around middleware'],
    ['GHSA-8p85-9qpw-fwgw', '<9.2.0', 'high', 'paths in another form get around middleware'],
    ['GHSA-72c6-fx6q-fr5w', '<9.3.2', 'critical', 'middleware of a child with a prefix never runs'],
    ['GHSA-v9ww-2j6r-98q6', '<9.3.2', 'high', 'double slashes get around middleware']),
  ...list('passport', ['GHSA-v923-w3x8-wh69', '<0.6.0', 'moderate', 'the session id is kept at sign-in']),
  ...list('sanitize-html',
    ['GHSA-mjxr-4v3x-q3m4', '<2.3.2', 'moderate', 'frames of other hosts pass'],
    ['GHSA-cgfm-xwp7-2cvr', '<2.7.1', 'high', 'comments make a slow regular expression'],
    ['GHSA-rm97-x556-q36h', '<2.12.1', 'moderate', 'style attributes tell which files there are'],
    ['GHSA-9mrh-v2v3-xpfm', '=2.17.2', 'moderate', 'encoded markup in textarea and option passes'],
    ['GHSA-rpr9-rxv7-x643', '=2.17.3', 'critical', 'markup in xmp passes'],
    ['GHSA-vccv-cmxp-4j9h', '>=1.18.0 <2.17.5', 'moderate', 'scripts as URLs of attributes such as action pass']),
  ...list('file-type',
    ['GHSA-mhxj-85r3-2x55', '>=13.0.0 <16.5.4 || >=17.0.0 <17.1.3', 'high', 'a malformed file makes it loop for ever'],
    ['GHSA-j47w-4g3g-c36v', '>=20.0.0 <21.3.2', 'moderate', 'a small archive takes much memory']),
  ...list('sharp',
    ['GHSA-54xq-cgqr-rpm3', '<0.32.6', 'high', 'a WebP image writes outside of its buffer'],
    ['GHSA-f88m-g3jw-g9cj', '<0.35.0', 'high', 'its libvips has faults that images reach']),
  ...list('ajv',
    ['GHSA-v88g-cgmw-v5xw', '<6.12.3', 'moderate', 'a schema writes to the prototype of objects'],
    ['GHSA-2g4f-4pwh-qvx6', '<6.14.0 || >=7.0.0 <8.18.0', 'moderate', 'patterns out of data ($data) take the processor']),
  ...list('fast-uri',
    ['GHSA-q3j6-qgpj-74h6', '<2.4.1 || >=3.0.0 <3.1.1', 'high', 'encoded dots leave the folder'],
    ['GHSA-v39h-62p7-jpjc', '<2.4.1 || >=3.0.0 <3.1.2', 'high', 'encoded delimiters change the host'],
    ['GHSA-7p8r-x3mc-p8w7', '<2.4.4 || >=3.0.0 <3.1.5 || >=4.0.0 <4.1.2', 'high', 'backslashes change the host'],
    ['GHSA-f65p-4m7j-42xc', '>=2.3.1 <2.4.5 || >=3.0.0 <3.1.6 || >=4.0.0 <4.1.3', 'high', 'a malformed IPv6 address is cut to another one']),
  ...list('nodemailer',
    ['GHSA-48ww-j4fc-435p', '<6.4.16', 'critical', 'an address is an option of sendmail'],
    ['GHSA-9h6g-pr28-7cqp', '<6.9.9', 'moderate', 'an attachment makes a slow regular expression'],
    ['GHSA-mm7p-fcc7-pg87', '<7.0.7', 'moderate', 'a quoted address goes to another domain'],
    ['GHSA-vvjj-xcjg-gr5g', '<8.0.5', 'moderate', 'line breaks in the name of the host are commands'],
    ['GHSA-268h-hp4c-crq3', '<8.0.9', 'moderate', 'line breaks in List headers are headers'],
    ['GHSA-wqvq-jvpq-h66f', '<8.0.9', 'moderate', 'jsonTransport reads files in spite of disableFileAccess'],
    ['GHSA-p6gq-j5cr-w38f', '<9.0.1', 'high', 'a raw message reads files in spite of disableFileAccess']),
]

/** Looked at beside those of {@link PUBLISHED}: what guards a service, and what carries its secrets. */
export const WATCHED: readonly string[] = [...new Set([
  ...PUBLISHED.map(({ package: name }) => name),
  'fastify-bastion', '@fastify/cookie', '@fastify/cors', '@fastify/helmet', '@fastify/jwt', '@fastify/rate-limit', '@fastify/under-pressure', '@fastify/swagger', '@fastify/oauth2',
  'argon2', 'bcrypt', 'bcryptjs', 'otpauth', 'ioredis', 'pg', 'fast-json-stringify', 'light-my-request', 'undici', 'ws', 'helmet', 'express', '@nestjs/core', 'better-auth', '@simplewebauthn/server',
  'yauzl', 'busboy', '@fastify/busboy', 'pino', 'send', '@fastify/send', '@peculiar/x509', 'reflect-metadata', '@sinclair/typebox', 'secure-json-parse',
])].sort()
