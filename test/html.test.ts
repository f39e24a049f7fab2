/** HTML: what is left of what people write is inert, as a browser's parser reads it, and stays as it is. */
import { parseFragment, type DefaultTreeAdapterTypes } from 'parse5'
import t, { type Test } from 'tap'
import { escapeHtml, faultOfAllowlist, HTML_ALLOWLISTS, htmlCleaner, showHtml, type HtmlAllowlist } from '../plugins/html.js'
import fc from './fixtures/fast-check.js'

type Node = DefaultTreeAdapterTypes.Node | DefaultTreeAdapterTypes.ChildNode
const PAGE = 'https://page.example/'
const seed = Number(process.env.FAST_CHECK_SEED ?? Date.now() % 2 ** 31)
t.comment(`FAST_CHECK_SEED=${seed}`)
const bounded = { seed, numRuns: 20_000, interruptAfterTimeLimit: 4000 }

const post = htmlCleaner(HTML_ALLOWLISTS.post, { normalize: true })
const inline = htmlCleaner(HTML_ALLOWLISTS.inline)

/** What a browser would make of it that the list does not allow. */
function beyond (html: string, allowed: HtmlAllowlist): string[] {
  const found: string[] = []
  const look = (node: Node) => {
    if (node.nodeName === '#comment' || node.nodeName === '#documentType') found.push(node.nodeName)
    if ('tagName' in node) {
      const attributes = Object.hasOwn(allowed, node.tagName) ? allowed[node.tagName]! : null
      if (attributes === null || node.namespaceURI !== 'http://www.w3.org/1999/xhtml') found.push(`<${node.tagName}>`)
      for (const { name, value } of node.attrs) {
        if (attributes?.includes(name) !== true) found.push(`${node.tagName}[${name}]`)
        if (name === 'href') {
          // As it would be followed from a page of ours.
          const { protocol, host } = URL.canParse(value, PAGE) ? new URL(value, PAGE) : { protocol: '', host: '' }
          if (!['http:', 'https:', 'mailto:'].includes(protocol) || host === new URL(PAGE).host) found.push(`href=${value}`)
        }
      }
    }
    if ('childNodes' in node) node.childNodes.forEach(look)
  }
  look(parseFragment(html))
  return found
}

function isInert (t: Test, html: string): void {
  for (const [name, clean, allowed] of [['post', post, HTML_ALLOWLISTS.post], ['inline', inline, HTML_ALLOWLISTS.inline]] as const) {
    const cleaned = clean(html)
    t.strictSame(beyond(cleaned, allowed), [], `${name}: ${encodeURI(html.slice(0, 80).replace(/\p{Surrogate}/gu, ''))}`)
    t.equal(clean(cleaned), cleaned, 'and is stable')
    // Put where it is shown, it does not leave its element.
    const page = parseFragment(`<div>${showHtml(cleaned)}</div><hr>`)
    t.same(page.childNodes.map(({ nodeName }) => nodeName), ['div', 'hr'], 'and stays in its place')
  }
}

