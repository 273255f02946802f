//! A pod's token, as far as it can be checked without asking the API server. Pure.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_crds::lease::{AUDIENCE, MAX_TOKEN_LIFE};
use serde::Deserialize;

/// By which keys a cluster may sign, none of them a shared one.
const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
/// How far the clocks of broker and API server may be apart, in seconds.
pub(super) const LEEWAY: u64 = 30;

/// Who a token says that its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodToken {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) id: Option<String>,
    pub(super) expires: u64,
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
    pub(super) node: Option<String>,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    /// The cluster may have another key since.
    #[error("the token is not signed by a key of this cluster")]
    UnknownKey,
    #[error("the token is no JWT that names its key")]
    Unreadable,
    #[error("the token is signed by an algorithm that is not accepted")]
    Algorithm,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is of another issuer than this cluster")]
    Issuer,
    #[error("the token is not for the audience {AUDIENCE}")]
    Audience,
    #[error("the token has expired: does the kubelet replace it, and do the clocks agree?")]
    Expired,
    #[error("the token is not good yet: do the clocks agree?")]
    Early,
    #[error("the token lives longer than {MAX_TOKEN_LIFE} s")]
    Life,
    #[error("the token is not bound to a pod")]
    Unbound,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: u64,
    iat: u64,
    jti: Option<String>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
    node: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    uid: String,
}

/// Checks signature, issuer, audience, expiry, life, and that it is bound to a pod.
pub(super) fn check(token: &str, keys: &JwkSet, issuer: &str) -> Result<PodToken, TokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Unreadable)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(TokenError::Algorithm);
    }
    let kid = header.kid.ok_or(TokenError::Unreadable)?;
    let jwk = keys.find(&kid).ok_or(TokenError::UnknownKey)?;
    let key = DecodingKey::from_jwk(jwk).map_err(|_| TokenError::Algorithm)?;
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    (validation.validate_nbf, validation.leeway) = (true, LEEWAY);
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|error| told(&error))?.claims;
    if claims.exp.saturating_sub(claims.iat) > MAX_TOKEN_LIFE || claims.exp < claims.iat {
        return Err(TokenError::Life);
    }
    let kubernetes = claims.kubernetes.ok_or(TokenError::Unbound)?;
    let pod = kubernetes.pod.filter(|pod| !pod.uid.is_empty()).ok_or(TokenError::Unbound)?;
    let (namespace, account) = (kubernetes.namespace, kubernetes.serviceaccount.name);
    if claims.sub != format!("system:serviceaccount:{namespace}:{account}") {
        return Err(TokenError::Unbound);
    }
    Ok(PodToken {
        issuer: claims.iss,
        subject: claims.sub,
        id: claims.jti,
        expires: claims.exp,
        namespace,
        service_account: account,
        pod: pod.name,
        pod_uid: pod.uid,
        node: kubernetes.node.map(|node| node.name),
    })
}

fn told(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::Early,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => TokenError::Life,
        _ => TokenError::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc";

    struct Cluster(EncodingKey, JwkSet);

    fn cluster() -> Cluster {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signing = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some("one".into());
        Cluster(signing, JwkSet { keys: vec![jwk] })
    }

    fn claims() -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({
            "iss": ISSUER, "sub": "system:serviceaccount:shop:report", "aud": ["postern.dev"],
            "iat": now, "nbf": now, "exp": now + 3600, "jti": "id",
            "kubernetes.io": {
                "namespace": "shop", "serviceaccount": {"name": "report", "uid": "s"},
                "pod": {"name": "report-1", "uid": "p"}, "node": {"name": "n1", "uid": "n"},
            },
        })
    }

    fn checked(cluster: &Cluster, claims: &Value) -> Result<PodToken, TokenError> {
        let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) };
        check(&jsonwebtoken::encode(&header, claims, &cluster.0).unwrap(), &cluster.1, ISSUER)
    }

    #[test]
    fn a_token_of_a_pod_proves_it() {
        let token = checked(&cluster(), &claims()).unwrap();
        assert_eq!((token.namespace.as_str(), token.service_account.as_str()), ("shop", "report"));
        assert_eq!((token.pod.as_str(), token.pod_uid.as_str(), token.node.as_deref()), ("report-1", "p", Some("n1")));
        assert_eq!(token.id.as_deref(), Some("id"));
    }

    #[test]
    fn a_token_with_any_other_claim_is_refused() {
        let now = jsonwebtoken::get_current_timestamp();
        for (path, value, error) in [
            ("/iss", json!("https://elsewhere"), TokenError::Issuer),
            ("/aud", json!(["https://kubernetes.default.svc"]), TokenError::Audience),
            ("/aud", json!([]), TokenError::Audience),
            ("/exp", json!(now - LEEWAY - 10), TokenError::Expired),
            ("/exp", json!(now + 3601), TokenError::Life),
            ("/nbf", json!(now + LEEWAY + 10), TokenError::Early),
            ("/sub", json!("system:serviceaccount:shop:admin"), TokenError::Unbound),
            ("/kubernetes.io/pod", Value::Null, TokenError::Unbound),
            ("/kubernetes.io/pod/uid", json!(""), TokenError::Unbound),
            ("/kubernetes.io/namespace", json!("other"), TokenError::Unbound),
            ("/kubernetes.io", Value::Null, TokenError::Unbound),
        ] {
            let mut claims = claims();
            *claims.pointer_mut(path).unwrap() = value;
            // `exp` in the past would be before `iat`.
            if error == TokenError::Expired {
                claims["iat"] = json!(now - 600);
            }
            assert_eq!(checked(&cluster(), &claims), Err(error), "{path}");
        }
        for missing in ["iss", "aud", "exp", "kubernetes.io"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(missing);
            assert!(checked(&cluster(), &claims).is_err(), "{missing}");
        }
    }

    #[test]
    fn only_a_key_of_the_cluster_signs() {
        let (ours, other) = (cluster(), cluster());
        let sign = |header: Header, key: &EncodingKey| jsonwebtoken::encode(&header, &claims(), key).unwrap();
        let named = |kid: &str| Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        assert_eq!(check(&sign(named("one"), &other.0), &ours.1, ISSUER), Err(TokenError::Signature));
        assert_eq!(check(&sign(named("two"), &ours.0), &ours.1, ISSUER), Err(TokenError::UnknownKey));
        assert_eq!(check(&sign(Header::new(Algorithm::ES256), &ours.0), &ours.1, ISSUER), Err(TokenError::Unreadable));
        let shared = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
        let signed = sign(shared, &EncodingKey::from_secret(b"public key"));
        assert_eq!(check(&signed, &ours.1, ISSUER), Err(TokenError::Algorithm));
        // {"alg":"none","kid":"one"}
        let none = format!("eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.{}.", signed.split('.').nth(1).unwrap());
        assert!(check(&none, &ours.1, ISSUER).is_err());
    }
}
