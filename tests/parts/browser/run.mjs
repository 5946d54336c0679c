// A real browser, Chromium without a window, that does what it is told: one step as a line of JSON on standard input,
// one answer as a line of JSON on standard output. Ends when standard input does.
//
//   node run.mjs      with WEIR_BROWSER_MODULES, and in HOME the .pki/nssdb that says whom it trusts
//
// The first line: {"hosts": {"wiki.example": "127.0.0.1:8443"}}: where hosts are, beside *.localhost on loopback.
// It finds no other host, so that it can call nobody. Certificates are checked as everybody's browser checks them.
//
//   {"do": "goto", "url"}               its status
//   {"do": "click", "selector"}         and waits for the page that this loads, if any
//   {"do": "fill", "selector", "text"}
//   {"do": "expect_text", "text", "selector"?}    waits until it is to be seen
//   {"do": "expect_url", "prefix"}      waits until the address starts so; the address
//   {"do": "text", "selector"?}         what is to be read, by default on the whole page
//   {"do": "url"}  {"do": "cookies"}    {"do": "html"}    {"do": "screenshot", "path"}
//   {"do": "eval", "script"}            what a script in the page gives
//   {"do": "console"}                   errors and warnings of all pages so far, such as violations of a policy
//   {"do": "headers", "headers"}        goes along with every request of this context
//   {"do": "context", "options"?}       other cookies and a new page; options as of playwright's newContext
//   {"do": "page"}                      another tab with the same cookies
//
// Answers: {"value": …}, or {"error": "…", "url": "…", "text": "…"} with where it was and what could be read there.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const { chromium } = createRequire(`${process.env.WEIR_BROWSER_MODULES}/`)('playwright-core');
const stepMillisecondsMax = 30_000;
const textCharactersMax = 2000;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { hosts = {} } = JSON.parse((await lines.next()).value);
const rules = [
  ...Object.entries(hosts).map(([host, place]) => `MAP ${host} ${place}`),
  'MAP localhost 127.0.0.1', 'MAP *.localhost 127.0.0.1', 'MAP * ~NOTFOUND', 'EXCLUDE 127.0.0.1',
];
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    `--host-resolver-rules=${rules.join(', ')}`,
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic',
    '--no-first-run',
    // Chromium's sandbox refuses root, which is who tests may be.
    ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
  ],
});

const said = [];
let context;
let page;

async function openContext(options) {
  context = await browser.newContext(options);
  context.setDefaultTimeout(stepMillisecondsMax);
  await openPage();
}

async function openPage() {
  page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) said.push(message.text());
  });
  page.on('pageerror', (error) => said.push(error.message));
}

const steps = {
  goto: async ({ url }) => (await page.goto(url))?.status() ?? null,
  click: async ({ selector }) => {
    await page.click(selector);
    await page.waitForLoadState();
  },
  fill: ({ selector, text }) => page.fill(selector, text),
  expect_text: ({ text, selector = 'body' }) => page.locator(selector).filter({ hasText: text }).first().waitFor(),
  expect_url: async ({ prefix }) => {
    await page.waitForURL((url) => url.href.startsWith(prefix));
    return page.url();
  },
  text: ({ selector = 'body' }) => page.innerText(selector),
  url: () => page.url(),
  cookies: () => context.cookies(),
  html: () => page.content(),
  screenshot: async ({ path }) => { await page.screenshot({ path, fullPage: true }); },
  eval: ({ script }) => page.evaluate(script),
  console: () => said,
  headers: ({ headers }) => context.setExtraHTTPHeaders(headers),
  context: ({ options }) => openContext(options),
  page: () => openPage(),
};

async function take(line) {
  try {
    const step = JSON.parse(line);
    if (!Object.hasOwn(steps, step.do)) throw new Error(`no step is called ${step.do}`);
    return { value: (await steps[step.do](step)) ?? null };
  } catch (error) {
    const text = await page.innerText('body', { timeout: 1000 }).catch(() => '');
    return { error: error.message, url: page.url(), text: text.slice(0, textCharactersMax) };
  }
}

await openContext();
process.stdout.write('ready\n');
for await (const line of lines) {
  process.stdout.write(`${JSON.stringify(await take(line))}\n`);
}
await browser.close();
