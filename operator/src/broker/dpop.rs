//! Proofs that who asks has the key that a token is bound to (DPoP, RFC 9449). The check is pure; what was seen before
//! is remembered for as long as a proof is good, and no more of it than fits.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_crds::lease::{DPOP_TYPE, DPOP_WINDOW, DpopClaims};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The header that a proof is in.
pub(super) const HEADER: &str = "dpop";
/// Longest `jti` that is remembered whole; sidecars' have 32 characters.
const MAX_JTI: usize = 128;
/// Most proofs remembered per [`SEEN`]: what they take is some tens of megabytes at most.
const MAX_SEEN: usize = 400_000;
/// How long a proof has to be remembered at least: one from the far end of the window is good for as long as this.
const SEEN: u64 = 2 * DPOP_WINDOW;

/// What a proof has to be for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// Where clients reach the broker, as `https://name:port`; any of these.
    pub(super) bases: &'a [String],
    /// The path of the request. Its method is always POST.
    pub(super) path: &'a str,
    /// The access token that goes with it.
    pub(super) access_token: Option<&'a str>,
    /// Seconds of Unix time.
    pub(super) now: u64,
}

/// A proof that is good, if it is not seen again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// Thumbprint of its key (RFC 7638).
    pub(super) thumbprint: String,
    /// Its id.
    pub(super) id: String,
}

/// Why a proof is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProofError {
    #[error("the request has no DPoP proof, or several")]
    Missing,
    #[error("the proof is no JWT")]
    Unreadable,
    #[error("the proof's typ is not {DPOP_TYPE}")]
    Type,
    #[error("the proof is not signed by ES256")]
    Algorithm,
    #[error("the proof's jwk is not the public part of a P-256 key")]
    Key,
    #[error("the proof's signature is not by the key in it")]
    Signature,
    #[error("the proof has no jti, or too long a one")]
    Id,
    #[error("the proof is for another method than POST")]
    Method,
    #[error("the proof is for another URL")]
    Url,
    #[error("the proof is too old, or from the future: do the clocks agree?")]
    Time,
    #[error("the proof is not for this access token")]
    Token,
    #[error("the proof was used before")]
    Replayed,
}

/// Checks a proof in the order of RFC 9449 §4.3; whether it was used before is for [`Replays`] to say.
pub(super) fn check(proof: &str, expected: &Expected<'_>) -> Result<Proven, ProofError> {
    let header = proof.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header: Value = serde_json::from_slice(&header.unwrap_or_default()).map_err(|_| ProofError::Unreadable)?;
    if header.get("typ").and_then(Value::as_str) != Some(DPOP_TYPE) {
        return Err(ProofError::Type);
    }
    if header.get("alg").and_then(Value::as_str) != Some("ES256") {
        return Err(ProofError::Algorithm);
    }
    let jwk = header.get("jwk").and_then(public_key).ok_or(ProofError::Key)?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| ProofError::Key)?;

    let mut validation = Validation::new(Algorithm::ES256);
    // A proof has neither; when it was made is checked below, by the broker's one clock.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let decoded = jsonwebtoken::decode::<DpopClaims>(proof, &key, &validation);
    let claims = decoded.map_err(|_| ProofError::Signature)?.claims;
    let DpopClaims { jti, htm, htu, iat, ath } = claims;
    if jti.is_empty() || jti.len() > MAX_JTI {
        return Err(ProofError::Id);
    }
    if htm != "POST" {
        return Err(ProofError::Method);
    }
    let asked = place(&htu).ok_or(ProofError::Url)?;
    if !expected.bases.iter().any(|base| place(&format!("{base}{}", expected.path)).as_ref() == Some(&asked)) {
        return Err(ProofError::Url);
    }
    if iat.abs_diff(expected.now) > DPOP_WINDOW {
        return Err(ProofError::Time);
    }
    if ath != expected.access_token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token))) {
        return Err(ProofError::Token);
    }
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| ProofError::Key)?;
    Ok(Proven { thumbprint, id: jti })
}

/// A public key of P-256.
fn public_key(jwk: &Value) -> Option<Jwk> {
    if jwk.get("d").is_some() {
        return None;
    }
    let jwk: Jwk = serde::Deserialize::deserialize(jwk).ok()?;
    let is_p256 = matches!(&jwk.algorithm, AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256);
    is_p256.then_some(jwk)
}

/// What of a URL has to agree: all but its query and fragment, as RFC 3986 compares them.
fn place(url: &str) -> Option<(String, u16, String)> {
    let uri: Uri = url.parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    Some((uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(443), uri.path().to_owned()))
}

/// The proofs that were used, for as long as they would be good again. Each replica has its own memory.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<Generations>);

/// What is older than the one before the current generation can't be good any more.
#[derive(Debug, Default)]
struct Generations {
    since: u64,
    current: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

impl Replays {
    /// Takes note of a proof's use; an error if it is not the first. Also if so many were used that it can't be told.
    pub(super) fn first_use(&self, proven: &Proven, now: u64) -> Result<(), ProofError> {
        let digest =
            Sha256::new().chain_update(&proven.thumbprint).chain_update([0]).chain_update(&proven.id).finalize();
        let mut short = [0; 16];
        short.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_sub(seen.since);
        if age >= SEEN {
            let old = std::mem::take(&mut seen.current);
            seen.before = if age >= 2 * SEEN { HashSet::new() } else { old };
            seen.since = now;
        }
        let is_new = !seen.before.contains(&short) && seen.current.len() < MAX_SEEN && seen.current.insert(short);
        if is_new { Ok(()) } else { Err(ProofError::Replayed) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    struct Key(EncodingKey, Jwk);

    fn key() -> Key {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signing = EncodingKey::from_ec_der(&pair.serialize_der());
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).unwrap();
        Key(signing, jwk)
    }

    fn claims() -> Value {
        json!({"jti": "one", "htm": "POST", "htu": "https://broker:8443/v1/lease", "iat": NOW, "ath": hash("token")})
    }

    fn hash(token: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(token))
    }

