/** Mutations of what is taken whole: passwords, HTML, files, texts that are matched, requests as they are framed. */
import type { Mutant } from './table.js'

export const OF_WHOLES: readonly Mutant[] = [
  {
    expected: 'input.password',
    what: 'any password will do',
    file: 'plugins/passwords/index.ts',
    from: 'if (faults.length > 0) throw new PasswordWeak',
    to: 'if (faults.length > 99) throw new PasswordWeak',
    on: 'portal',
    only: ['POST /auth/register'],
  },
  {
    expected: 'input.markup',
    what: 'every element is kept',
    file: 'plugins/html.ts',
    from: 'allowedTags: Object.keys(allowed),',
    to: 'allowedTags: false, allowVulnerableTags: true,',
    on: 'portal',
    only: ['POST /posts'],
  },
  {
    expected: 'uploads.content',
    what: 'a file is what its route takes, whatever it says it is',
    file: 'plugins/uploads/receive.ts',
    from: 'kindOf(extensionOf(part.filename), part.mimetype.toLowerCase(), rule.kinds)',
    to: "'png' as never",
    on: 'portal',
    only: ['POST /upload/image'],
  },
  {
    expected: 'uploads.size',
    what: 'a picture is as wide and as high as it likes',
    file: 'plugins/uploads/images.ts',
    from: '  if ((isTurned ? height : width) > maxWidth || (isTurned ? width : height) > maxHeight) throw new UploadDamaged()\n',
    to: '',
    on: 'portal',
    only: ['POST /upload/image'],
  },
  {
    expected: 'slowness.pattern',
    what: 'a pattern goes back over what it has matched',
    file: 'demo/routes/tools.ts',
    from: "pattern: '^[^\\\\x00]*$'",
    to: "pattern: '^(?:[a-z0-9 ]{1,2})*$'",
    on: 'portal',
    only: ['GET /search'],
  },
  {
    expected: 'framing.lengths',
    what: 'the parser of requests is a lenient one',
    file: 'plugins/server.ts',
    from: 'requireHostHeader: false,',
    to: 'requireHostHeader: false, insecureHTTPParser: true,',
    on: 'service',
    only: ['POST /session'],
  },
]
