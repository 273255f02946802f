// An OpenID provider of the tests' own, over HTTPS. Its configuration is the JSON of the environment variable ISSUER: where
// it is, the keys that it signs with (the first one does), and its clients, each with the audience, the claims and the life
// of the tokens that it gets for its credentials.
import { createPrivateKey } from 'node:crypto';
import https from 'node:https';
import Provider from 'oidc-provider';

const { url, port, certificate, key, keys, clients } = JSON.parse(process.env.ISSUER);
const jwk = ({ kid, pem }) => ({ ...createPrivateKey(pem).export({ format: 'jwk' }), kid, use: 'sig', alg: 'ES256' });

const provider = new Provider(url, {
  cookies: { keys: ['of the tests'] },
  jwks: { keys: keys.map(jwk) },
  clients: Object.keys(clients).map((name) => ({
    client_id: name,
    client_secret: 'secret',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
  })),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:postern',
      getResourceServerInfo: (_, __, { clientId }) => ({
        scope: '',
        audience: clients[clientId].audience,
        accessTokenTTL: clients[clientId].life,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
  extraTokenClaims: (_, { clientId }) => clients[clientId].claims,
});
https.createServer({ cert: certificate, key }, provider.callback()).listen(port, '127.0.0.1');
