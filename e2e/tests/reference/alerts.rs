//! The alerts of the chart's PrometheusRule, from its template.

use super::markdown::{Page, code};

/// An alert, by the lines of the template that it is written in.
#[derive(Default)]
struct Alert {
    name: String,
    expr: String,
    lasts: String,
    severity: String,
    summary: String,
    description: String,
}

fn alerts() -> Vec<Alert> {
    let path = postern_e2e::workspace().join("charts/postern/templates/monitoring.yaml");
    let mut alerts: Vec<Alert> = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let (key, value) = line.trim().trim_start_matches("- ").split_once(": ").unwrap_or_default();
        let value = plain(value);
        match (key, alerts.last_mut()) {
            ("alert", _) => alerts.push(Alert { name: value, ..Alert::default() }),
            ("expr", Some(alert)) => alert.expr = value,
            ("for", Some(alert)) => alert.lasts = value,
            ("labels", Some(alert)) if alert.severity.is_empty() => {
                let severity =
                    value.split_once("severity: ").unwrap_or_else(|| panic!("{}: no severity", alert.name)).1;
                alert.severity = severity.trim_end_matches('}').to_owned();
            }
            ("summary", Some(alert)) => alert.summary = value,
            ("description", Some(alert)) => alert.description = value,
            _ => {}
        }
    }
    alerts
}

/// A value without what Helm makes of it; labels are shown by their names in capitals.
fn plain(value: &str) -> String {
    let value = value.strip_prefix("{{ \"").and_then(|rest| rest.strip_suffix("\" | quote }}")).unwrap_or(value);
    let release = "namespace=\"{{ .Release.Namespace }}\"";
    let value = value.replace(&format!("{{{release}}}"), "").replace(&format!("{release}, "), "");
    let mut parts = value.split("{{ $");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (name, rest) = part.split_once(" }}").unwrap_or((part, ""));
        text + &name.trim_start_matches("labels.").to_uppercase() + rest
    })
}

pub(crate) fn page() -> Page {
    let intro = "The alerts that the chart brings with `monitoring.prometheusRule.enabled`: when each fires, what it means, and what \
                 to do.";
    let mut page = Page::new("alerts.md", "Alerts", intro);
    let rows = alerts().into_iter().map(|alert| {
        let lasts = if alert.lasts.is_empty() { String::new() } else { format!(", for {}", alert.lasts) };
        let when = format!("{}{lasts}", code(&alert.expr));
        vec![code(&alert.name), alert.severity, when, format!("{} {}", alert.summary, alert.description)]
    });
    page.table(&["alert", "severity", "fires when", "it means, and what to do"], rows);
    page
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let alerts = alerts();
    assert!(alerts.len() > 5);
    for alert in alerts {
        for (what, text) in [("summary", &alert.summary), ("description", &alert.description), ("expr", &alert.expr)] {
            assert!(!text.is_empty() && !text.contains("{{"), "{}: {what}: {text}", alert.name);
        }
    }
}
