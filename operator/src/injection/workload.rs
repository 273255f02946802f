//! The annotation of a workload, carried to the template of its pods.

use serde_json::{Value, json};

use super::raw::{self, object_in};
use super::{INJECT, Refusal, annotation};

/// Kinds of workload, and where the template of their pods is.
pub const TEMPLATES: [(&str, &[&str]); 5] = [
    ("Deployment", &["spec", "template"]),
    ("StatefulSet", &["spec", "template"]),
    ("DaemonSet", &["spec", "template"]),
    ("Job", &["spec", "template"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
];

/// The workload with its annotation in the template too; or, where it was taken off the workload, out of it. A template
/// that was annotated by itself stays as it is.
pub fn copy_annotation(kind: &str, object: &Value, before: Option<&Value>) -> Result<Value, Refusal> {
    let path = TEMPLATES.iter().find(|(known, _)| *known == kind).map(|(_, path)| *path);
    let path = path.ok_or_else(|| Refusal::new(format!("{kind} is no kind of workload that is known")))?;
    let asked = annotation(object);
    let was_asked = before.and_then(annotation);
    let mut object = object.clone();
    let template = path.iter().try_fold(&mut object, |value, key| value.get_mut(*key));
    let template = template.ok_or_else(|| Refusal::new(format!("the {kind} has no template")))?;
    let in_template = object_in(raw::object(template, "metadata")?, "annotations")?;
    let old = in_template.get(INJECT).and_then(Value::as_str).map(str::to_owned);
    match (asked, was_asked) {
        (Some(asked), _) => {
            in_template.insert(INJECT.to_owned(), json!(asked));
        }
        (None, Some(was_asked)) if old.as_deref() == Some(was_asked) => {
            in_template.remove(INJECT);
        }
        (None, _) => {}
    }
    let new = in_template.get(INJECT).and_then(Value::as_str).map(str::to_owned);
    if kind == "Job" && before.is_some() && old != new {
        return Err(Refusal::new(format!("{INJECT}: a Job's pods can't be changed once it is there; make it anew")));
    }
    Ok(object)
}
