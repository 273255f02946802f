//! A token that was issued outside of the cluster, and which identity it proves. Pure.
//!
//! **Promise.** What is signed by a key of the issuer, is in time, and is no other kind of token than one that says who
//! somebody is, is believed; nothing else. An identity is proven by issuer, audience and each claim that it pins.

use std::collections::{BTreeMap, BTreeSet};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_crds::api::OidcSubject;
use postern_crds::issuers;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// By which keys an issuer may sign, none of them a shared one.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far the clocks of broker and issuer may be apart, in seconds.
const LEEWAY: u64 = 30;
/// The longest that a token may live, in seconds: as long as those of clouds for their machines, which are of a day and
/// some minutes.
const MAX_LIFE: u64 = 25 * 3600;
/// Longest value that an identity can pin.
const MAX_VALUE: usize = 1024;
/// What is carried of a token's claims in an access token, whose bearer sends it in the head of each request: Entra ID's 200
/// groups fit.
const MAX_CARRIED: usize = 9 << 10;
/// Longest access token, of which the head of a request has room for one and its proof.
pub(super) const MAX_ACCESS: usize = 14 << 10;

/// Who a token says that its bearer is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OutsideToken {
    pub(super) subject: String,
    pub(super) id: Option<String>,
    pub(super) expires: u64,
    claims: Map<String, Value>,
}

/// What of a token of outside identities are looked for by, as an access token carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Whom it is for.
    audiences: Vec<String>,
    /// Its claims that can be pinned, as texts.
    claims: BTreeMap<String, String>,
    /// The groups in each claim that identities have groups by.
    groups: BTreeMap<String, Vec<String>>,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OutsideError {
    /// The issuer may have another key since.
    #[error("the token is not signed by a key of its issuer")]
    UnknownKey,
    #[error("the token is no JWT that names its key")]
    Unreadable,
    #[error("the token is of a kind that does not say who somebody is")]
    Kind,
    #[error("the token is signed by an algorithm that is not accepted")]
    Algorithm,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is of another issuer than it says")]
    Issuer,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not good yet")]
    Early,
    #[error("the token says no subject, no audience, or not when it was issued and when it ends")]
    Incomplete,
    #[error("the token lives longer than {MAX_LIFE} s")]
    Life,
    #[error(
        "the token does not hold its groups, for they are too many: let its issuer put in only those of the application"
    )]
    GroupsElsewhere,
    #[error("the token's groups are neither a text nor a list of texts")]
    Groups,
    #[error("the token has more than {MAX_CARRIED} bytes of claims")]
    Long,
}

/// The issuer that a token claims to be of; believed is that nowhere.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token).ok().map(|claims| claims.iss)
}

/// Checks kind, signature, issuer and times.
pub(super) fn check(token: &str, keys: &JwkSet, issuer: &str, now: u64) -> Result<OutsideToken, OutsideError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| OutsideError::Unreadable)?;
    // RFC 7519 §5.1, RFC 9068 §2.1; others are notices of a logout, proofs, answers to requests.
    let kind = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
    if !["jwt", "application/jwt", "at+jwt", "application/at+jwt"].contains(&kind.as_str()) {
        return Err(OutsideError::Kind);
    }
    if !ALGORITHMS.contains(&header.alg) {
        return Err(OutsideError::Algorithm);
    }
    let kid = header.kid.ok_or(OutsideError::Unreadable)?;
    let jwk = keys.find(&kid).ok_or(OutsideError::UnknownKey)?;
    let named = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    if named.is_some_and(|named| named != format!("{:?}", header.alg)) {
        return Err(OutsideError::Algorithm);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| OutsideError::Algorithm)?;
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims::<&str>(&[]);
    // Times, issuer and audience are compared below, each with a text of its own.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| {
        use jsonwebtoken::errors::ErrorKind;
        match error.kind() {
            ErrorKind::InvalidSignature => OutsideError::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => OutsideError::Algorithm,
            _ => OutsideError::Unreadable,
        }
    })?;
    good(claims.claims, issuer, now)
}

