//! What the chart renders, without a cluster.

use std::collections::BTreeSet;
use std::fs;

use clap::Parser as _;
use postern_e2e::workspace;
use serde_json::Value;

use crate::cluster::{chart, helm_says, run_helm};

/// Everything that can be switched on.
const EVERYTHING: &str = "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,\
                          monitoring.grafanaDashboard.enabled=true,audit.sink=otlp:https://otel:4318,\
                          networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring,networkPolicy.webhooksFrom[0].ipBlock.cidr=10.0.0.0/24,priorityClassName=high,\
                          images.registry=registry.example.com/mirror/,images.pullSecrets[0].name=mirror,log.format=text,\
                          broker.external.host=postern.example.com,broker.external.service.annotations.kind=internal,\
                          issuers[0].url=https://token.actions.githubusercontent.com,issuers[1].url=https://idp.example.com/,issuers[1].allowPrivateAddresses=true,\
                          podLabels.team=data,podAnnotations.note=x,nodeSelector.disk=ssd,serviceAccount.annotations.role=x";

fn rendered(values: &[&str]) -> Option<String> {
    let chart = chart();
    let mut arguments = vec!["template", "postern", &chart, "-n", "postern-system"];
    for value in values {
        arguments.extend(["--set", value]);
    }
    helm_says(None, &arguments)
}

fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap());
    documents.filter(|object: &Value| !object.is_null()).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn rendered_twice_it_is_the_same_bytes() {
    for values in [&[][..], &[EVERYTHING]] {
        assert_eq!(rendered(values), rendered(values));
    }
}

#[test]
fn helm_finds_no_fault() {
    let chart = chart();
    helm_says(None, &["lint", "--strict", &chart]);
    helm_says(None, &["lint", "--strict", &chart, "--set", EVERYTHING]);
}

#[test]
fn a_mistyped_value_is_refused() {
    let chart = chart();
    for (value, said) in [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("replicas=two", "got string, want integer"),
        ("replicas=0", "minimum"),
        ("images.operator.tags=1", "additional properties 'tags' not allowed"),
        ("images.sidecar.digest=sha256:12", "does not match pattern"),
        ("images.pullPolicy=Sometimes", "value must be one of"),
        ("audit.sink=syslog:localhost", "does not match pattern"),
        ("webhooks.timeoutSeconds=60", "maximum"),
        ("webhooks.failurePolicy=Ignore", "additional properties 'failurePolicy' not allowed"),
        ("monitoring.podMonitor.enable=true", "additional properties 'enable' not allowed"),
        ("broker.verifySourceAddress=yes", "got string, want boolean"),
        ("networkPolicy.enabled=1", "got number, want boolean"),
        ("broker.external.service.type=ExternalName", "value must be one of"),
        ("broker.external.host=https://postern", "does not match pattern"),
        ("issuers[0].url=http://idp", "does not match pattern"),
        ("issuers[0].ca=x", "missing property 'url'"),
    ] {
        let Some(output) = run_helm(None, &["template", "postern", &chart, "--set", value]) else { return };
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{value}: {error}");
    }
}