/** After the OWASP XSS Filter Evasion Cheat Sheet, the html5sec list, and advisories of sanitisers. */
const ATTACKS = [
  '<script>alert(1)</script>', '<SCRIPT SRC=//evil.example/x.js></SCRIPT>', '<scr<script>ipt>alert(1)</scr</script>ipt>', '<<SCRIPT>alert(1);//\\<</SCRIPT>', '<SCRIPT/XSS SRC="//evil.example/x.js"></SCRIPT>', '<SCRIPT SRC=//evil.example/x.js?< B >',
  '<script\x20type="text/javascript">alert(1);</script>', '<script\x09>alert(1)</script>', '<script\x0c>alert(1)</script>', '</TITLE><SCRIPT>alert(1);</SCRIPT>', '\\";alert(1);//', '<SCRIPT>a=/XSS/\nalert(a.source)</SCRIPT>', '<script>/* */alert(1)/* */</script >', '<script >alert(1)</script\t\n bar>',
  '<IMG SRC="javascript:alert(1);">', '<IMG SRC=JaVaScRiPt:alert(1)>', '<IMG SRC=`javascript:alert(1)`>', '<IMG """><SCRIPT>alert(1)</SCRIPT>"\\>', '<IMG SRC=# onmouseover="alert(1)">', '<IMG onmouseover="alert(1)">', '<IMG SRC=/ onerror="alert(1)"></img>', '<img src=x onerror="&#0000106&#0000097">', '<IMG LOWSRC="javascript:alert(1)">', '<IMG DYNSRC="javascript:alert(1)">',
  '<IMG SRC="jav\tascript:alert(1);">', '<IMG SRC="jav&#x0A;ascript:alert(1);">', '<IMG SRC=" &#14;  javascript:alert(1);">', '<img src=x:alert(alt) onerror=eval(src) alt=0>', '<img/src=x/onerror=alert(1)>', '<img src=x onerror\x00=alert(1)>', '<img\nsrc=x\nonerror=alert(1)', '<IMG SRC=\'vbscript:msgbox("x")\'>', '<img src="livescript:x">',
  '<BODY ONLOAD=alert(1)>', '<BODY BACKGROUND="javascript:alert(1)">', '<BODY onload!#$%&()*~+-_.,:;?@[/|\\]^`=alert(1)>', '<BGSOUND SRC="javascript:alert(1);">', '<BR SIZE="&{alert(1)}">', '<br onclick=alert(1)>', '<LINK REL="stylesheet" HREF="javascript:alert(1);">', '<STYLE>@import"http://evil.example/x.css";</STYLE>', '<STYLE>li {list-style-image: url("javascript:alert(1)");}</STYLE><UL><LI>XSS</br>', '<XSS STYLE="xss:expression(alert(1))">',
  '<p style="background:url(javascript:alert(1))">x</p>', '<META HTTP-EQUIV="refresh" CONTENT="0;url=javascript:alert(1);">', '<META HTTP-EQUIV="Set-Cookie" Content="USERID=x">', '<IFRAME SRC="javascript:alert(1);"></IFRAME>', '<iframe srcdoc="&lt;script&gt;alert(1)&lt;/script&gt;">', '<FRAMESET><FRAME SRC="javascript:alert(1);"></FRAMESET>', '<TABLE BACKGROUND="javascript:alert(1)">', '<TABLE><TD BACKGROUND="javascript:alert(1)">', '<DIV STYLE="width: expression(alert(1));">',
  '<!--[if gte IE 4]><SCRIPT>alert(1);</SCRIPT><![endif]-->', '<BASE HREF="javascript:alert(1);//">', '<OBJECT TYPE="text/x-scriptlet" DATA="//evil.example/x.html"></OBJECT>', '<EMBED SRC="data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=" AllowScriptAccess="always"></EMBED>', '<? echo("<SCR)"; echo("IPT>alert(1)</SCRIPT>"); ?>', '<!--#exec cmd="/bin/echo x"-->', '<HEAD><META HTTP-EQUIV="CONTENT-TYPE" CONTENT="text/html; charset=UTF-7"> </HEAD>+ADw-SCRIPT+AD4-alert(1);+ADw-/SCRIPT+AD4-',
  '<A HREF="javascript:document.location=\'//evil.example/\'">x</A>', '<a href="JaVaScRiPt:alert(1)">x</a>', '<a href=" javascript:alert(1)">x</a>', '<a href="java\tscript:alert(1)">x</a>', '<a href="java&#10;script:alert(1)">x</a>', '<a href="java&Tab;script&colon;alert(1)">x</a>', '<a href="&#106;&#97;vascript:alert(1)">x</a>', '<a href="&#x6a;avascript&#58;alert(1)">x</a>', '<a href="\x01javascript:alert(1)">x</a>', '<a href="\u00a0javascript:alert(1)">x</a>', '<a href="javascript\u200b:alert(1)">x</a>', '<a href="jav\x00ascript:alert(1)">x</a>', '<a href="&#1;javascript:alert(1)">x</a>',
  '<a href="data:text/html,<script>alert(1)</script>">x</a>', '<a href="data:text/html;base64,PHNjcmlwdD4=">x</a>', '<a href="vbscript:x">x</a>', '<a href="feed:javascript:alert(1)">x</a>', '<a href="view-source:x">x</a>', '<a href="file:///etc/passwd">x</a>', '<a href="blob:https://x.example/1">x</a>', '<a href="//evil.example">x</a>', '<a href="\\\\evil.example">x</a>', '<a href="/\\evil.example">x</a>', '<a href="/local">x</a>', '<a href="#x">x</a>', '<a href="?x">x</a>', '<a href="">x</a>',
  '<a href="http:evil">x</a>', '<a href="https:/evil">x</a>', '<a href="https:\\\\evil.example">x</a>', '<a href="https://x.example\\@evil.example">x</a>', '<a href="https://user:pw@evil.example">x</a>', '<a href="https://x.example" onclick=alert(1) target=_blank ping="//evil.example" download rel=opener style="x" class=x id=x name=x>x</a>', '<a href=https://x.example/ onmouseover=alert(1)//>x', "<a href='https://x.example/' title='\"><img src=x onerror=alert(1)>'>x</a>", '<a title="</a><script>alert(1)</script>">x</a>', '<a href="https://x.example" href="javascript:alert(1)">x</a>', '<a HREF="javascript:alert(1)" href="https://x.example">x</a>', '<a xlink:href="javascript:alert(1)">x</a>', '<a/href="javascript:alert(1)">x</a>', '<a\rhref="javascript:alert(1)">x</a>', '<a onclick="alert(1)"/href="https://x.example">x</a>',
  // Parsers that disagree (mXSS).
  '<svg onload=alert(1)>', '<svg><script>alert(1)</script></svg>', '<svg><style><img src=x onerror=alert(1)></style></svg>', '<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">', '<svg><p><style><a title="</style><img src onerror=alert(1)>"></style></p></svg>', '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">', '<math><annotation-xml encoding="text/html"><style><img src=x onerror=alert(1)></style></annotation-xml></math>', '<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>', '<svg><foreignObject><iframe srcdoc="x">', '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>', '<svg><animate attributeName=href values="javascript:alert(1)" /></svg>', '<svg><use href="data:image/svg+xml,x#x"/></svg>', '<svg><![CDATA[><img src=x onerror=alert(1)>]]></svg>', '<svg><title><p><script>alert(1)</script>',
  '<noscript><p title="</noscript><img src=x onerror=alert(1)>">', '<noembed><p title="</noembed><img src=x onerror=alert(1)>">', '<textarea><p title="</textarea><img src=x onerror=alert(1)>">', '<title><p title="</title><img src=x onerror=alert(1)>">', '<xmp><p title="</xmp><img src=x onerror=alert(1)>">', '<style><p title="</style><img src=x onerror=alert(1)>">', '<iframe><p title="</iframe><img src=x onerror=alert(1)>">', '<select><option><p title="</option></select><img src=x onerror=alert(1)>">', '<template><p title="</template><img src=x onerror=alert(1)>">', '<plaintext><script>alert(1)</script>', '<listing>&lt;img src=x onerror=alert(1)&gt;</listing>', '<option><style></option></select><b><img src=x onerror=alert(1)></style></option>',
  // Comments, declarations, what is not closed.
  '<!--><script>alert(1)</script>-->', '<!-- --!><img src=x onerror=alert(1)>', '<!---><img src=x onerror=alert(1)>-->', '<!-- <!-- --><script>alert(1)</script> -->', '<![CDATA[<script>alert(1)</script>]]>', '<![CDATA[x]]]]><![CDATA[><img src=x onerror=alert(1)>]]>', '<!DOCTYPE html><script>x</script>', '<?xml version="1.0"?><script>x</script>', '<?<img src=x onerror=alert(1)>?>', '</ <img src=x onerror=alert(1)>', '<%<!--\'%><script>alert(1);</script -->', '</div></div></body><script>x</script>',
  '<p', '<a href="', '<a href="https://x.example', '<a title=\'x', '<', '</', '<!', '<!--', '<script', '<script>', '<style>', '<p><a><em', '<a <b', '<a "onclick=alert(1)>', '<p/onclick=alert(1)>', '<p "=">" onclick=alert(1)>', '<p a=\'>\' onclick=alert(1)>', '<em><p></em><script>x</script></p>', '<<p>script>alert(1)<</p>/script>', '<&#115;cript>alert(1)</script>', '&lt;script&gt;alert(1)&lt;/script&gt;', '&amp;lt;img src=x onerror=alert(1)&amp;gt;', '&#60;img src=x onerror=alert(1)&#62;', '%3Cscript%3Ealert(1)%3C/script%3E', '\\u003cscript\\u003e', '\uff1cscript\uff1ealert(1)\uff1c/script\uff1e', '\u2039script\u203a', '<p>\u0338<a href="https://x.example" title=" onload=alert(1) ">x</a>', '<\u0338script>', 'e<script></script>\u0301', '<p>\u0000<scr\u0000ipt>alert(1)</scr\u0000ipt>',
  '<constructor>x</constructor>', '<__proto__ onclick=x>y</__proto__>', '<p __proto__="x" constructor="y">z</p>', '<toString>x', '<a href="https://x.example" hasOwnProperty="x">y</a>', '<custom-element onx=y>z</custom-element>', '<p\u2028onclick=alert(1)>x', '<ſcript>alert(1)</ſcript>', '<K>x</K>', '<a><a href="https://x.example"><a>x', '<p><p><p>', '<li><ul><li>', '<strong><em>x</strong></em>', '<table><tr><td><p>x</table>',
]

