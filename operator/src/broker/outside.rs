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
/// What is carried of a token's claims in an access token, whose bearer sends it in the head of each request.
const MAX_CARRIED: usize = 8 << 10;

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
