//! `NonHumanIdentity`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{DURATION, OBJECT_NAME};

/// Who a workload is: how it proves that, which groups it is in, and the Postgres role that its sessions run as.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::tidy)]
#[cfg_attr(
    feature = "kube",
    derive(kube::CustomResource),
    kube(
        group = "postern.dev",
        version = "v1alpha1",
        kind = "NonHumanIdentity",
        plural = "nonhumanidentities",
        namespaced,
        status = "crate::api::IdentityStatus",
        derive = "PartialEq",
        shortname = "nhi",
        category = "postern",
        doc = "NonHumanIdentity says who a workload is: how it proves that, which groups it is in, and the Postgres role that its sessions run as.",
        printcolumn(name = "Role", type_ = "string", json_path = ".spec.postgresRole"),
        printcolumn(name = "Groups", type_ = "string", json_path = ".spec.groups"),
        printcolumn(name = "Max lease", type_ = "string", json_path = ".spec.maxLease", priority = 1),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Sidecars", type_ = "integer", json_path = ".status.sidecars"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )
)]
pub struct NonHumanIdentitySpec {
    /// Who may use the identity: any one of these proves it. Without any, no workload of a cluster can; a sidecar that
    /// runs from files takes the identity by its name and does not look at this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub subjects: Vec<Subject>,
    /// Groups that the identity is in; rules and exemptions of policies name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub groups: Vec<String>,
    /// The Postgres role that the identity's sessions run as. It must exist, and the login of the policy's credentials
    /// must be a member of it. Not a `pg_…` role, nor `none`, which would be the login itself. Where the policy's
    /// credentials are an `ephemeralRole` with grants of its own, sessions run as the role that is made, and this is only
    /// the user that applications are told.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = [
        {"rule": "!self.startsWith('pg_') && self != 'none' && self != 'public'",
         "message": "must be a role of your own: not pg_…, none or public"},
    ]))]
    pub postgres_role: String,
    /// The longest lease that a sidecar gets, such as `15m`: how long a stolen token or a withdrawn right is good for
    /// at most. From `1m` to `24h`; default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub max_lease: Option<String>,
    /// How much longer a lease may serve while the broker can't be reached, such as `10m`; never after a refusal. Up
    /// to `24h`; default `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub outage_grace: Option<String>,
}

/// One way to prove the identity; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.serviceAccount) != has(self.oidc)", "message": "set exactly one of serviceAccount and oidc"},
]))]
pub struct Subject {
    /// Pods of this namespace that run as a service account, proven by their projected token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSubject>,
    /// A token that was issued elsewhere: by a CI system, a cloud or an identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcSubject>,
}

/// Pods by their service account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountSubject {
    /// Name of the service account, in the namespace of this object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// A token of an OpenID Connect issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcSubject {
    /// The issuer, such as `https://token.actions.githubusercontent.com`; compared exactly. The operator must be
    /// installed with this issuer on its list.
    #[schemars(length(min = 9, max = 512), regex(pattern = "^https://[^?#@]+$"))]
    pub issuer: String,
    /// The audience that the token must be issued for: `postern/<namespace of this object>`, which is the default. Entra
    /// ID can't issue such tokens: there it is the application's id, or its `api://…` URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub audience: Option<String>,
    /// Claims that the token must have, with exactly these values: every one must match, and at least one is needed,
    /// for anyone can get a token of a public issuer. Pin what can't be taken over, such as `repository_id` in place
    /// of a repository's name. Issuers that give tokens to everybody have a claim that must be pinned: GitHub
    /// `repository_id`, gitlab.com `project_id`, Google `sub` (or `email` with `email_verified: "true"`), Entra ID one of
    /// `oid`, `sub`, `azp` and `appid`. Values are texts: put numbers in quotes.
    #[schemars(schema_with = "claims_schema")]
    pub claims: BTreeMap<String, String>,
    /// The claim that lists groups, as an array of texts or one text. Those that a policy names are added to `groups` there,
    /// 64 together at most. Who writes groups at the issuer then has a say in what the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub groups_claim: Option<String>,
}

fn claims_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 1024},
    })
}