t.test('attack: whatever is written, a browser finds nothing in it but what the list allows [ASVS 1.3.1] [ASVS 1.2.1]', async t => {
  for (const attack of ATTACKS) {
    isInert(t, attack)
    isInert(t, `Some text <p>first ${attack} and</p> then`)
    isInert(t, `<p title='${attack}'>x</p><a href="https://x.example" title="${attack.replaceAll('"', '&quot;')}">x</a>`)
  }
  t.ok(ATTACKS.length > 150)
  t.ok(ATTACKS.filter(attack => beyond(attack, HTML_ALLOWLISTS.post).length > 0).length > 100, 'the control: as they are written they bring in what they want')
})

t.test('attack: markup put together at random is inert, and stable (fast-check)', async t => {
  const piece = fc.oneof(
    fc.constantFrom(...ATTACKS),
    fc.constantFrom('<', '>', '</', '/>', '"', "'", '`', '=', '&', ';', '<!--', '-->', '--!>', '<![CDATA[', ']]>', '<?', '\0', '\t', '\n', '\f', ' ', '\u0338', '\u0301', 'e', '&lt;', '&gt;', '&quot;', '&#60', '&#x3c;', '&amp;', '&colon;', '&Tab;'),
    fc.constantFrom('p', 'a', 'em', 'ul', 'li', 'br', 'script', 'style', 'svg', 'math', 'mtext', 'mglyph', 'title', 'textarea', 'noscript', 'template', 'table', 'select', 'iframe', 'form', 'xmp', 'plaintext').chain(name => fc.constantFrom(`<${name}>`, `</${name}>`, `<${name} `, `<${name}/>`)),
    fc.constantFrom('href="', 'href=', 'title="', "title='", 'onclick=', 'style="', 'src=x ', 'onerror=alert(1) ', 'javascript:', 'data:', 'https://x.example', 'mailto:a@x.example', '//x'),
    fc.string({ maxLength: 6 })
  )
  fc.assert(fc.property(fc.array(piece, { maxLength: 14 }).map(parts => parts.join('')), html => {
    for (const [clean, allowed] of [[post, HTML_ALLOWLISTS.post], [inline, HTML_ALLOWLISTS.inline]] as const) {
      const cleaned = clean(html)
      const found = beyond(cleaned, allowed)
      if (found.length > 0) throw new Error(`${found.join()} in ${cleaned}`)
      if (clean(cleaned) !== cleaned) throw new Error(`not stable: ${cleaned}`)
      if (clean(showHtml(cleaned)) !== cleaned) throw new Error(`shown and written again it is another: ${cleaned}`)
    }
  }), bounded)
  t.pass()
})

