//! What an upgrade to this version would touch, before it is one: looked at by the very code that the operator would look
//! with, by the rights of who asks, and nothing is changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use serde::Serialize;
use serde_json::Value;

use crate::config::Output;
use crate::controllers::{Revisions, asks_for_restarts, is_live};
use crate::definitions;
use crate::facts;
use crate::objects::{self, Identity, Kind, Known, Objects, Policy};
use crate::timely::timely;
use crate::version::{Skew, Version};

/// How long the first lists may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// Image of the sidecars that this version gives to pods; without it pods are not compared with it.
    pub image: Option<String>,
    /// Whether the operator evicts pods with outdated sidecars, where their policy asks for that.
    pub restarts: bool,
    /// How it is told.
    pub output: Output,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Weight {
    /// Something that works would work no more.
    Blocks,
    /// Somebody should look at it.
    Warns,
    /// It happens, and that is all.
    Notes,
}

/// What an upgrade would touch, or meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Finding {
    weight: Weight,
    /// What it is about, as `kind/name` or `kind/namespace/name`.
    object: String,
    /// A word for programs.
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    blocked: bool,
    findings: &'a [Finding],
}

/// Looks, and tells on standard output. Whether nothing is in the way.
pub async fn preflight(asked: &Preflight) -> Result<bool> {
    let client = Client::try_default().await.context("there is no cluster: set KUBECONFIG, or run in a pod")?;
    let mut findings = Vec::new();
    if defined(&client, &mut findings).await? {
        let objects = known(&client).await?;
        findings.extend(objects.policies().iter().filter_map(|known| stored(known)));
        findings.extend(objects.identities().iter().filter_map(|known| stored(known)));
        findings.extend(objects.policies().iter().flat_map(|known| of_sidecars(known)));
        findings.extend(touched(&objects, asked));
    }
    findings.sort();
    let blocked = findings.iter().any(|finding| finding.weight == Weight::Blocks);
    let text = match asked.output {
        Output::Json => {
            let report = Report { version: env!("CARGO_PKG_VERSION"), blocked, findings: &findings };
            serde_json::to_string_pretty(&report)?
        }
        Output::Table => table(&findings, blocked),
    };
    println!("{}", text.trim_end());
    Ok(!blocked)
}

/// What becomes of the definitions; whether there are any.
async fn defined(client: &Client, findings: &mut Vec<Finding>) -> Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut there = true;
    for plural in [Policy::PLURAL, Identity::PLURAL] {
        let name = format!("{plural}.{}", postern_crds::api::GROUP);
        let definition = timely(api.get_opt(&name)).await.with_context(|| format!("definition {name}"))?;
        there &= definition.is_some();
        findings.extend(definition.and_then(|definition| of_definition(&name, &definition)));
    }
    Ok(there)
}

fn of_definition(name: &str, definition: &CustomResourceDefinition) -> Option<Finding> {
    let object = format!("CustomResourceDefinition/{name}");
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.as_deref()).unwrap_or_default();
    if let Some(unserved) = stored.iter().find(|version| *version != postern_crds::api::VERSION) {
        let message = format!("objects are stored as {unserved}, which this version does not serve");
        return Some(Finding { weight: Weight::Blocks, object, reason: "StoredVersion", message });
    }
    let written = definition.metadata.annotations.as_ref().and_then(|all| all.get(definitions::VERSION));
    let written = written.and_then(|version| Version::read(version));
    let (own, written_text) =
        (Some(Version::own()), written.map_or_else(|| "no version".to_owned(), |it| it.to_string()));
    if written > own {
        let message = format!("is of {written_text}, and stays so: this version does not know what is new in it");
        return Some(Finding { weight: Weight::Warns, object, reason: "DefinitionNewer", message });
    }
    (written < own).then(|| {
        let message = format!("is of {written_text}, and becomes that of {}", env!("CARGO_PKG_VERSION"));
        Finding { weight: Weight::Notes, object, reason: "DefinitionUpgraded", message }
    })
}

/// Everything that the operator would know, as it would read it.
async fn known(client: &Client) -> Result<Arc<Objects>> {
    let objects = Objects::new();
    // Without the right a watch is tried again for ever, and says nothing to who waits for it.
    may_look(client).await?;
    let watching = tokio::spawn(objects::watch(client.clone(), Arc::clone(&objects)));
    let synced = tokio::time::timeout(PATIENCE, objects.synced()).await;
    watching.abort();
    synced.with_context(|| format!("not everything could be read within {} s", PATIENCE.as_secs()))?;
    Ok(objects)
}

async fn may_look(client: &Client) -> Result<()> {
    use k8s_openapi::api::apps::v1::ControllerRevision;
    use k8s_openapi::api::core::v1::Pod;
    let one = kube::api::ListParams::default().limit(1);
    let mut missing = Vec::new();
    let policies = timely(objects::all::<Policy>(client.clone()).list_metadata(&one)).await.map(drop);
    let identities = timely(objects::all::<Identity>(client.clone()).list_metadata(&one)).await.map(drop);
    let revisions = timely(Api::<ControllerRevision>::all(client.clone()).list_metadata(&one)).await.map(drop);
    let pods = timely(Api::<Pod>::all(client.clone()).list_metadata(&one)).await.map(drop);
    for (what, listed) in [
        ("databaseaccesspolicies.postern.dev", policies),
        ("nonhumanidentities.postern.dev", identities),
        ("controllerrevisions.apps", revisions),
        ("pods", pods),
    ] {
        match listed {
            Ok(()) => {}
            Err(error) if matches!(error.code(), Some(401 | 403)) => missing.push(what),
            Err(error) => return Err(error).context(what),
        }
    }
    if !missing.is_empty() {
        bail!("who asks has to have the rights `list` and `watch` in all namespaces on {}", missing.join(", "));
    }
    Ok(())
}

