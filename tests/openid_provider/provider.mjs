// A certified OpenID provider (npm oidc-provider) with a login form of its own, for tests/end_to_end/test_oidc_certified.py.
// Usage: node provider.mjs PORT ORIGIN_OF_THE_GATEWAY
import Provider from 'oidc-provider';

const [port, gateway] = process.argv.slice(2);
const paths = `${gateway}/_calgate/sign-in/oidc`;
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'calgate',
    client_secret: 'a-secret-of-32-characters-or-more',
    redirect_uris: [`${paths}/back`],
    post_logout_redirect_uris: [`${gateway}/_calgate/signed-out`],
    backchannel_logout_uri: `${paths}/logout`,
    backchannel_logout_session_required: true,
  }],
  pkce: { required: () => true },
  claims: { openid: ['sub', 'sam'] },
  conformIdTokenClaims: false,
  features: { devInteractions: { enabled: true }, backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (context, id) => ({ accountId: id, claims: async () => ({ sub: id, sam: id }) }),
  cookies: { keys: ['key of a test'] },
  // its own options of fetch are refused by Node 20
  fetch: (url, { method, headers, body }) => fetch(url, { method, headers, body }),
});
provider.on('backchannel.error', (context, error) => console.log('backchannel.error', error.message));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