t.test('what people mean stays', async t => {
  const cases: [written: string, kept: string][] = [
    ['<p>Hello <strong>you</strong> and <em>you</em></p>', '<p>Hello <strong>you</strong> and <em>you</em></p>'],
    ['<ul><li>one</li><li>two</li></ul><ol><li>a</li></ol>', '<ul><li>one</li><li>two</li></ul><ol><li>a</li></ol>'],
    ['one<br>two', 'one<br />two'],
    ['1 < 2 && 3 > 2', '1 &lt; 2 &amp;&amp; 3 &gt; 2'],
    ['<p>漢字 😀 “quoted”</p>', '<p>漢字 😀 “quoted”</p>'],
    ['Cafe\u0301', 'Café'],
    ['<h1>Big</h1> <b>bold</b>', 'Big bold'],
    ['<a href="https://x.example/?a=1&b=2#c" title="a &quot;b&quot;">x</a>', '<a href="https://x.example/?a=1&amp;b=2#c" title="a &quot;b&quot;">x</a>'],
    ['<a href=" HTTPS://x.example ">x</a>', '<a href="HTTPS://x.example">x</a>'],
    ['<a href="mailto:a@x.example?subject=Hi">x</a>', '<a href="mailto:a@x.example?subject=Hi">x</a>'],
    ['<a href="http://x.example">x</a>', '<a href="http://x.example">x</a>'],
    ['<a href="ftp://x.example">x</a>', '<a>x</a>'],
  ]
  for (const [written, kept] of cases) t.equal(post(written), kept)
  t.equal(inline('<p>See <a href="https://x.example">this</a><ul><li>and <em>that</em></li></ul></p>'), '<p>See this</p>and <em>that</em><p></p>', 'a list ends a paragraph')
  t.equal(inline('Cafe\u0301'), 'Cafe\u0301', 'it is composed where that is asked for')
})