fn good(claims: Map<String, Value>, issuer: &str, now: u64) -> Result<OutsideToken, OutsideError> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty());
    if text("iss") != Some(issuer) {
        return Err(OutsideError::Issuer);
    }
    let (issued, expires) = (seconds(&claims, "iat")?, seconds(&claims, "exp")?);
    let (Some(issued), Some(expires)) = (issued, expires) else { return Err(OutsideError::Incomplete) };
    if expires.saturating_add(LEEWAY) <= now {
        return Err(OutsideError::Expired);
    }
    if issued > now + LEEWAY || seconds(&claims, "nbf")?.is_some_and(|begins| begins > now + LEEWAY) {
        return Err(OutsideError::Early);
    }
    if expires < issued || expires - issued > MAX_LIFE {
        return Err(OutsideError::Life);
    }
    let subject = text("sub").ok_or(OutsideError::Incomplete)?.to_owned();
    let id = text("jti").or_else(|| text("uti")).map(str::to_owned);
    if audiences(&claims).is_empty() {
        return Err(OutsideError::Incomplete);
    }
    Ok(OutsideToken { subject, id, expires, claims })
}

/// A time, of which some issuers write fractions.
fn seconds(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, OutsideError> {
    let Some(time) = claims.get(claim) else { return Ok(None) };
    let time = time.as_u64().or_else(|| time.as_f64().filter(|it| (0.0..1e15).contains(it)).map(|it| it as u64));
    time.map(Some).ok_or(OutsideError::Incomplete)
}

fn audiences(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(audience)) => vec![audience.clone()],
        Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

impl OutsideToken {
    /// What identities are looked for by; with the groups in these claims.
    pub(super) fn carried(&self, groups: &BTreeSet<&str>) -> Result<Outside, OutsideError> {
        let pinned = self.claims.iter().filter_map(|(claim, value)| {
            let value = as_text(value).filter(|value| value.len() <= MAX_VALUE)?;
            // Of these none can be pinned.
            (!["iss", "aud", "exp", "nbf", "iat", "jti"].contains(&claim.as_str())).then(|| (claim.clone(), value))
        });
        let groups = groups.iter().map(|claim| Ok(((*claim).to_owned(), self.groups(claim)?)));
        let carried = Outside {
            audiences: audiences(&self.claims),
            claims: pinned.collect(),
            groups: groups.collect::<Result<_, OutsideError>>()?,
        };
        let length = serde_json::to_string(&carried).map_or(usize::MAX, |text| text.len());
        if length > MAX_CARRIED { Err(OutsideError::Long) } else { Ok(carried) }
    }

    fn groups(&self, claim: &str) -> Result<Vec<String>, OutsideError> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(OutsideError::Groups);
        match self.claims.get(claim) {
            Some(Value::String(group)) => Ok(vec![group.clone()]),
            Some(Value::Array(groups)) => groups.iter().map(text).collect(),
            // Entra ID leaves out what is more than some 200, and says where it could be asked for instead: who is in
            // fewer groups may be allowed more, for rules have filters.
            None if self.is_elsewhere(claim) => Err(OutsideError::GroupsElsewhere),
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(_) => Err(OutsideError::Groups),
        }
    }

    fn is_elsewhere(&self, claim: &str) -> bool {
        let names = self.claims.get("_claim_names").and_then(Value::as_object);
        names.is_some_and(|names| names.contains_key(claim))
            || (claim == "groups" && self.claims.contains_key("hasgroups"))
    }
}

/// A claim as the text that an identity can pin.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

/// How a subject of an identity fits to a token; what fits better is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It is another issuer's, or the claims are others.
    No,
    /// All but the audience fits.
    AnotherAudience,
    /// The token proves it.
    Proves,
}

