// Logs a person in as their browser would, by the authorization code flow with PKCE, and prints the id_token.
//
//   node token.mjs ISSUER USER
import { createHash, randomBytes } from 'node:crypto';

const [issuer, user] = process.argv.slice(2);
if (!user) fail('usage: node token.mjs ISSUER USER');
const callback = 'http://127.0.0.1/callback';
const stepsMax = 20;
const cookies = new Map();

function fail(message) {
  console.error(`token: ${message}`);
  process.exit(1);
}

// One request of a browser: keeps cookies, follows nothing.
async function visit(url, form) {
  const response = await fetch(url, {
    method: form ? 'POST' : 'GET',
    body: form && new URLSearchParams(form),
    headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    redirect: 'manual',
  });
  for (const cookie of response.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
    if (value) cookies.set(name, value);
    else cookies.delete(name);
  }
  return response;
}

// Fills in the form of a page: who logs in, or that they consent.
async function fill(response) {
  const page = await response.text();
  const action = /<form[^>]* action="([^"]+)"/.exec(page)?.[1];
  const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1];
  if (!action) fail(`${response.status} with no form: ${page.slice(0, 300)}`);
  return visit(new URL(action, issuer), prompt === 'login' ? { prompt, login: user, password: 'any' } : { prompt });
}

const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const verifier = randomBytes(32).toString('base64url');
const start = new URL(discovery.authorization_endpoint);
start.search = new URLSearchParams({
  client_id: 'weir',
  code_challenge: createHash('sha256').update(verifier).digest('base64url'),
  code_challenge_method: 'S256',
  redirect_uri: callback,
  response_type: 'code',
  scope: 'openid',
});

let response = await visit(start);
for (let step = 0; step < stepsMax; step += 1) {
  const location = response.headers.get('location');
  if (location?.startsWith(callback)) break;
  response = location ? await visit(new URL(location, issuer)) : await fill(response);
}
const arrived = new URL(response.headers.get('location') ?? fail(`never came back; last status ${response.status}`));
const code = arrived.searchParams.get('code') ?? fail(`refused: ${arrived.search}`);
const tokens = await (await fetch(discovery.token_endpoint, {
  method: 'POST',
  body: new URLSearchParams({
    client_id: 'weir', code, code_verifier: verifier, grant_type: 'authorization_code', redirect_uri: callback,
  }),
})).json();
console.log(tokens.id_token ?? fail(JSON.stringify(tokens)));
