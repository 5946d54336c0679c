// The pages on which a person signs in and consents: plain forms, for curl and for browsers.
//
// Any password but "wrong" is right. How somebody signs in is what was asked for (`acr_values`), as far as they can:
//   pwd  a password (when nothing is asked for)      mfa  password and one-time code      phr  a hardware key

// The values of `acr` this provider knows, worst first, and what `amr` says with each.
export const acrs = { pwd: ['pwd'], mfa: ['pwd', 'otp', 'mfa'], phr: ['hwk', 'pin', 'mfa'] };

export function asked(params) {
  return (params.acr_values ?? '').split(' ').filter((acr) => Object.hasOwn(acrs, acr));
}

// The best that a person can do may be limited by their account.
function reached(params, best = 'phr') {
  const order = Object.keys(acrs);
  const can = asked(params).filter((acr) => order.indexOf(acr) <= order.indexOf(best));
  return can[0] ?? 'pwd';
}

function page(title, path, prompt, fields) {
  return `<!doctype html><title>${title}</title><h1>${title}</h1>
<form autocomplete="off" action="${path}" method="post">
<input type="hidden" name="prompt" value="${prompt}">
${fields}<button type="submit">Continue</button>
</form>
<a href="${path}/abort">Cancel</a>
`;
}

function form(path, prompt, problem = '') {
  if (prompt !== 'login') return page('Authorize', path, prompt, '');
  return page('Sign in', path, prompt, `${problem}
<input name="login" placeholder="Who?" required autofocus>
<input name="password" type="password" placeholder="Password" required>
`);
}

// Shows the form that is due at /interaction/UID, or takes what was filled in.
export async function interact(provider, accounts, request, response, body) {
  const path = new URL(request.url, provider.issuer).pathname;
  const details = await provider.interactionDetails(request, response);
  const prompt = details.prompt.name;
  const show = (status, problem) => response
    .writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' })
    .end(form(path, prompt, problem));
  const finish = (result, mergeWithLastSubmission) =>
    provider.interactionFinished(request, response, result, { mergeWithLastSubmission });

  if (path.endsWith('/abort')) return finish({ error: 'access_denied', error_description: 'cancelled' }, false);
  if (request.method !== 'POST') return show(200);
  if (body.get('prompt') !== prompt) return show(400);
  if (prompt === 'consent') return finish({ consent: { grantId: await consent(provider, details) } }, true);
  const account = accounts()[body.get('login')];
  if (!account || body.get('password') === 'wrong') return show(401, '<p>That is not right.</p>');
  const acr = reached(details.params, account._acr_max);
  return finish({ login: { accountId: body.get('login'), acr, amr: acrs[acr] } }, false);
}

async function consent(provider, { grantId, session, params, prompt: { details } }) {
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(' '));
  if (details.missingOIDCClaims) grant.addOIDCClaims(details.missingOIDCClaims);
  return grant.save();
}
