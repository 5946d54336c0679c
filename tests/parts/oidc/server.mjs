// A certified OpenID provider on loopback for tests, with four people and hooks that make trouble.
//
//   node server.mjs PORT [--until-eof]     prints "ready", runs until SIGTERM (or until stdin ends)
//
// Issuer: http://127.0.0.1:PORT. Client `weir`: public, PKCE, redirect to any port of http://127.0.0.1/callback.
// Its id_tokens are what Weir takes: ES256, `aud` "weir", `sub`, `email`, `groups`, `entity`, one hour.
//
//   POST /_test/rotate[?keep=1]   a new signing key; the old one leaves the JWKS, unless kept
//   POST /_test/token             mints any token, good or bad; JSON body, all members optional:
//     sub      one of the people (default alice); decides the claims
//     claims   replaces claims; null removes one: {"aud": "other", "exp": 1, "nbf": null}
//     header   replaces header members likewise: {"kid": "unknown"}
//     alg      ES256 (default), none, or HS256 signed with the public key, as in the classic confusion
//     key      current (default), retired (the one before the last rotation), foreign (never published)
//   answers {"token": "…"}
import { createHash, createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

// Only "ready" belongs on stdout; the provider's warnings about its development features do not.
console.log = console.info = console.warn;

const modules = createRequire(`${process.env.WEIR_OIDC_MODULES}/`);
const { default: Provider } = await import(modules.resolve('oidc-provider'));

const port = Number(process.argv[2]);
const untilEof = process.argv[3] === '--until-eof';
const issuer = `http://127.0.0.1:${port}`;
const tokenSeconds = 3600;
const bodyBytesMax = 65536;

const people = {
  alice: { email: 'alice@example.com', entity: 'example-de', groups: ['engineer'] },
  dana: { email: 'dana@example.com', entity: 'example-de', groups: ['dba', 'approver'] },
  olaf: { email: 'olaf@example.com', entity: 'example-de', groups: ['dpo'] },
  mei: { email: 'mei@example.sg', entity: 'example-sg', groups: ['engineer'] },
};

// --- Keys and the provider ------------------------------------------------------------------------------------

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

// The keystore of a Provider is fixed, so a rotation makes another one; the sessions live outside both.
function makeProvider() {
  return new Provider(issuer, {
    jwks: { keys: published.map((key) => key.jwk) },
    cookies: { keys: [cookieKey] },
    clients: [{
      client_id: 'weir',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      id_token_signed_response_alg: 'ES256',
    }],
    claims: { openid: ['sub', 'email', 'entity', 'groups'] },
    scopes: ['openid', 'offline_access'],
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
    ttl: {
      AccessToken: tokenSeconds, AuthorizationCode: 60, DeviceCode: 600, Grant: tokenSeconds,
      IdToken: tokenSeconds, Interaction: 600, RefreshToken: tokenSeconds, Session: tokenSeconds,
    },
    findAccount: (_context, sub) => Object.hasOwn(people, sub)
      ? { accountId: sub, claims: () => ({ sub, ...people[sub] }) }
      : undefined,
  });
}

function rotate(keep) {
  retired = current;
  current = makeKey();
  published = keep ? [current, retired] : [current];
  provider = makeProvider();
  return { kid: current.kid };
}

// --- Tokens made to order -------------------------------------------------------------------------------------

function mint({ sub = 'alice', claims = {}, header = {}, alg = 'ES256', key = 'current' }) {
  const signer = { current, retired, foreign }[key];
  if (!signer) throw new Error(`no key is named ${key}`);
  const now = Math.floor(Date.now() / 1000);
  const standard = { iss: issuer, sub, aud: 'weir', iat: now, exp: now + tokenSeconds, ...people[sub] };
  const signed = [without({ alg, typ: 'JWT', kid: signer.kid }, header), without(standard, claims)]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return { token: `${signed}.${signature(alg, signer, signed).toString('base64url')}` };
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
  return JSON.parse(text || '{}');
}

async function hook(url, request) {
  switch (`${request.method} ${url.pathname}`) {
    case 'POST /_test/rotate':
      return rotate(url.searchParams.get('keep') === '1');
    case 'POST /_test/token':
      return mint(await body(request));
    default:
      throw new Error(`no such hook: ${request.method} ${url.pathname}`);
  }
}

async function answer(request, response) {
  const url = new URL(request.url, issuer);
  if (!url.pathname.startsWith('/_test/')) return provider.callback()(request, response);
  let status = 200;
  const result = await hook(url, request).catch((error) => {
    status = 400;
    return { error: error.message };
  });
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(result)}\n`);
}

provider = makeProvider();
createServer(answer).listen(port, '127.0.0.1', () => process.stdout.write('ready\n'));
process.on('SIGTERM', () => process.exit(0));
if (untilEof) process.stdin.on('end', () => process.exit(0)).resume();
