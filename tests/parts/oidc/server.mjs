// A certified OpenID provider on loopback for tests, with four people and hooks that make trouble.
//
//   node server.mjs PORT [--until-eof] [--setup FILE]
//
// Prints "ready" ("ready PORT" of its own choice, if PORT is 0), runs until SIGTERM (or until stdin ends). Issuer:
// http://127.0.0.1:PORT. Client `weir`: public, PKCE, redirect to any port of http://127.0.0.1/callback. Its id_tokens are what Weir takes: ES256, `aud` "weir", `sub`,
// `email`, `groups`, `entity`, … and `acr`, `amr`, `auth_time`; one hour. Refresh tokens are used once.
//
// FILE is JSON, and read anew whenever it is needed, so that it may be replaced at any time; all members are optional:
//   clients   further clients by their registration's members, by default confidential and of the web:
//             [{"client_id": …, "client_secret": …, "redirect_uris": […], "backchannel_logout_uri": …}]
//   accounts  replaces the people: {"alice": {claims}}. `_acr_max` is how well they can sign in, see forms.mjs
//   ca_file   whom to trust when calling a backchannel_logout_uri; every name there is taken to be 127.0.0.1
//
//   POST /_test/rotate[?keep=1]   a new signing key; the old one leaves the JWKS, unless kept
//   POST /_test/logout?sub=SUB    ends that person's sessions here and tells every client that asked to be told;
//                                 answers {"sessions": …, "told": […], "failed": […]}
//   POST /_test/token             mints any token, good or bad; JSON body, all members optional:
//     sub      one of the people (default alice); decides the claims
//     claims   replaces claims; null removes one: {"aud": "other", "exp": 1, "nbf": null}
//     header   replaces header members likewise: {"kid": "unknown"}
//     alg      ES256 (default), none, or HS256 signed with the public key, as in the classic confusion
//     key      current (default), retired (the one before the last rotation), foreign (never published)
//   answers {"token": "…"}
import { createHash, createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

import { acrs, asked, interact } from './forms.mjs';
import { Store } from './store.mjs';

// Only "ready" belongs on stdout; the provider's warnings about its development features do not.
console.log = console.info = console.warn;

const modules = createRequire(`${process.env.WEIR_OIDC_MODULES}/`);
const { default: Provider, interactionPolicy } = await import(modules.resolve('oidc-provider'));

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'until-eof': { type: 'boolean' }, setup: { type: 'string' } },
});
const wanted = Number(positionals[0]);
const server = createServer((request, response) => answer(request, response).catch((error) => failed(error, response)));
await once(server.listen(wanted, '127.0.0.1'), 'listening');
const { port } = server.address();
const issuer = `http://127.0.0.1:${port}`;
const tokenSeconds = 3600;
const bodyBytesMax = 65536;
const callMillisecondsMax = 5000;

const people = {
  alice: { email: 'alice@example.com', entity: 'example-de', groups: ['engineer'] },
  dana: { email: 'dana@example.com', entity: 'example-de', groups: ['dba', 'approver'] },
  olaf: { email: 'olaf@example.com', entity: 'example-de', groups: ['dpo'] },
  mei: { email: 'mei@example.sg', entity: 'example-sg', groups: ['engineer'] },
};

// --- People and clients ---------------------------------------------------------------------------------------

const setup = () => (options.setup ? JSON.parse(readFileSync(options.setup, 'utf8')) : {});
const accounts = () => setup().accounts ?? people;

const refreshing = ['authorization_code', 'refresh_token'];
const signed = { id_token_signed_response_alg: 'ES256', require_auth_time: true };
const weir = {
  ...signed,
  client_id: 'weir',
  application_type: 'native',
  token_endpoint_auth_method: 'none',
  redirect_uris: ['http://127.0.0.1/callback'],
  grant_types: [...refreshing, 'urn:ietf:params:oauth:grant-type:device_code'],
};

function clientOf(id) {
  if (id === weir.client_id) return weir;
  const found = (setup().clients ?? []).find((client) => client.client_id === id);
  if (!found) return undefined;
  const told = found.backchannel_logout_uri ? { backchannel_logout_session_required: true } : {};
  return { ...signed, grant_types: refreshing, ...told, ...found };
}

function account(_context, sub) {
  if (!Object.hasOwn(accounts(), sub)) return undefined;
  return { accountId: sub, claims: () => claimsOf(sub) };
}

function claimsOf(sub) {
  const own = Object.entries(accounts()[sub] ?? {}).filter(([name]) => !name.startsWith('_'));
  return { sub, ...Object.fromEntries(own) };
}

// --- Keys and the provider ------------------------------------------------------------------------------------

const store = new Store(clientOf);
let provider;
let current = makeKey();
let retired = makeKey();
const foreign = makeKey();
let published = [current];
const cookieKey = randomBytes(32).toString('hex');

function makeKey() {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = pair.privateKey.export({ format: 'jwk' });
  const kid = createHash('sha256').update(jwk.x + jwk.y).digest('base64url').slice(0, 11);
  return { ...pair, kid, jwk: { ...jwk, kid, use: 'sig', alg: 'ES256' } };
}

// Who is signed in less well than a client asks for must sign in again, as at the great providers.
function policy() {
  const { Check, base } = interactionPolicy;
  const prompts = base();
  prompts.get('login').checks.add(new Check('acr', 'another way to sign in is asked for', ({ oidc }) => {
    const acceptable = asked(oidc.params);
    return acceptable.length > 0 && !oidc.result?.login && !acceptable.includes(oidc.session.acr);
  }));
  return prompts;
}

