//! The metrics of both programs.

use std::collections::BTreeSet;

use super::markdown::{Page, code};

const HEAD: [&str; 4] = ["metric", "type", "labels", "counts"];

/// A metric: name, type, labels, help.
type Metric = [String; 4];

fn of_the_sidecar() -> Vec<Metric> {
    // Its series are all there from the start.
    let text = postern_sidecar::metrics::Metrics::new("shop/shop").unwrap().render().unwrap();
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.push([name.into(), String::new(), String::new(), help.into()]);
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            metrics.last_mut().unwrap()[1] = kind.into();
        } else if let Some((_, labels)) = line.rsplit_once(' ').unwrap().0.split_once('{') {
            let names = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
            metrics.last_mut().unwrap()[2] = names.filter(|name| *name != "le").collect::<Vec<_>>().join(", ");
        }
    }
    metrics
}

fn of_the_operator() -> Vec<Metric> {
    let metrics = postern_operator::metrics::Metrics::new().unwrap();
    let mut all: Vec<Metric> = metrics
        .described()
        .iter()
        .map(|it| [it.name.clone(), it.kind.clone(), it.labels.join(", "), it.help.clone()])
        .collect();
    all.sort();
    all
}

fn rows(metrics: Vec<Metric>) -> impl Iterator<Item = Vec<String>> {
    metrics.into_iter().map(|[name, kind, labels, help]| vec![code(&name), kind, labels, help])
}

pub(crate) fn page() -> Page {
    let mut page = Page::new(
        "metrics.md",
        "Metrics",
        "What operator and sidecars count: in Prometheus' format, at `/metrics` of the port for metrics and probes. Labels \
         have few values each; names of objects, statements and values are in none, but for the policy of a sidecar.",
    );
    page.heading(2, "Of a sidecar");
    page.table(&HEAD, rows(of_the_sidecar()));
    page.heading(2, "Of the operator");
    page.table(&HEAD, rows(of_the_operator()));
    page
}

#[test]
fn no_metric_of_either_program_is_left_out() {
    let in_source = |path: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(postern_e2e::workspace().join(path)).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        product
            .split('"')
            .filter(|word| word.starts_with("postern_") && !word.contains(' '))
            .map(str::to_owned)
            .collect()
    };
    let names = |metrics: Vec<Metric>| metrics.into_iter().map(|[name, ..]| name).collect::<BTreeSet<_>>();
    assert_eq!(names(of_the_sidecar()), in_source("sidecar/src/metrics.rs"));
    assert_eq!(names(of_the_operator()), in_source("operator/src/metrics.rs"));
}
