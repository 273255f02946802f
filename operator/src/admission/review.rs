//! `AdmissionReview` of `admission.k8s.io/v1`, raw:
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_crds::api::API_VERSION;
use serde_json::{Map, Value, json};

use crate::injection::Refusal;

/// What the API server asks about.
#[derive(Clone, Debug)]
pub(super) struct Request {
    uid: String,
    /// Kind of the object.
    pub(super) kind: String,
    /// Its namespace, which a pod that is made from a template does not name itself.
    pub(super) namespace: String,
    /// Its name; empty where the API server makes one.
    pub(super) name: String,
    /// The object.
    pub(super) object: Value,
    /// Nothing comes of it.
    pub(super) dry_run: bool,
    /// What it was, if it is changed.
    pub(super) old_object: Option<Value>,
}

/// It is no review.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unreadable;

/// What is done with an object that is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// Operations that change it.
    pub(super) patch: Vec<Value>,
    /// What its author is told.
    pub(super) warnings: Vec<String>,
}

/// Longest warning; the API server cuts longer ones, and drops all after 4096 bytes in sum.
const MAX_WARNING: usize = 256;
/// Most warnings.
const MAX_WARNINGS: usize = 12;

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, Unreadable> {
        let mut review: Value = serde_json::from_slice(body).map_err(|_| Unreadable)?;
        if review.get("apiVersion").and_then(Value::as_str) != Some("admission.k8s.io/v1") {
            return Err(Unreadable);
        }
        let mut request = review.get_mut("request").map(Value::take).ok_or(Unreadable)?;
        let text = |path: &str| request.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (uid, kind, namespace, name) = (text("/uid"), text("/kind/kind"), text("/namespace"), text("/name"));
        let dry_run = request.get("dryRun").and_then(Value::as_bool).unwrap_or_default();
        let mut taken = |key: &str| request.get_mut(key).map(Value::take).filter(|value| !value.is_null());
        let (object, old_object) = (taken("object").ok_or(Unreadable)?, taken("oldObject"));
        Ok(Self { uid, kind, namespace, name, object, dry_run, old_object })
    }

    /// The object as a lease would carry it.
    pub(super) fn document(&self) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": self.kind,
            // One whose name the API server will make has none yet.
            "metadata": {"namespace": self.namespace, "name": if self.name.is_empty() { "generated" } else { &self.name }},
            "spec": self.object.get("spec"),
        })
    }

    /// The whole answer.
    pub(super) fn response(&self, answer: &Result<Answer, Refusal>) -> Value {
        let mut response = Map::from_iter([("uid".into(), json!(self.uid)), ("allowed".into(), json!(answer.is_ok()))]);
        match answer {
            Ok(answer) => {
                if !answer.patch.is_empty() {
                    response.insert("patchType".into(), json!("JSONPatch"));
                    response.insert("patch".into(), json!(BASE64.encode(json!(answer.patch).to_string())));
                }
                if !answer.warnings.is_empty() {
                    response.insert("warnings".into(), json!(shown(&answer.warnings)));
                }
            }
            Err(refusal) => {
                let status = json!({"code": 403, "reason": "Forbidden", "message": refusal.0});
                response.insert("status".into(), status);
            }
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

/// As many warnings as are shown.
fn shown(warnings: &[String]) -> Vec<String> {
    let mut shown: Vec<String> =
        warnings.iter().take(MAX_WARNINGS).map(|warning| warning.chars().take(MAX_WARNING).collect()).collect();
    if let Some(more) = warnings.len().checked_sub(MAX_WARNINGS).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown
}
