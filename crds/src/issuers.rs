//! Issuers that give tokens to anybody who asks: which claims tell their customers apart, and which audience a token of
//! an issuer can have. Pure.
//!
//! **Promise.** An identity that names such an issuer pins what nobody else can have: an id that is never given again, not
//! a name that can be. Of an issuer that isn't listed here it is the author who knows what its tokens hold.

use std::collections::BTreeMap;

/// Most groups that an identity is in, with those that a token says.
pub const MAX_GROUPS: usize = 64;

/// The claims of an issuer's tokens that tell whose they are, for people.
pub fn telling(issuer: &str) -> &'static [&'static str] {
    match known(issuer) {
        Some(Shared::GitHub) => &["repository_id", "repository", "ref", "environment"],
        Some(Shared::GitLab) => &["project_id", "project_path", "ref"],
        Some(Shared::Google) => &["sub", "email", "email_verified"],
        Some(Shared::Entra(_)) => &["oid", "azp", "appid", "sub"],
        None => &["sub"],
    }
}

/// The audience of a token that is for the identities of a namespace.
pub fn audience(namespace: &str) -> String {
    format!("postern/{namespace}")
}

/// What is wrong with the pins of a subject, with the remedy; None if they tell it apart from everybody else's.
pub(crate) fn unpinned(issuer: &str, claims: &BTreeMap<String, String>) -> Option<String> {
    let has = |claim: &str| claims.contains_key(claim);
    let says = |claim: &str, value: &str| claims.get(claim).is_some_and(|it| it == value);
    match known(issuer)? {
        Shared::GitHub => (!has("repository_id")).then(|| {
            "GitHub gives tokens to every repository there is: pin repository_id (a name can be given up and taken \
             by somebody else; `gh api repos/OWNER/REPO --jq .id` shows it)"
                .to_owned()
        }),
        Shared::GitLab => (!has("project_id")).then(|| {
            "gitlab.com gives tokens to every project there is: pin project_id (a path can be given up and taken by \
             somebody else; the project's page shows it)"
                .to_owned()
        }),
        Shared::Google => {
            let by_email = has("email") && says("email_verified", "true");
            (!has("sub") && !by_email).then(|| {
                "Google gives tokens to everybody: pin sub (the account's unique id), or email together with \
                 email_verified: \"true\""
                    .to_owned()
            })
        }
        Shared::Entra(tenant) => {
            if !is_guid(tenant) {
                return Some(format!(
                    "'{tenant}' is every tenant there is, and no token is issued by it: name the one of yours by its id, as iss \
                     has it in a token"
                ));
            }
            if tenant == CONSUMERS {
                return Some(
                    "this is the tenant of everybody's private Microsoft account: name one of your own".to_owned(),
                );
            }
            (!["oid", "sub", "azp", "appid"].into_iter().any(has)).then(|| {
                "everybody in the tenant can have a token: pin oid (the account's object id), sub, or the application \
                 by azp (tokens of version 1.0: appid)"
                    .to_owned()
            })
        }
    }
}

/// Whether tokens of the issuer for this audience may prove identities of the namespace. It is the namespace's own, but
/// for an issuer that can't issue such tokens.
pub(crate) fn takes(issuer: &str, audience: &str, namespace: &str) -> bool {
    // A token of Entra ID is for an application that is registered there: by its id, or by a URI of a form that Entra
    // prescribes.
    let application = || is_guid(audience) || audience.strip_prefix("api://").is_some_and(|rest| !rest.is_empty());
    audience == self::audience(namespace) || (matches!(known(issuer), Some(Shared::Entra(_))) && application())
}

/// The tenant of private accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

enum Shared<'a> {
    GitHub,
    GitLab,
    Google,
    /// With the tenant.
    Entra(&'a str),
}