t.test('links say when they are shown that nothing is told of who follows them', async t => {
  t.equal(showHtml('<p>a <a href="https://x.example">b</a> &lt;a href&gt;</p>'), '<p>a <a href="https://x.example" rel="noopener nofollow">b</a> &lt;a href&gt;</p>')
  const awkward = post('<a href="https://x.example/?a=1&b=$1" title="&lt;a b=1&gt; &quot;c&quot; $&">b</a> and <a>none</a>')
  t.equal(showHtml(awkward), '<a href="https://x.example/?a=1&amp;b=$1" title="&lt;a b=1&gt; &quot;c&quot; $&amp;" rel="noopener nofollow">b</a> and <a>none</a>', 'whatever stands in its attributes')
  t.equal(post(showHtml(post('<a href="https://x.example">b</a>'))), '<a href="https://x.example">b</a>', 'and what was shown is stored as before')
})

t.test('plain text is escaped, in elements and in attributes [ASVS 1.2.1]', async t => {
  t.equal(escapeHtml('<b title="x" id=\'y\'>&amp;</b>'), '&lt;b title=&quot;x&quot; id=&#39;y&#39;&gt;&amp;amp;&lt;/b&gt;')
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(...ATTACKS)), text => {
    const read = (html: string) => parseFragment(html).childNodes
    const seen = text.replace(/\r\n?/g, '\n').replaceAll('\0', '')
    const [inside, ...others] = read(`<div>${escapeHtml(text)}</div>`)
    const [attribute] = read(`<div title="${escapeHtml(text)}"></div>`)
    const content = (inside as DefaultTreeAdapterTypes.Element).childNodes
    return others.length === 0 && content.every(({ nodeName }) => nodeName === '#text') && content.map(node => (node as DefaultTreeAdapterTypes.TextNode).value).join('') === seen &&
      (attribute as DefaultTreeAdapterTypes.Element).attrs.length === 1 && (attribute as DefaultTreeAdapterTypes.Element).attrs[0]!.value.replaceAll('\ufffd', '') === seen.replaceAll('\ufffd', '')
  }), { ...bounded, interruptAfterTimeLimit: 1500 })
  t.equal(beyond('<b onclick=x>', HTML_ALLOWLISTS.post).length, 2, 'while as it is it would be markup')
})

t.test('cleaning takes time in proportion to what there is to clean (CWE-1333)', async t => {
  for (const piece of ['<', '<a ', '<em>', '<p>', '<!--', '&', '<ul><li>', '<a href="', '</p>', '<script>', '<a title=\'', '&#', '<![CDATA[', '<a href="https://x.example">', '<svg><p>', '"', "<p '"]) {
    const html = piece.repeat(20_000 / piece.length)
    const start = process.hrtime.bigint()
    const cleaned = post(html)
    const ms = Number(process.hrtime.bigint() - start) / 1e6
    t.ok(ms < 1000, `${piece}: ${ms.toFixed(0)} ms`)
    t.strictSame(beyond(cleaned, HTML_ALLOWLISTS.post), [])
  }
})

t.test('no list brings back what runs, loads or sends', async t => {
  const refused: HtmlAllowlist[] = [
    { script: [] }, { style: [] }, { iframe: [] }, { object: [] }, { svg: [] }, { math: [] }, { form: [] }, { input: [] }, { base: [] }, { meta: [] }, { link: [] }, { textarea: [] }, { noscript: [] }, { template: [] }, { plaintext: [] }, { title: [] },
    { p: ['onclick'] }, { p: ['style'] }, { img: ['src'] }, { img: ['srcset'] }, { p: ['href'] }, { p: ['ONCLICK'] }, { a: ['xlink:href'] }, { 'a b': [] }, { P: [] }, { '*': [] }, { p: ['*'] },
  ]
  for (const allowed of refused) t.match(faultOfAllowlist(allowed), /could be kept/, JSON.stringify(allowed))
  for (const allowed of [HTML_ALLOWLISTS.post, HTML_ALLOWLISTS.inline, { h2: ['id'], blockquote: ['lang'], code: [] }]) t.equal(faultOfAllowlist(allowed), null)
})