#[test]
fn its_version_is_that_of_the_programs() {
    let chart: Value =
        serde_yaml::from_str(&fs::read_to_string(workspace().join("charts/postern/Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn it_has_no_definitions_no_secrets_and_no_certificates() {
    let Some(text) = rendered(&[EVERYTHING]) else { return };
    let objects = objects(&text);
    assert!(objects.len() > 20);
    for kind in ["CustomResourceDefinition", "Secret", "DatabaseAccessPolicy", "NonHumanIdentity"] {
        assert!(find(&objects, kind).is_empty(), "{kind}");
    }
    for configuration in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        for webhook in find(&objects, configuration)[0]["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["clientConfig"]["caBundle"], Value::Null);
        }
    }
    assert!(!text.contains("-----BEGIN"));
    assert!(!workspace().join("charts/postern/crds").exists());
}

#[test]
fn images_come_from_a_mirror_and_by_digest() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let values = format!("images.registry=mirror.example:5000/x,images.sidecar.digest={digest},images.operator.tag=v2");
    let Some(text) = rendered(&[&values]) else { return };
    let objects = objects(&text);
    let container = &find(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "mirror.example:5000/x/postern-operator:v2");
    let sidecar = format!("--sidecar-image=mirror.example:5000/x/postern-sidecar@{digest}");
    assert!(container["args"].as_array().unwrap().contains(&Value::String(sidecar)), "{container}");
}

/// Else the uninstalling job would wait for itself to end.
#[test]
fn only_the_operators_pods_are_selected() {
    let Some(text) = rendered(&[EVERYTHING]) else { return };
    let objects = objects(&text);
    let selectors: Vec<&Value> = objects
        .iter()
        .filter_map(|object| match object["kind"].as_str().unwrap() {
            "Deployment" | "PodDisruptionBudget" => Some(&object["spec"]["selector"]["matchLabels"]),
            "NetworkPolicy" => Some(&object["spec"]["podSelector"]["matchLabels"]),
            "Service" => Some(&object["spec"]["selector"]),
            _ => None,
        })
        .collect();
    assert_eq!(selectors.len(), 7);
    let selected = |object: &Value| {
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        selectors
            .iter()
            .map(|it| it.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value))
            .collect::<Vec<_>>()
    };
    assert_eq!(selected(find(&objects, "Deployment")[0]), [true; 7]);
    for job in find(&objects, "Job") {
        assert_eq!(selected(job), [false; 7], "{}", job["metadata"]["name"]);
    }
}

/// The tests' own network enforces no policy, so a port that is forgotten in it is found here.
#[test]
fn the_network_policy_lets_through_what_is_served_and_from_outside_only_to_webhooks() {
    let others = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring";
    for values in [&[][..], &[others]] {
        let Some(text) = rendered(values) else { return };
        let objects = objects(&text);
        let spec = &find(&objects, "NetworkPolicy")[0]["spec"];
        assert_eq!(spec["policyTypes"], serde_json::json!(["Ingress"]), "what goes out is limited");
        let rules = spec["ingress"].as_array().unwrap();
        let of = |port: &Value| rules.iter().filter(|rule| rule["ports"][0]["port"] == *port).collect::<Vec<_>>();
        let container = &find(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        let served = container["ports"].as_array().unwrap();
        assert_eq!(served.len(), 3);
        for port in served {
            let rules = of(&port["name"]);
            assert!(!rules.is_empty(), "{port} is let through by no rule");
            // The API server may come from anywhere; all else are pods.
            let from_anywhere = rules.iter().any(|rule| rule["from"].is_null());
            assert_eq!(from_anywhere, port["name"] == "webhook", "{port}");
        }
        let broker = &of(&"broker".into())[0]["from"];
        assert_eq!(*broker, serde_json::json!([{"namespaceSelector": {}}]), "sidecars are in every namespace");

        // Whoever else may ask for metrics: `helm test` asks whether it is ready.
        let labels = &find(&objects, "Pod")[0]["metadata"]["labels"];
        let lets_test = |rule: &&Value| {
            let selector = rule["from"][0]["podSelector"]["matchLabels"].as_object();
            selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels[key] == *value))
        };
        assert!(of(&"admin".into()).iter().any(lets_test), "helm test does not get through");
        let metrics = &of(&"admin".into())[0]["from"][0]["namespaceSelector"];
        assert_eq!(metrics["matchLabels"]["name"] == "monitoring", !values.is_empty(), "{metrics}");
    }
}