// The keystore of a Provider is fixed, so a rotation makes another one; what it remembers lives outside both.
function makeProvider() {
  return new Provider(issuer, {
    adapter: (kind) => store.adapter(kind),
    jwks: { keys: published.map((key) => key.jwk) },
    cookies: { keys: [cookieKey] },
    acrValues: Object.keys(acrs),
    claims: {
      openid: ['sub', 'name', 'preferred_username', 'email', 'email_verified', 'groups', 'entity', 'company', 'country',
        'acr', 'amr', 'auth_time'],
    },
    scopes: ['openid', 'offline_access'],
    conformIdTokenClaims: false,
    fetch: call,
    features: {
      backchannelLogout: { enabled: true },
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      resourceIndicators: { enabled: false },
      revocation: { enabled: true },
    },
    findAccount: account,
    interactions: { policy: policy(), url: (_context, { uid }) => `/interaction/${uid}` },
    issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: {
      AccessToken: tokenSeconds, AuthorizationCode: 60, DeviceCode: 600, Grant: 24 * tokenSeconds,
      IdToken: tokenSeconds, Interaction: 600, RefreshToken: 24 * tokenSeconds, Session: 24 * tokenSeconds,
    },
  });
}

function rotate(keep) {
  retired = current;
  current = makeKey();
  published = keep ? [current, retired] : [current];
  provider = makeProvider();
  return { kid: current.kid };
}

// --- Back-channel logout --------------------------------------------------------------------------------------

async function logout(sub) {
  const sessions = store.sessionsOf(sub);
  const told = [];
  const failed = [];
  for (const session of sessions) {
    for (const [id, { sid }] of Object.entries(session.authorizations ?? {})) {
      const client = await provider.Client.find(id);
      if (!client?.backchannelLogoutUri) continue;
      await client.backchannelLogout(sub, sid).then(() => told.push(id), (error) => failed.push(`${id}: ${error.message}`));
    }
    await store.adapter('Session').destroy(session.jti);
  }
  return { sessions: sessions.length, told, failed };
}

// The provider's own way of calling others refuses loopback, where everything of a test is.
function call(url, { method, headers, body }) {
  const target = new URL(url);
  const { ca_file: caFile } = setup();
  const [request, trust] = target.protocol === 'https:'
    ? [requestHttps, caFile ? { ca: readFileSync(caFile) } : {}]
    : [requestHttp, {}];
  const loopback = (_name, { all }, found) => (all
    ? found(null, [{ address: '127.0.0.1', family: 4 }])
    : found(null, '127.0.0.1', 4));
  return new Promise((resolve, reject) => {
    const text = String(body ?? '');
    const calling = request(target, {
      method, ...trust, headers: { ...Object.fromEntries(headers), 'content-length': Buffer.byteLength(text) },
      lookup: loopback, agent: false, timeout: callMillisecondsMax,
    }, (response) => {
      response.resume();
      resolve(new Response(null, { status: response.statusCode }));
    });
    calling.on('timeout', () => calling.destroy(new Error(`no answer from ${target.host}`))).on('error', reject).end(text);
  });
}

// --- Tokens made to order -------------------------------------------------------------------------------------

function mint({ sub = 'alice', claims = {}, header = {}, alg = 'ES256', key = 'current' }) {
  const signer = { current, retired, foreign }[key];
  if (!signer) throw new Error(`no key is named ${key}`);
  const now = Math.floor(Date.now() / 1000);
  const standard = { iss: issuer, sub, aud: 'weir', iat: now, exp: now + tokenSeconds, ...claimsOf(sub) };
  const text = [without({ alg, typ: 'JWT', kid: signer.kid }, header), without(standard, claims)]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return { token: `${text}.${signature(alg, signer, text).toString('base64url')}` };
}

function without(standard, replaced) {
  return Object.fromEntries(Object.entries({ ...standard, ...replaced }).filter(([, value]) => value !== null));
}

function signature(alg, signer, signed) {
  switch (alg) {
    case 'ES256':
      return sign('sha256', Buffer.from(signed), { key: signer.privateKey, dsaEncoding: 'ieee-p1363' });
    case 'HS256':
      return createHmac('sha256', signer.publicKey.export({ format: 'pem', type: 'spki' })).update(signed).digest();
    case 'none':
      return Buffer.alloc(0);
    default:
      throw new Error(`cannot sign with ${alg}`);
  }
}

// --- The server -----------------------------------------------------------------------------------------------

async function body(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > bodyBytesMax) throw new Error('too large');
  }
  return text;
}

async function hook(url, request) {
  switch (`${request.method} ${url.pathname}`) {
    case 'POST /_test/rotate':
      return rotate(url.searchParams.get('keep') === '1');
    case 'POST /_test/logout':
      return logout(url.searchParams.get('sub'));
    case 'POST /_test/token':
      return mint(JSON.parse(await body(request) || '{}'));
    default:
      throw new Error(`no such hook: ${request.method} ${url.pathname}`);
  }
}

async function answer(request, response) {
  const url = new URL(request.url, issuer);
  if (url.pathname.startsWith('/interaction/')) {
    const filled = new URLSearchParams(request.method === 'POST' ? await body(request) : '');
    return interact(provider, accounts, request, response, filled);
  }
  if (!url.pathname.startsWith('/_test/')) return provider.callback()(request, response);
  let status = 200;
  const result = await hook(url, request).catch((error) => {
    status = 400;
    return { error: error.message };
  });
  return response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(result)}\n`);
}

// A page that is asked for too late is the visitor's mistake and not the end of this process.
function failed(error, response) {
  console.warn(error.message);
  response.writeHead(400, { 'content-type': 'text/plain' }).end(`${error.message}\n`);
}

provider = makeProvider();
process.stdout.write(wanted ? 'ready\n' : `ready ${port}\n`);
process.on('SIGTERM', () => process.exit(0));
if (options['until-eof']) process.stdin.on('end', () => process.exit(0)).resume();
