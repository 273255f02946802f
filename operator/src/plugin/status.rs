//! `status`: policies and identities, and what is wrong with them.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use kube::core::{DynamicObject, ResourceExt as _};
use serde_json::{Value, json};

use super::table::table;
use super::{Place, Shown};
use crate::config::Output;
use crate::objects::{self, Identity, Kind, Policy};
use crate::timely::timely;

/// Conditions, and what each of them is where all is well.
const WELL: [(&str, &str); 6] = [
    ("Ready", "True"),
    ("Stalled", "False"),
    ("Reconciling", "False"),
    ("CredentialsReadable", "True"),
    ("Bound", "True"),
    ("SidecarsCurrent", "True"),
];

/// All objects of a kind, of one namespace or of all.
pub(super) async fn all<K: Kind>(place: &Place, everywhere: bool) -> Result<Vec<DynamicObject>> {
    let api = if everywhere {
        objects::all::<K>(place.client.clone())
    } else {
        objects::of_namespace::<K>(place.client.clone(), &place.namespace)
    };
    Ok(timely(api.list(&ListParams::default())).await.context(K::PLURAL)?.items)
}

pub(super) async fn status(place: &Place, shown: &Shown) -> Result<ExitCode> {
    let policies = all::<Policy>(place, shown.all_namespaces).await?;
    let identities = all::<Identity>(place, shown.all_namespaces).await?;
    let told: Vec<Told> = policies
        .iter()
        .map(|it| Told::of("policy", it))
        .chain(identities.iter().map(|it| Told::of("identity", it)))
        .collect();
    print!("{}", text(&told, shown.output, &place.namespace)?);
    Ok(if told.iter().all(|it| it.wrong.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is told of an object.
struct Told {
    namespace: String,
    name: String,
    in_force: Option<i64>,
    sidecars: i64,
    oldest: Option<String>,
    last_used: Option<String>,
    /// Conditions that are not as they are where all is well: type, reason and message.
    wrong: Vec<[String; 3]>,
}

impl Told {
    fn of(kind: &str, object: &DynamicObject) -> Self {
        let status = object.data.get("status").unwrap_or(&Value::Null);
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
        let is_wrong = |condition: &&Value| {
            let of = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
            WELL.iter().any(|(known, well)| of("type") == *known && of("status") != *well)
        };
        let wrong = conditions
            .filter(is_wrong)
            .map(|it| ["type", "reason", "message"].map(|key| text(it, key).unwrap_or_default()));
        let reports = status.get("reports").and_then(Value::as_object).into_iter().flat_map(|all| all.values());
        let versions =
            reports.filter_map(|report| crate::version::Version::read(report.get("oldestSidecar")?.as_str()?));
        let used = text(status, "lastUsed").map(|at| match text(status, "lastUsedBy") {
            Some(by) => format!("{at} by {by}"),
            None => at,
        });
        let mut wrong: Vec<_> = wrong.collect();
        if status.get("observedGeneration").is_none() {
            wrong.push(["Ready", "NotSeen", "no operator has looked at it yet"].map(str::to_owned));
        }
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: format!("{kind}/{}", object.name_any()),
            in_force: status.get("generationInForce").and_then(Value::as_i64),
            sidecars: status.get("sidecars").and_then(Value::as_i64).unwrap_or_default(),
            oldest: versions.min().map(|version| version.to_string()),
            last_used: used,
            wrong,
        }
    }

    fn to_json(&self) -> Value {
        let wrong: Vec<Value> = self
            .wrong
            .iter()
            .map(|[type_, reason, message]| json!({"type": type_, "reason": reason, "message": message}))
            .collect();
        json!({
            "namespace": self.namespace, "object": self.name, "generationInForce": self.in_force,
            "sidecars": self.sidecars, "oldestSidecar": self.oldest, "lastUsed": self.last_used, "wrong": wrong,
        })
    }
}

fn text(told: &[Told], output: Output, namespace: &str) -> Result<String> {
    if output == Output::Json {
        let all: Vec<Value> = told.iter().map(Told::to_json).collect();
        return Ok(serde_json::to_string_pretty(&all)? + "\n");
    }
    if told.is_empty() {
        return Ok(format!("There are no policies and no identities in {namespace}.\n"));
    }
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<_> = told
        .iter()
        .map(|it| {
            let state = if it.wrong.is_empty() { "well" } else { "see below" };
            let in_force = dash(it.in_force.map(|generation| generation.to_string()));
            let [namespace, name] = [&it.namespace, &it.name].map(Clone::clone);
            [
                namespace,
                name,
                state.to_owned(),
                in_force,
                it.sidecars.to_string(),
                dash(it.oldest.clone()),
                dash(it.last_used.clone()),
            ]
        })
        .collect();
    let heads = ["NAMESPACE", "OBJECT", "STATE", "IN FORCE", "SIDECARS", "OLDEST", "LAST USED"];
    let mut text = table(heads, &rows);
    for it in told {
        for [type_, reason, message] in &it.wrong {
            text += &format!("\n{} in {}: {type_}, {reason}\n    {message}\n", it.name, it.namespace);
        }
    }
    Ok(text)
}
