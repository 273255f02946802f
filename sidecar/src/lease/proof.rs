//! The sidecar's own key, and the proofs that it has it (DPoP, RFC 9449).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postern_crds::lease::{DPOP_TYPE, DpopClaims};
use sha2::{Digest as _, Sha256};

/// A key that lives in this process only: what is bound to it is worth nothing to anybody else.
pub(super) struct Key {
    signing: EncodingKey,
    header: Header,
}

/// There is no key, or it doesn't sign.
#[derive(Debug, thiserror::Error)]
#[error("the sidecar's own key can't be used: {0}")]
pub struct KeyError(String);

impl Key {
    /// A new one.
    pub(super) fn generate() -> Result<Self, KeyError> {
        let failed = |_| KeyError("it can't be made".to_owned());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let signing = EncodingKey::from_ec_der(pair.to_pkcs8v1().map_err(failed)?.as_ref());
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(|error| KeyError(error.to_string()))?;
        let header = Header { typ: Some(DPOP_TYPE.to_owned()), jwk: Some(jwk), ..Header::new(Algorithm::ES256) };
        Ok(Self { signing, header })
    }

    /// A proof for one `POST` to `url` (without query), made at `now` (seconds of Unix time), with `token` if it goes
    /// with one.
    pub(super) fn proof(&self, url: &str, token: Option<&str>, now: u64) -> Result<String, KeyError> {
        let claims = DpopClaims {
            jti: format!("{:032x}", rand::random::<u128>()),
            htm: "POST".to_owned(),
            htu: url.to_owned(),
            iat: now,
            ath: token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token))),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(|error| KeyError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn read(proof: &str) -> (Header, DpopClaims) {
        let header = jsonwebtoken::decode_header(proof).unwrap();
        let key = DecodingKey::from_jwk(header.jwk.as_ref().unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<DpopClaims>(proof, &key, &validation).unwrap().claims;
        (header, claims)
    }

    #[test]
    fn a_proof_names_its_request_and_its_token_and_is_signed_by_the_key_in_it() {
        let key = Key::generate().unwrap();
        let proof = key.proof("https://broker:8443/v1/lease", Some("token"), 17).unwrap();
        let (header, claims) = read(&proof);
        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        assert_eq!((claims.htm.as_str(), claims.htu.as_str()), ("POST", "https://broker:8443/v1/lease"));
        // The hash of RFC 9449 §4.2: unpadded, for URLs.
        assert_eq!(claims.ath.as_deref(), Some("PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A"));
        assert_eq!(claims.iat, 17);
    }

    #[test]
    fn a_proof_is_good_once_and_never_shows_the_private_key() {
        let key = Key::generate().unwrap();
        let (first, second) = (key.proof("u", None, 1).unwrap(), key.proof("u", None, 1).unwrap());
        assert_ne!(read(&first).1.jti, read(&second).1.jti);
        assert_eq!(read(&first).1.ath, None);
        let header = URL_SAFE_NO_PAD.decode(first.split('.').next().unwrap()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["jwk"]["kty"], "EC");
        assert_eq!(header["jwk"].get("d"), None);
        assert_eq!(read(&first).0.jwk, read(&second).0.jwk);
    }
}