impl Outside {
    /// How it fits to a subject of an identity in this namespace.
    pub(super) fn fits(&self, issuer: &str, subject: &OidcSubject, namespace: &str) -> Fit {
        let OidcSubject { issuer: of, audience, claims, groups_claim: _ } = subject;
        let holds = |(claim, value): (&String, &String)| self.claims.get(claim) == Some(value);
        // Without a pin everybody would be meant; what compiles has one.
        if of != issuer || claims.is_empty() || !claims.iter().all(holds) {
            return Fit::No;
        }
        let own = issuers::audience(namespace);
        if self.audiences.contains(audience.as_ref().unwrap_or(&own)) { Fit::Proves } else { Fit::AnotherAudience }
    }

    /// The groups in a claim; None if it wasn't looked for when the token was exchanged.
    pub(super) fn groups(&self, claim: &str) -> Option<&[String]> {
        self.groups.get(claim).map(Vec::as_slice)
    }

    /// Whom it is for, for people.
    pub(super) fn audiences(&self) -> String {
        self.audiences.join(", ")
    }

    /// What of it tells whose it is, for people.
    pub(super) fn telling(&self, issuer: &str) -> String {
        let claims = issuers::telling(issuer).iter();
        let said = claims.filter_map(|claim| Some(format!("{claim}={}", self.claims.get(*claim)?)));
        said.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
    use serde_json::json;

    use super::*;

    /// What tokens of known issuers say, in the form that the issuers document.
    const RECORDED: [(&str, &str); 6] = [
        ("github", include_str!("claims/github-actions.json")),
        ("gitlab", include_str!("claims/gitlab.json")),
        ("okta", include_str!("claims/okta.json")),
        ("entra 2", include_str!("claims/entra-2.json")),
        ("entra 1", include_str!("claims/entra-1.json")),
        ("google", include_str!("claims/google.json")),
    ];

    fn recorded(name: &str) -> Value {
        let (_, text) = RECORDED.into_iter().find(|(of, _)| *of == name).unwrap();
        serde_json::from_str(text).unwrap()
    }

    /// The token of these claims, a moment after it was issued.
    fn read(claims: &Value) -> Result<OutsideToken, OutsideError> {
        let issued = claims["iat"].as_u64().unwrap_or_default();
        good(claims.as_object().unwrap().clone(), claims["iss"].as_str().unwrap(), issued + 1)
    }

    /// How an identity of namespace `shop` that pins these claims fits to the token; None if it would not compile.
    fn fit(claims: &Value, pins: &Value, audience: Option<&str>) -> Option<Fit> {
        let issuer = claims["iss"].as_str().unwrap();
        let mut subject = json!({"issuer": issuer, "claims": pins});
        if let Some(audience) = audience {
            subject["audience"] = json!(audience);
        }
        let identity = json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "NonHumanIdentity",
            "metadata": {"namespace": "shop", "name": "ci"},
            "spec": {"subjects": [{"oidc": subject}], "postgresRole": "reporting"},
        });
        let Ok(postern_crds::files::Object::Identity(manifest)) = postern_crds::files::read_value(identity) else {
            return None;
        };
        manifest.compile().ok()?;
        let subject = manifest.spec.subjects[0].oidc.as_ref().unwrap();
        Some(read(claims).unwrap().carried(&BTreeSet::new()).unwrap().fits(issuer, subject, "shop"))
    }

    #[test]
    fn tokens_of_known_issuers_prove_the_identities_that_pin_what_they_say() {
        let application = Some("0f7c1b1e-58ef-4a63-8a0e-b7a0c1a4d9f2");
        let tenant = "5f0c1b1e-58ef-4a63-8a0e-b7a0c1a4d9f2";
        let account = "22222222-58ef-4a63-8a0e-b7a0c1a4d9f2";
        for (name, pins, audience, wanted) in [
            ("github", json!({"repository_id": "74"}), None, Some(Fit::Proves)),
            ("github", json!({"repository_id": "74", "environment": "production"}), None, Some(Fit::Proves)),
            (
                "github",
                json!({"repository_id": "74", "ref": "refs/heads/main", "sub": "repo:acme/shop:environment:production"}),
                None,
                Some(Fit::Proves),
            ),
            ("github", json!({"repository_id": "74", "ref": "refs/heads/mai"}), None, Some(Fit::No)),
            ("github", json!({"repository_id": "74", "ref": "refs/heads/*"}), None, Some(Fit::No)),
            ("github", json!({"repository_id": "7"}), None, Some(Fit::No)),
            ("github", json!({"repository_id": "74", "environment": "Production"}), None, Some(Fit::No)),
            ("github", json!({"repository_id": "74", "no_such_claim": "x"}), None, Some(Fit::No)),
            ("github", json!({"repository": "acme/shop"}), None, None),
            ("github", json!({"sub": "repo:acme/shop:environment:production"}), None, None),
            ("github", json!({"repository_owner_id": "65"}), None, None),
            ("github", json!({}), None, None),
            ("github", json!({"repository_id": "74"}), Some("https://github.com/acme"), None),
            ("gitlab", json!({"project_id": "20", "ref_protected": "true"}), None, Some(Fit::Proves)),
            ("gitlab", json!({"project_id": "20", "runner_id": "1"}), None, Some(Fit::Proves)),
            ("gitlab", json!({"project_id": "2"}), None, Some(Fit::No)),
            ("gitlab", json!({"project_path": "acme/shop"}), None, None),
            ("gitlab", json!({"user_login": "ada"}), None, None),
            ("okta", json!({"cid": "0oa1a2b3c4"}), None, Some(Fit::Proves)),
            ("okta", json!({"sub": "0oa1a2b3c4"}), None, Some(Fit::Proves)),
            // A list is no text: what a token may do says nothing of who has it.
            ("okta", json!({"scp": "postern"}), None, Some(Fit::No)),
            ("entra 2", json!({"oid": account}), application, Some(Fit::Proves)),
            (
                "entra 2",
                json!({"azp": "11111111-58ef-4a63-8a0e-b7a0c1a4d9f2", "azpacr": "2"}),
                application,
                Some(Fit::Proves),
            ),
            ("entra 2", json!({"oid": account}), None, Some(Fit::AnotherAudience)),
            ("entra 2", json!({"oid": account}), Some(tenant), Some(Fit::AnotherAudience)),
            ("entra 2", json!({"oid": account}), Some("https://graph.microsoft.com"), None),
            ("entra 2", json!({"tid": tenant}), application, None),
            ("entra 2", json!({"appid": "11111111-58ef-4a63-8a0e-b7a0c1a4d9f2"}), application, Some(Fit::No)),
            (
                "entra 1",
                json!({"appid": "11111111-58ef-4a63-8a0e-b7a0c1a4d9f2"}),
                Some("api://postern-shop"),
                Some(Fit::Proves),
            ),
            ("entra 1", json!({"oid": account}), Some("api://postern"), Some(Fit::AnotherAudience)),
            ("google", json!({"sub": "107517467455664443765"}), None, Some(Fit::Proves)),
            (
                "google",
                json!({"email": "report@acme-shop.iam.gserviceaccount.com", "email_verified": "true"}),
                None,
                Some(Fit::Proves),
            ),
            ("google", json!({"email": "report@acme-shop.iam.gserviceaccount.com"}), None, None),
            ("google", json!({"azp": "107517467455664443765"}), None, None),
        ] {
            assert_eq!(fit(&recorded(name), &pins, audience), wanted, "{name} {pins}");
        }
        // Another issuer's claims of the same words are not these.
        let subject = OidcSubject {
            issuer: "https://gitlab.acme.example".into(),
            audience: None,
            claims: BTreeMap::from([("project_id".into(), "20".into())]),
            groups_claim: None,
        };
        let token = read(&recorded("gitlab")).unwrap().carried(&BTreeSet::new()).unwrap();
        assert_eq!(token.fits("https://gitlab.com", &subject, "shop"), Fit::No);
        assert_eq!(token.fits("https://gitlab.acme.example", &subject, "other"), Fit::AnotherAudience);
    }

    #[test]
    fn groups_are_those_of_the_claim_and_a_token_that_leaves_them_out_is_not_taken_for_one_without() {
        let groups = |claims: &Value, claim: &str| {
            let carried = read(claims).unwrap().carried(&BTreeSet::from([claim]))?;
            Ok(carried.groups(claim).unwrap().to_vec())
        };
        let of = |name: &str, claim: &str| groups(&recorded(name), claim);
        assert_eq!(of("okta", "groups").unwrap(), ["reporting", "Everyone"]);
        assert_eq!(of("gitlab", "groups_direct").unwrap(), ["acme/reporting", "acme/everybody"]);
        assert_eq!(of("entra 2", "roles").unwrap(), ["Reports.Read"]);
        assert_eq!(of("github", "environment").unwrap(), ["production"]);
        assert!(of("google", "groups").unwrap().is_empty());
        assert_eq!(of("google", "email_verified"), Err(OutsideError::Groups));
        assert_eq!(of("google", "google"), Err(OutsideError::Groups));
        let mut claims = recorded("entra 2");
        claims.as_object_mut().unwrap().remove("groups");
        for (claim, value) in [("_claim_names", json!({"groups": "src1"})), ("hasgroups", json!(true))] {
            let mut elsewhere = claims.clone();
            elsewhere[claim] = value;
            assert_eq!(groups(&elsewhere, "groups"), Err(OutsideError::GroupsElsewhere));
            assert!(groups(&elsewhere, "roles").is_ok(), "they are not asked for");
        }
        assert!(groups(&claims, "groups").unwrap().is_empty());
        // Not looked for is not none.
        let carried = read(&recorded("okta")).unwrap().carried(&BTreeSet::new()).unwrap();
        assert_eq!(carried.groups("groups"), None);
        // What is carried goes with each request.
        claims["groups"] = (0..2000).map(|at| format!("group-{at}")).collect();
        assert_eq!(groups(&claims, "groups"), Err(OutsideError::Long));
    }

    #[test]
    fn every_recorded_token_is_good_in_its_time_and_no_other_is() {
        for (name, text) in RECORDED {
            let claims: Value = serde_json::from_str(text).unwrap();
            let issuer = claims["iss"].as_str().unwrap();
            let (issued, ends) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
            let at = |now: u64| good(claims.as_object().unwrap().clone(), issuer, now).map(|token| token.expires);
            for now in [issued - LEEWAY, issued, ends, ends + LEEWAY - 1] {
                assert_eq!(at(now), Ok(ends), "{name} at {now}");
            }
            assert_eq!(at(ends + LEEWAY), Err(OutsideError::Expired), "{name}");
            assert_eq!(at(issued - LEEWAY - 1), Err(OutsideError::Early), "{name}");
        }
        let claims = recorded("google");
        for (claim, value, error) in [
            ("iss", json!("https://accounts.google.com/"), OutsideError::Issuer),
            ("iss", json!(["https://accounts.google.com"]), OutsideError::Issuer),
            ("iat", Value::Null, OutsideError::Incomplete),
            ("exp", json!("soon"), OutsideError::Incomplete),
            ("exp", json!(-1), OutsideError::Incomplete),
            ("exp", json!(1_795_000_000_u64 + MAX_LIFE + 1), OutsideError::Life),
            ("nbf", json!(1_795_000_100), OutsideError::Early),
            ("sub", json!(""), OutsideError::Incomplete),
            ("sub", json!(7), OutsideError::Incomplete),
            ("aud", json!([]), OutsideError::Incomplete),
            ("aud", json!({"postern/shop": true}), OutsideError::Incomplete),
        ] {
            let mut other = claims.clone();
            other[claim] = value.clone();
            let read = good(other.as_object().unwrap().clone(), "https://accounts.google.com", 1_795_000_001);
            assert_eq!(read.map(|token| token.subject), Err(error), "{claim} {value}");
        }
        let mut fractions = claims;
        fractions["iat"] = json!(1_795_000_000.25);
        assert!(good(fractions.as_object().unwrap().clone(), "https://accounts.google.com", 1_795_000_001).is_ok());
    }

    /// A key of an issuer, and how it publishes it.
    fn key(algorithm: Algorithm, kind: &'static SignatureAlgorithm) -> (EncodingKey, Jwk) {
        let pair = KeyPair::generate_for(kind).unwrap();
        let (key, mut jwk) = match algorithm {
            Algorithm::EdDSA => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
                (EncodingKey::from_ed_der(&pair.serialize_der()), serde_json::from_value(jwk).unwrap())
            }
            _ => {
                let key = EncodingKey::from_ec_der(&pair.serialize_der());
                let jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
                (key, jwk)
            }
        };
        jwk.common.key_id = Some("one".into());
        (key, jwk)
    }

    #[test]
    fn a_token_is_signed_by_the_key_that_it_names_and_by_the_algorithm_of_that_key() {
        let (now, issuer) = (jsonwebtoken::get_current_timestamp(), "https://idp.example");
        let claims = json!({"iss": issuer, "sub": "ci", "aud": "postern/shop", "iat": now, "exp": now + 60});
        let sign = |header: Header, key: &EncodingKey| jsonwebtoken::encode(&header, &claims, key).unwrap();
        let named = |kid: &str, algorithm| Header { kid: Some(kid.into()), ..Header::new(algorithm) };
        let checked = |token: &str, keys: &[Jwk]| {
            check(token, &JwkSet { keys: keys.to_vec() }, issuer, now).map(|token| token.subject)
        };
        for (algorithm, kind) in [
            (Algorithm::ES256, &PKCS_ECDSA_P256_SHA256),
            (Algorithm::ES384, &PKCS_ECDSA_P384_SHA384),
            (Algorithm::EdDSA, &PKCS_ED25519),
        ] {
            let ((key, jwk), (other, _)) = (self::key(algorithm, kind), self::key(algorithm, kind));
            assert_eq!(checked(&sign(named("one", algorithm), &key), std::slice::from_ref(&jwk)).as_deref(), Ok("ci"));
            assert_eq!(
                checked(&sign(named("one", algorithm), &other), std::slice::from_ref(&jwk)),
                Err(OutsideError::Signature)
            );
            assert_eq!(
                checked(&sign(named("two", algorithm), &key), std::slice::from_ref(&jwk)),
                Err(OutsideError::UnknownKey)
            );
            assert_eq!(checked(&sign(Header::new(algorithm), &key), &[jwk]), Err(OutsideError::Unreadable));
        }
        let (key, jwk) = self::key(Algorithm::ES256, &PKCS_ECDSA_P256_SHA256);
        let good = sign(named("one", Algorithm::ES256), &key);
        // Other kinds of tokens are signed by the same keys.
        for kind in ["dpop+jwt", "logout+jwt", "secevent+jwt", "oauth-authz-req+jwt", "JOSE+JSON"] {
            let header = Header { typ: Some(kind.into()), ..named("one", Algorithm::ES256) };
            assert_eq!(checked(&sign(header, &key), std::slice::from_ref(&jwk)), Err(OutsideError::Kind), "{kind}");
        }
        let shared = sign(named("one", Algorithm::HS256), &EncodingKey::from_secret(b"public key"));
        assert_eq!(checked(&shared, std::slice::from_ref(&jwk)), Err(OutsideError::Algorithm));
        // {"alg":"none","kid":"one"}
        let none = format!("eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.{}.", good.split('.').nth(1).unwrap());
        assert_eq!(checked(&none, std::slice::from_ref(&jwk)), Err(OutsideError::Unreadable));
        // A key that is published for another algorithm, or for none that is taken.
        let mut other = jwk.clone();
        other.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES384);
        assert_eq!(checked(&good, &[other]), Err(OutsideError::Algorithm));
        let mut silent = jwk;
        silent.common.key_algorithm = None;
        assert_eq!(checked(&good, &[silent]).as_deref(), Ok("ci"), "it need not be said");
    }
}