#[test]
fn from_outside_the_broker_is_reached_by_a_service_of_its_own_and_only_where_it_is_switched_on() {
    let outside = "broker.external.host=postern.example.com";
    let limited = "broker.external.from[0].ipBlock.cidr=192.0.2.0/24";
    for (values, from) in [
        (&[][..], None),
        (&[outside], Some(Value::Null)),
        (&[outside, limited], Some(serde_json::json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]))),
    ] {
        let Some(text) = rendered(values) else { return };
        let objects = objects(&text);
        let services = find(&objects, "Service");
        let service = services.iter().find(|it| it["metadata"]["name"] == "postern-broker-external");
        let rules = find(&objects, "NetworkPolicy")[0]["spec"]["ingress"].as_array().unwrap().clone();
        let of_broker: Vec<_> = rules.iter().filter(|rule| rule["ports"][0]["port"] == "broker").collect();
        let container = &find(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        let is_told = container["args"].to_string().contains("--broker-external-url=https://postern.example.com:443\"");
        assert_eq!(
            (service.is_some(), is_told, of_broker.len()),
            (from.is_some(), from.is_some(), 1 + values.len().min(1))
        );
        if let (Some(service), Some(from)) = (service, from) {
            assert_eq!(
                (&service["spec"]["type"], &service["spec"]["ports"][0]["port"]),
                (&"LoadBalancer".into(), &443.into())
            );
            assert_eq!(of_broker[1]["from"], from);
        }
    }
}

#[test]
fn the_operator_reads_the_list_of_issuers_as_the_chart_writes_it() {
    let authority = postern_e2e::kubernetes::Authority::new("an issuer's").unwrap();
    let folder = postern_e2e::temporary_folder("chart").unwrap();
    let values = folder.join("values.yaml");
    let listed =
        serde_json::json!([{"url": "https://idp.example.com", "ca": authority.pem(), "allowPrivateAddresses": true}]);
    fs::write(&values, serde_json::json!({"issuers": listed}).to_string()).unwrap();
    let (chart, values) = (chart(), values.display().to_string());
    let rendered = helm_says(None, &["template", "postern", &chart, "-n", "postern-system", "--values", &values]);
    fs::remove_dir_all(&folder).unwrap();
    let Some(text) = rendered else { return };
    let objects = objects(&text);
    let lists = find(&objects, "ConfigMap");
    let [list] = lists.as_slice() else { panic!("{lists:?}") };
    let list = list["data"]["issuers.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(list).unwrap(), listed);
    postern_operator::broker::Issuers::read(list).unwrap();
    let pod = &find(&objects, "Deployment")[0]["spec"]["template"];
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], "postern-issuers");
    assert!(pod["metadata"]["annotations"]["checksum/issuers"].is_string());
}

#[test]
fn the_operators_program_takes_the_arguments() {
    let Some(text) = rendered(&[EVERYTHING]) else { return };
    let objects = objects(&text);
    let of_template = |kind: &str| &find(&objects, kind)[0]["spec"]["template"]["spec"]["containers"][0];
    let test = &find(&objects, "Pod")[0]["spec"]["containers"][0];
    for container in [of_template("Deployment"), of_template("Job"), test] {
        let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        let variables = container["env"].as_array().into_iter().flatten();
        // As the variables would be.
        let variables = variables.map(|variable| match variable["name"].as_str().unwrap() {
            "POSTERN_NAMESPACE" => "--namespace=x",
            "POSTERN_POD_NAME" => "--pod-name=x",
            other => panic!("{other}"),
        });
        let command = ["postern-operator"].into_iter().chain(arguments).chain(variables);
        postern_operator::config::Cli::try_parse_from(command).unwrap();
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_are_there() {
    let Some(text) = rendered(&[EVERYTHING]) else { return };
    let objects = objects(&text);
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        assert_eq!(find(&objects, kind).len(), 1, "{kind}");
    }
    let dashboard = find(&objects, "ConfigMap").iter().find_map(|it| it["data"]["postern.json"].as_str()).unwrap();
    let panels = serde_json::from_str::<Value>(dashboard).unwrap()["panels"].to_string();
    let source = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
    let known = source("sidecar/src/metrics.rs") + &source("operator/src/metrics.rs");
    let asked: BTreeSet<String> = [panels, find(&objects, "PrometheusRule")[0]["spec"].to_string()]
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("postern_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect();
    assert!(asked.len() > 15, "{asked:?}");
    for metric in asked {
        assert!(known.contains(&format!("\"{metric}\"")), "{metric}");
    }
}