/// A policy or identity that is not in force, or not as it is written, once it is read by this version.
fn stored<K: Kind>(known: &Known<K>) -> Option<Finding> {
    let mistakes = known.mistakes.as_ref().filter(|_| known.deleted.is_none())?;
    let object = format!("{}/{}/{}", K::KIND, known.namespace, known.name);
    let (status, then) = (known.status(), known.in_force.as_ref().map(|it| it.generation));
    let now = status.get("generationInForce").and_then(Value::as_i64);
    let (weight, reason, message) = match (now, then) {
        (Some(now), None) => {
            let message = format!("generation {now} is in force, and nothing would be: {mistakes}");
            (Weight::Blocks, "NothingInForce", message)
        }
        (_, Some(then)) if now != Some(then) => {
            let message = format!("generation {then} would be in force in place of what is now: {mistakes}");
            (Weight::Warns, "LastGoodInForce", message)
        }
        (_, Some(then)) => {
            let message = format!("has mistakes already; generation {then} stays in force: {mistakes}");
            (Weight::Notes, "LastGoodInForce", message)
        }
        (None, None) => {
            (Weight::Notes, "Invalid", format!("has mistakes already, and nothing is in force: {mistakes}"))
        }
    };
    Some(Finding { weight, object, reason, message })
}

/// What a policy's status says of its sidecars and of the operator's rights.
fn of_sidecars(known: &Known<Policy>) -> Vec<Finding> {
    let object = || format!("{}/{}/{}", Policy::KIND, known.namespace, known.name);
    let status = known.status();
    let reports = status.get("reports").and_then(Value::as_object).into_iter().flat_map(|reports| reports.values());
    let oldest = reports.filter_map(|report| Version::read(report.get("oldestSidecar")?.as_str()?)).min();
    let mut findings = Vec::new();
    match oldest.map(|oldest| (oldest, Version::own().skew_of(oldest))) {
        Some((oldest, Skew::TooOld)) => findings.push(Finding {
            weight: Weight::Warns,
            object: object(),
            reason: "SidecarTooOld",
            message: format!(
                "has sidecars of {oldest}, which nobody tries with this version: one that does not know what its lease \
                 requires keeps the one before until that ends; restart their workloads"
            ),
        }),
        Some((oldest, Skew::TooNew)) => findings.push(Finding {
            weight: Weight::Warns,
            object: object(),
            reason: "SidecarTooNew",
            message: format!("has sidecars of {oldest}, which nobody tries with this version; restart their workloads"),
        }),
        Some((_, Skew::Tried)) | None => {}
    }
    let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    findings.extend(
        conditions.filter(|it| text(it, "type") == "CredentialsReadable" && text(it, "status") == "False").map(
            |condition| Finding {
                weight: Weight::Warns,
                object: object(),
                reason: "CredentialsUnreadable",
                message: text(condition, "message"),
            },
        ),
    );
    findings
}

/// Workloads whose pods have another sidecar than they would get by this version.
fn touched(objects: &Objects, asked: &Preflight) -> Vec<Finding> {
    let Some(image) = &asked.image else { return Vec::new() };
    let mut revisions = Revisions::new(objects, image);
    let mut workloads: BTreeMap<(String, String, bool), u32> = BTreeMap::new();
    for pod in objects.pods() {
        let outline = pod.outline();
        if !is_live(&outline) || revisions.is_outdated(&pod.namespace, &outline) != Some(true) {
            continue;
        }
        let restarted = asked.restarts && asks_for_restarts(objects, &pod.namespace, &outline);
        let workload = facts::workload_name(&outline, &pod.namespace);
        *workloads.entry((pod.namespace.clone(), workload, restarted)).or_default() += 1;
    }
    let told = workloads.into_iter().map(|((namespace, workload, restarted), pods)| {
        let (kind, name) = workload.split_once('/').unwrap_or(("Pod", &workload));
        let (weight, reason, message) = if restarted {
            (
                Weight::Warns,
                "Restarted",
                format!("{pods} pods are evicted one at a time, for their policy has restartOnChange"),
            )
        } else {
            (
                Weight::Notes,
                "SidecarsOutdated",
                format!("{pods} pods keep the sidecar that they have until they are made anew"),
            )
        };
        Finding { weight, object: format!("{kind}/{namespace}/{name}"), reason, message }
    });
    told.collect()
}

/// The findings for people.
fn table(findings: &[Finding], blocked: bool) -> String {
    let mut text = String::new();
    for Finding { weight, object, reason, message } in findings {
        let weight = match weight {
            Weight::Blocks => "BLOCKS",
            Weight::Warns => "warns",
            Weight::Notes => "notes",
        };
        _ = writeln!(text, "{weight:<6}  {object}  {reason}: {message}");
    }
    let count = |weight| findings.iter().filter(|finding| finding.weight == weight).count();
    let (blocks, warns) = (count(Weight::Blocks), count(Weight::Warns));
    let verdict = if blocked { "an upgrade would break what works" } else { "nothing is in the way" };
    _ = writeln!(text, "upgrade to {}: {verdict}; {blocks} block, {warns} warn", env!("CARGO_PKG_VERSION"));
    text
}