fn known(issuer: &str) -> Option<Shared<'_>> {
    let (host, path) =
        issuer.strip_prefix("https://")?.split_once('/').unwrap_or((issuer.strip_prefix("https://")?, ""));
    match host.trim_end_matches(":443").to_ascii_lowercase().as_str() {
        // With a path it is that of an enterprise, which all of its repositories share.
        "token.actions.githubusercontent.com" => Some(Shared::GitHub),
        "gitlab.com" => Some(Shared::GitLab),
        "accounts.google.com" => Some(Shared::Google),
        "login.microsoftonline.com"
        | "sts.windows.net"
        | "login.microsoftonline.us"
        | "login.partner.microsoftonline.cn" => Some(Shared::Entra(path.split('/').next().unwrap_or_default())),
        _ => None,
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.bytes().all(|it| it.is_ascii_hexdigit() && !it.is_ascii_uppercase())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB: &str = "https://token.actions.githubusercontent.com";
    const GOOGLE: &str = "https://accounts.google.com";
    const ENTRA: &str = "https://login.microsoftonline.com/5f0c1b1e-58ef-4a63-8a0e-b7a0c1a4d9f2/v2.0";
    const ENTRA_1: &str = "https://sts.windows.net/5f0c1b1e-58ef-4a63-8a0e-b7a0c1a4d9f2/";

    #[test]
    fn an_issuer_that_everybody_has_tokens_of_needs_what_nobody_else_can_have() {
        // Issuer, claims, and a word of the remedy; none if nothing is missing.
        type Claims = &'static [(&'static str, &'static str)];
        let cases: [(&str, Claims, Option<&str>); 24] = [
            (GITHUB, &[("repository_id", "4711")], None),
            (GITHUB, &[("repository_id", "4711"), ("ref", "refs/heads/main")], None),
            (GITHUB, &[("repository", "acme/shop")], Some("repository_id")),
            (GITHUB, &[("sub", "repo:acme/shop:ref:refs/heads/main")], Some("repository_id")),
            (GITHUB, &[("repository_owner_id", "1")], Some("repository_id")),
            ("https://token.actions.githubusercontent.com/", &[("ref", "x")], Some("repository_id")),
            ("https://TOKEN.actions.githubusercontent.com:443", &[("ref", "x")], Some("repository_id")),
            ("https://token.actions.githubusercontent.com/acme", &[("ref", "x")], Some("repository_id")),
            ("https://gitlab.com", &[("project_id", "22")], None),
            ("https://gitlab.com", &[("project_path", "acme/shop")], Some("project_id")),
            ("https://gitlab.acme.example", &[("project_path", "acme/shop")], None),
            (GOOGLE, &[("sub", "113")], None),
            (GOOGLE, &[("email", "ci@acme.example"), ("email_verified", "true")], None),
            (GOOGLE, &[("email", "ci@acme.example")], Some("email_verified")),
            (GOOGLE, &[("email", "ci@acme.example"), ("email_verified", "false")], Some("email_verified")),
            (GOOGLE, &[("hd", "acme.example")], Some("sub")),
            (ENTRA, &[("oid", "a")], None),
            (ENTRA, &[("azp", "a"), ("azpacr", "1")], None),
            (ENTRA_1, &[("appid", "a")], None),
            (ENTRA, &[("tid", "5f0c1b1e-58ef-4a63-8a0e-b7a0c1a4d9f2")], Some("oid")),
            ("https://login.microsoftonline.com/common/v2.0", &[("oid", "a")], Some("every tenant")),
            ("https://login.microsoftonline.com/{tenantid}/v2.0", &[("oid", "a")], Some("every tenant")),
            (
                "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
                &[("oid", "a")],
                Some("private"),
            ),
            ("https://acme.okta.com/oauth2/default", &[("cid", "0oa1")], None),
        ];
        for (issuer, claims, wanted) in cases {
            let claims = claims.iter().map(|(claim, value)| ((*claim).to_owned(), (*value).to_owned())).collect();
            let found = unpinned(issuer, &claims);
            let told = match (&found, wanted) {
                (None, None) => true,
                (Some(found), Some(word)) => found.contains(word),
                _ => false,
            };
            assert!(told, "{issuer} {claims:?}: {found:?}, not {wanted:?}");
        }
    }

    #[test]
    fn a_token_is_for_the_namespace_unless_its_issuer_can_not_say_so() {
        let application = "0f7c1b1e-58ef-4a63-8a0e-b7a0c1a4d9f2";
        for (issuer, audience, taken) in [
            (GITHUB, "postern/shop", true),
            (GITHUB, "postern/other", false),
            (GITHUB, "https://github.com/acme", false),
            (GITHUB, application, false),
            (GITHUB, "api://postern-shop", false),
            (ENTRA, "postern/shop", true),
            (ENTRA, application, true),
            (ENTRA_1, "api://postern-shop", true),
            (ENTRA, "api://", false),
            (ENTRA, "https://graph.microsoft.com", false),
            (ENTRA, "postern/other", false),
        ] {
            assert_eq!(takes(issuer, audience, "shop"), taken, "{issuer} {audience}");
        }
    }
}
