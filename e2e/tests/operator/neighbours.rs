//! Clusters in which others change pods, too: service meshes, mirrors, autoscalers, platforms with rules of their own. In
//! place of each there is a webhook that does to pods what it does, before or after Postern's own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_e2e::kubernetes::{ApiServer, NEWEST, OLDEST, Version};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::broker::{Sidecar, secrets, set_address};
use crate::{Shop, asks, pod};

/// When it comes: webhooks are asked in the order of their configurations' names.
#[derive(Clone, Copy)]
enum Order {
    Before,
    After,
}

/// Another one who changes pods, until the test ends.
struct Neighbour<'a> {
    shop: &'a Shop<'a>,
    name: String,
}

impl<'a> Neighbour<'a> {
    fn new(shop: &'a Shop<'a>, server: &ApiServer, order: Order, change: fn(&mut Value)) -> Self {
        let pair = server.authority().server(&["127.0.0.1"]).unwrap();
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                // One that ends early, as a probe of the API server's may, is nobody's failure.
                std::thread::spawn(move || answer(config, stream, change));
            }
        });
        let first = match order {
            Order::Before => "a",
            Order::After => "z",
        };
        let name = format!("{first}-{}", shop.namespace);
        let webhook = json!({
            "name": "neighbour.example.com",
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}/"),
                "caBundle": STANDARD.encode(server.authority().pem()),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}},
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        shop.apply(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name}, "webhooks": [webhook],
        }));
        Self { shop, name }
    }
}

impl Drop for Neighbour<'_> {
    fn drop(&mut self) {
        _ = self.shop.admin.kubectl(&["delete", "mutatingwebhookconfiguration", &self.name]);
    }
}

/// Answers one review with the pod as the neighbour wants it.
fn answer(config: Arc<rustls::ServerConfig>, stream: std::net::TcpStream, change: fn(&mut Value)) -> Option<()> {
    let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config).ok()?, stream);
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    let body = loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&piece[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
        if request.len() >= end + 4 + length {
            break request[end + 4..].to_vec();
        }
    };
    let review: Value = serde_json::from_slice(&body).ok()?;
    let before = &review["request"]["object"]["spec"];
    let mut after = before.clone();
    change(&mut after);
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    if after != *before {
        let patch = json!([{"op": "replace", "path": "/spec", "value": after}]).to_string();
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(patch));
    }
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string();
    let length = review.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{review}").ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

fn list<'a>(spec: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    if spec[key].is_null() {
        spec[key] = json!([]);
    }
    spec[key].as_array_mut().unwrap()
}

fn has(list: &[Value], name: &str) -> bool {
    list.iter().any(|it| it["name"] == name)
}

/// A mesh whose proxy is a native sidecar, as Istio's and Linkerd's are since Kubernetes has them.
fn native_mesh(spec: &mut Value) {
    let inits = list(spec, "initContainers");
    if !has(inits, "istio-proxy") {
        let setup = json!({"name": "istio-init", "image": "mesh.example/init:1"});
        let proxy = json!({"name": "istio-proxy", "image": "mesh.example/proxy:1", "restartPolicy": "Always"});
        inits.splice(0..0, [setup, proxy]);
    }
}

/// One that puts them at the end.
fn native_mesh_at_the_end(spec: &mut Value) {
    let inits = list(spec, "initContainers");
    if !has(inits, "linkerd-proxy") {
        inits.push(json!({"name": "linkerd-init", "image": "mesh.example/init:1"}));
        inits.push(json!({"name": "linkerd-proxy", "image": "mesh.example/proxy:1", "restartPolicy": "Always"}));
    }
}

/// A mesh whose proxy is an ordinary container, and whose set-up an init container.
fn classic_mesh(spec: &mut Value) {
    let inits = list(spec, "initContainers");
    if !has(inits, "linkerd-init") {
        inits.push(json!({"name": "linkerd-init", "image": "mesh.example/init:1"}));
        list(spec, "containers").push(json!({"name": "linkerd-proxy", "image": "mesh.example/proxy:1"}));
    }
}

fn each_container(spec: &mut Value, change: impl Fn(&mut Value)) {
    for kind in ["initContainers", "containers"] {
        list(spec, kind).iter_mut().for_each(&change);
    }
}

/// All images come from one registry.
fn mirror(spec: &mut Value) {
    each_container(spec, |container| {
        let image = container["image"].as_str().unwrap().to_owned();
        if let Some((_, rest)) = image.split_once('/').filter(|_| !image.starts_with("mirror.example/")) {
            container["image"] = json!(format!("mirror.example/{rest}"));
        }
    });
}

/// What a vertical autoscaler recommends, for every container.
fn autoscaler(spec: &mut Value) {
    each_container(spec, |container| container["resources"] = json!({"requests": {"cpu": "30m", "memory": "100Mi"}}));
}

/// A platform that gives each namespace users of its own, as OpenShift does.
fn fixed_users(spec: &mut Value) {
    spec["securityContext"]["fsGroup"] = json!(1_000_650_000);
    spec["securityContext"]["seLinuxOptions"] = json!({"level": "s0:c25,c20"});
    each_container(spec, |container| container["securityContext"]["runAsUser"] = json!(1_000_650_000));
}

/// Gives each container a variable, as agents of monitoring do.
fn meddler(spec: &mut Value) {
    each_container(spec, |container| {
        if !has(list(container, "env"), "LD_PRELOAD") {
            list(container, "env").push(json!({"name": "LD_PRELOAD", "value": "/x.so"}));
        }
    });
}