    /// A proof with these claims, whose header is merged with `more`.
    fn proof(key: &Key, claims: &Value, more: Value) -> String {
        let mut header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.1});
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.0, Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    }

    fn checked(proof: &str) -> Result<Proven, ProofError> {
        let bases = ["https://broker:8443".to_owned(), "https://other".to_owned()];
        check(proof, &Expected { bases: &bases, path: "/v1/lease", access_token: Some("token"), now: NOW })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_good_proof_proves_its_key() {
        let key = key();
        let proven = checked(&proof(&key, &claims(), json!({}))).unwrap();
        assert_eq!(proven.id, "one");
        assert_eq!(proven.thumbprint, key.1.thumbprint(ThumbprintHash::SHA256).unwrap());
        // The same library makes what sidecars send.
        let header = Header { typ: Some(DPOP_TYPE.into()), jwk: Some(key.1.clone()), ..Header::new(Algorithm::ES256) };
        let sent = jsonwebtoken::encode(&header, &claims(), &key.0).unwrap();
        assert_eq!(checked(&sent).unwrap().thumbprint, proven.thumbprint);
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_9449() {
        // The key of the examples, whose thumbprint §6.1 gives.
        let jwk: Jwk = serde_json::from_value(json!({
            "kty": "EC", "crv": "P-256",
            "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        }))
        .unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn a_proof_for_anything_else_is_refused() {
        let key = key();
        let plain = |claims: Value| proof(&key, &claims, json!({}));
        let long = "x".repeat(MAX_JTI + 1);
        for (claims, error) in [
            (with("htm", json!("GET")), ProofError::Method),
            (with("htu", json!("https://broker:8443/v1/audit")), ProofError::Url),
            (with("htu", json!("https://evil:8443/v1/lease")), ProofError::Url),
            (with("htu", json!("https://broker/v1/lease")), ProofError::Url),
            (with("htu", json!("http://broker:8443/v1/lease")), ProofError::Url),
            (with("htu", json!("/v1/lease")), ProofError::Url),
            (with("iat", json!(NOW - DPOP_WINDOW - 1)), ProofError::Time),
            (with("iat", json!(NOW + DPOP_WINDOW + 1)), ProofError::Time),
            (with("ath", json!(hash("another"))), ProofError::Token),
            (with("ath", Value::Null), ProofError::Token),
            (with("jti", json!("")), ProofError::Id),
            (with("jti", json!(long)), ProofError::Id),
        ] {
            assert_eq!(checked(&plain(claims.clone())), Err(error), "{claims}");
        }
    }

    #[test]
    fn urls_are_compared_as_urls() {
        let key = key();
        for same in [
            "https://BROKER:8443/v1/lease",
            "https://broker:8443/v1/lease?x=1",
            "https://other/v1/lease",
            "https://other:443/v1/lease",
        ] {
            assert!(checked(&proof(&key, &with("htu", json!(same)), json!({}))).is_ok(), "{same}");
        }
    }

    #[test]
    fn the_key_and_its_signature_have_to_be_what_they_say() {
        let (key, other) = (key(), key_of_other_curve());
        let mut private = serde_json::to_value(&key.1).unwrap();
        private["d"] = json!("AAAA");
        for (more, error) in [
            (json!({"typ": "JWT"}), ProofError::Type),
            (json!({"typ": null}), ProofError::Type),
            (json!({"alg": "none"}), ProofError::Algorithm),
            (json!({"alg": "HS256"}), ProofError::Algorithm),
            (json!({"alg": "RS256"}), ProofError::Algorithm),
            (json!({"jwk": null}), ProofError::Key),
            (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), ProofError::Key),
            (json!({"jwk": other}), ProofError::Key),
            (json!({"jwk": private}), ProofError::Key),
            (json!({"jwk": self::key().1}), ProofError::Signature),
        ] {
            assert_eq!(checked(&proof(&key, &claims(), more.clone())), Err(error), "{more}");
        }
        let good = proof(&key, &claims(), json!({}));
        let (message, _) = good.rsplit_once('.').unwrap();
        assert_eq!(checked(&format!("{message}.")), Err(ProofError::Signature));
        assert_eq!(checked("a.b"), Err(ProofError::Unreadable));
        assert_eq!(checked(""), Err(ProofError::Unreadable));
    }

    fn key_of_other_curve() -> Jwk {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Jwk::from_encoding_key(&EncodingKey::from_ec_der(&pair.serialize_der()), Algorithm::ES384).unwrap()
    }

    #[test]
    fn a_proof_is_good_once() {
        let replays = Replays::default();
        let one = Proven { thumbprint: "key".into(), id: "one".into() };
        assert_eq!(replays.first_use(&one, NOW), Ok(()));
        for later in [0, SEEN - 1, SEEN, SEEN + DPOP_WINDOW] {
            assert_eq!(replays.first_use(&one, NOW + later), Err(ProofError::Replayed), "{later}");
        }
        let of_another_key = Proven { thumbprint: "other".into(), ..one.clone() };
        assert_eq!(replays.first_use(&of_another_key, NOW + SEEN), Ok(()));
        // By then it is too old for the check itself.
        assert_eq!(replays.first_use(&one, NOW + 10 * SEEN), Ok(()));
    }
}