/// A pod of this namespace has a lease, and what its init containers are.
fn served(shop: &Shop, name: &str) -> Vec<String> {
    shop.apply(&pod(name, &asks("shop")));
    set_address(shop, name, "127.0.0.1");
    let sidecar = Sidecar::new(shop, name).granted();
    sidecar.next(None);
    let pod = shop.get(&["pod", name]);
    let inits = pod["spec"]["initContainers"].as_array().unwrap();
    inits.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

fn on(version: Version, test: impl FnOnce(&Shop, &ApiServer)) {
    let Some(shop) = crate::shop(version) else { return };
    secrets(&shop);
    test(&shop, ApiServer::shared(version).unwrap().unwrap());
}

#[test]
fn the_sidecar_starts_behind_a_native_mesh_whoever_comes_first() {
    for version in [OLDEST, NEWEST] {
        on(version, |shop, server| {
            for (name, order) in [("before", Order::Before), ("after", Order::After)] {
                let _mesh = Neighbour::new(shop, server, order, native_mesh);
                assert_eq!(served(shop, name), ["istio-init", "istio-proxy", "postern"], "{name}");
            }
            // One that comes last and puts itself last is moved ahead when Postern is asked again.
            let _mesh = Neighbour::new(shop, server, Order::After, native_mesh_at_the_end);
            assert_eq!(served(shop, "end"), ["linkerd-init", "linkerd-proxy", "postern"]);
        });
    }
}

#[test]
fn a_classic_mesh_is_refused_with_the_remedy_whoever_comes_first() {
    on(NEWEST, |shop, server| {
        for (name, order) in [("before", Order::Before), ("after", Order::After)] {
            let _mesh = Neighbour::new(shop, server, order, classic_mesh);
            let said = shop.refused(&pod(name, &asks("shop")));
            assert!(said.contains("linkerd-proxy") && said.contains("proxy-enable-native-sidecar"), "{said}");
            // Pods that ask for nothing are the mesh's own business.
            shop.apply(&pod(&format!("{name}-plain"), &json!({})));
        }
    });
}

/// What a neighbour does to a pod.
type Change = fn(&mut Value);

#[test]
fn mirrors_autoscalers_and_platforms_with_users_of_their_own_leave_a_sidecar_genuine() {
    on(OLDEST, |shop, server| {
        let changes: [(&str, Change); 3] = [("mirror", mirror), ("autoscaler", autoscaler), ("users", fixed_users)];
        for (name, change) in changes {
            for (place, order) in [("before", Order::Before), ("after", Order::After)] {
                let _neighbour = Neighbour::new(shop, server, order, change);
                assert_eq!(served(shop, &format!("{name}-{place}")), ["postern"]);
            }
        }
        let sidecar = |pod: &str| shop.get(&["pod", pod])["spec"]["initContainers"][0].clone();
        assert!(sidecar("mirror-after")["image"].as_str().unwrap().starts_with("mirror.example/"));
        assert_eq!(sidecar("autoscaler-after")["resources"]["requests"]["cpu"], "30m");
        assert_eq!(sidecar("users-after")["securityContext"]["runAsUser"], 1_000_650_000);
    });
}

#[test]
fn who_puts_something_into_the_sidecar_itself_is_refused_and_it_is_said_what() {
    on(NEWEST, |shop, server| {
        let _neighbour = Neighbour::new(shop, server, Order::After, meddler);
        let said = shop.refused(&pod("app", &asks("shop")));
        assert!(said.contains("postern") && said.contains("env"), "{said}");
    });
}

#[test]
fn limits_of_a_namespace_and_pod_security_restricted_take_the_sidecar() {
    on(NEWEST, |shop, _| {
        shop.apply(&json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"},
            "spec": {"limits": [{
                "type": "Container",
                "default": {"cpu": "500m", "memory": "256Mi"},
                "defaultRequest": {"cpu": "100m", "memory": "64Mi"},
                "min": {"cpu": "10m", "memory": "16Mi"}, "max": {"cpu": "2", "memory": "1Gi"},
            }]},
        }));
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        shop.admin.kubectl(&["label", "namespace", &shop.namespace, restricted]).unwrap();
        let mut app = pod("app", &asks("shop"));
        assert!(shop.refused(&app).contains("container \"app\" must set"), "the namespace is restricted");
        app["spec"]["containers"][0]["securityContext"] = json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        shop.apply(&app);
        set_address(shop, "app", "127.0.0.1");
        Sidecar::new(shop, "app").granted().next(None);

        // One that is too narrow for it is told as what it is, and the policy can say what the sidecar has.
        let narrow = json!({"spec": {"limits": [{"type": "Container", "max": {"memory": "200Mi"}}]}}).to_string();
        shop.kubectl(&["patch", "limitrange", "limits", "--type=merge", "-p", &narrow]);
        let mut second = app.clone();
        second["metadata"]["name"] = json!("second");
        let said = shop.refused(&second);
        assert!(said.contains("maximum memory usage per Container is 200Mi"), "{said}");
        let mut small = crate::policy("shop");
        small["spec"]["sidecar"]["resources"] = json!({"limits": {"memory": "128Mi"}});
        shop.apply(&small);
        let applied = || shop.admin.with_input(&["apply", "-n", &shop.namespace, "-f", "-"], &second.to_string()).ok();
        crate::eventually(applied).expect("the policy's own limits are kept");
    });
}
