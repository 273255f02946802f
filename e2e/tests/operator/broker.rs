//! The broker, asked as sidecars ask it: by the tokens of real pods that the webhooks made, and by what looks like them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postern_crds::lease::{AUDIT_PATH, GRANT_TYPE, JWT_TYPE, LEASE_PATH, TOKEN_PATH};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Shop, asks, eventually, identity, on_both, pod, policy};

on_both! {
    a_pod_has_a_lease_and_hears_of_each_change => lease_and_changes;
    what_sidecars_report_is_summed_up_in_conditions => reports;
    an_exchange_is_refused_unless_all_of_it_is_proven => refusals;
    a_pod_that_is_not_what_the_webhook_made_has_no_lease => other_pods;
    an_access_token_is_good_for_its_own_key_and_each_proof_once => proofs;
    a_pod_that_ends_keeps_its_lease_and_one_that_is_gone_has_none => ending_pods;
    audit_is_acknowledged_once_it_is_kept_and_says_who_it_is_from => audit;
}

/// Longer than the broker holds a poll.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a sidecar is to the broker: a key, a token, and where it asks.
pub(crate) struct Sidecar {
    pub(crate) port: u16,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    key: EncodingKey,
    jwk: Jwk,
    policy: String,
    pub(crate) token: String,
    access: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or_default())
    }

    pub(crate) fn why(&self) -> &str {
        self.body["error_description"].as_str().unwrap_or_default()
    }
}

impl Sidecar {
    /// One in a pod, that has exchanged nothing yet.
    pub(crate) fn new(shop: &Shop, name: &str) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let pod = shop.get(&["pod", name]);
        let containers = pod["spec"]["initContainers"].as_array().unwrap();
        let container = containers.iter().find(|it| it["name"] == "postern").unwrap();
        let bundle = container["env"][0]["value"].as_str().unwrap();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let (key, jwk) = key();
        Self {
            port: shop.operator.broker(),
            tls: Arc::new(config.with_root_certificates(roots).with_no_client_auth()),
            key,
            jwk,
            policy: format!("postern:{}/shop", shop.namespace),
            token: pod_token(shop, name, &[]),
            access: String::new(),
        }
    }

    fn proof(&self, path: &str, token: Option<&str>) -> String {
        let ath = token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token)));
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        self.signed(&json!({"jti": now.to_string(), "htm": "POST", "htu": url, "iat": now / 1_000_000_000, "ath": ath}))
    }

    fn signed(&self, claims: &Value) -> String {
        let header =
            Header { typ: Some("dpop+jwt".into()), jwk: Some(self.jwk.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, tcp);
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        write!(
            stream,
            "POST {target} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer { status, body: serde_json::from_str(body).unwrap_or_default() }
    }

    fn exchange_with(&self, proofs: &[&str]) -> Answer {
        let form = form(&[
            ("grant_type", GRANT_TYPE),
            ("subject_token_type", JWT_TYPE),
            ("subject_token", &self.token),
            ("resource", &self.policy),
        ]);
        let mut headers = vec![("Content-Type", "application/x-www-form-urlencoded")];
        headers.extend(proofs.iter().map(|proof| ("DPoP", *proof)));
        self.post(TOKEN_PATH, &headers, &form)
    }

    pub(crate) fn exchange(&self) -> Answer {
        self.exchange_with(&[&self.proof(TOKEN_PATH, None)])
    }

    /// Exchanges, which has to be granted.
    pub(crate) fn granted(mut self) -> Self {
        let mut last = String::new();
        // The broker may not know yet what was applied just now.
        let answer = eventually(|| {
            let answer = self.exchange();
            last = answer.body.to_string();
            (answer.status == 200).then_some(answer)
        });
        let answer = answer.unwrap_or_else(|| panic!("no exchange: {last}"));
        assert_eq!(answer.body["token_type"], "DPoP");
        answer.body["access_token"].as_str().unwrap().clone_into(&mut self.access);
        self
    }

    pub(crate) fn with_token(&self, target: &str, body: &str) -> Answer {
        let path = target.split('?').next().unwrap();
        let authorization = format!("DPoP {}", self.access);
        let proof = self.proof(path, Some(&self.access));
        self.post(target, &[("Authorization", &authorization), ("DPoP", &proof)], body)
    }

    fn poll(&self, version: Option<&str>, wait: u64) -> Answer {
        self.reporting(version, wait, &json!({}))
    }

    /// Polls, and says how it fares.
    fn reporting(&self, version: Option<&str>, wait: u64, report: &Value) -> Answer {
        self.with_token(LEASE_PATH, &json!({"version": version, "wait": wait, "report": report}).to_string())
    }

    /// The first lease that is another one than this.
    pub(crate) fn next(&self, version: Option<&str>) -> Value {
        let mut last = String::new();
        let lease = eventually(|| {
            let answer = self.poll(version, 8);
            last = answer.body.to_string();
            (answer.status == 200).then_some(answer.body)
        });
        lease.unwrap_or_else(|| panic!("no lease: {last}"))
    }

    /// The error that polls come to before long, while nothing else changes.
    pub(crate) fn refusal(&self, version: &str) -> Answer {
        let answer = eventually(|| Some(self.poll(Some(version), 8)).filter(|answer| answer.status >= 400));
        answer.expect("it is never refused")
    }
}

fn key() -> (EncodingKey, Jwk) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    (key, jwk)
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        let escape = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(escape).collect()
    };
    fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
}

/// A token that is bound to a pod, as the kubelet gets it.
pub(crate) fn pod_token(shop: &Shop, pod: &str, more: &[&str]) -> String {
    let uid = shop.get(&["pod", pod])["metadata"]["uid"].as_str().unwrap().to_owned();
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", pod, "--bound-object-uid", &uid];
    let usual: &[&str] = if more.is_empty() { &["--audience=postern.dev", "--duration=1h"] } else { more };
    token(shop, &[&bound[..], usual].concat())
}

/// A token of the pods' service account. Only nodes are given one for our audience.
fn token(shop: &Shop, arguments: &[&str]) -> String {
    let as_a_node = ["--as=kubelet", "--as-group=system:nodes", "--as-group=system:masters"];
    let create = ["create", "token", "default"];
    shop.kubectl(&[&as_a_node[..], &create, arguments].concat()).trim().to_owned()
}

/// A pod that runs at this machine's own address.
pub(crate) fn running_pod(shop: &Shop, name: &str) {
    shop.apply(&pod(name, &asks("shop")));
    set_address(shop, name, "127.0.0.1");
}

pub(crate) fn set_address(shop: &Shop, name: &str, address: &str) {
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}}).to_string();
    shop.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &status]);
}

/// The Secrets that the policy names.
pub(crate) fn secrets(shop: &Shop) {
    secret(shop, "shop-postern", &[("username", "gate"), ("password", "hush"), ("other", "not for sidecars")]);
    secret(shop, "shop-pg-ca", &[("ca.crt", "certificate")]);
    let_read(shop);
}

/// The Role that lets the operator read them.
pub(crate) fn let_read(shop: &Shop) {
    let names = ["--resource-name=shop-postern", "--resource-name=shop-pg-ca"];
    let role = ["create", "role", "postern", "--verb=get,watch", "--resource=secrets"];
    shop.kubectl(&[&role[..], &names].concat());
    let account = format!("--serviceaccount={}:postern", postern_e2e::kubernetes::operator::NAMESPACE);
    shop.kubectl(&["create", "rolebinding", "postern", "--role=postern", &account]);
}

pub(crate) fn secret(shop: &Shop, name: &str, values: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> =
        values.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect();
    shop.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}));
}

/// The values in a lease, as `secret/key=value`.
fn values(lease: &Value) -> Vec<String> {
    let entries = lease["secrets"].as_array().unwrap().iter().map(|entry| {
        let value = STANDARD.decode(entry["value"].as_str().unwrap()).unwrap();
        let (secret, key) = (entry["secret"].as_str().unwrap(), entry["key"].as_str().unwrap());
        format!("{secret}/{key}={}", String::from_utf8(value).unwrap())
    });
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    entries
}

pub(crate) fn version(lease: &Value) -> &str {
    lease["version"].as_str().unwrap()
}

fn lease_and_changes(shop: &Shop) {
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    // No Role, no credential; and that is no refusal.
    let answer = sidecar.poll(None, 0);
    assert_eq!(answer.error(), (503, "temporarily_unavailable"));
    assert!(answer.why().contains("may not read"), "{}", answer.why());
    secrets(shop);
    let lease = sidecar.next(None);
    assert_eq!(
        values(&lease),
        ["shop-pg-ca/ca.crt=certificate", "shop-postern/password=hush", "shop-postern/username=gate"]
    );
    assert_eq!(
        (&lease["policy"]["metadata"]["name"], &lease["identity"]["metadata"]["name"]),
        (&json!("shop"), &json!("report"))
    );
    assert_eq!((&lease["subject"]["pod"], &lease["subject"]["namespace"]), (&json!("app"), &json!(shop.namespace)));
    let left = lease["expires_in"].as_u64().unwrap();
    assert!((3000..=3600).contains(&left), "{left}");
    assert!(lease["broker_ca"].as_str().unwrap().contains("BEGIN CERTIFICATE"));

    // The same content has the same version, by another exchange too, and is waited for.
    let other = Sidecar::new(shop, "app").granted();
    assert_eq!(version(&other.next(None)), version(&lease));
    assert_eq!(sidecar.poll(Some(version(&lease)), 1).status, 204);

    // Changes are heard while a poll waits.
    let mut changed = policy("shop");
    changed["spec"]["rules"][0]["allow"] = json!(["Select", "Insert"]);
    let lease = heard(&sidecar, version(&lease), "a policy's change", || shop.apply(&changed));
    assert_eq!(lease["policy"]["spec"]["rules"][0]["allow"], json!(["Select", "Insert"]));
    let rotated = [("username", "gate"), ("password", "rotated")];
    let lease = heard(&sidecar, version(&lease), "a rotated Secret", || secret(shop, "shop-postern", &rotated));
    assert!(values(&lease).contains(&"shop-postern/password=rotated".to_owned()));

    // A second identity of the same account is nobody's right; they are both named.
    shop.apply(&identity("twin", "default"));
    let answer = sidecar.refusal(version(&lease));
    assert_eq!(answer.error(), (403, "unauthorized_client"));
    assert!(answer.why().contains("report, twin"), "{}", answer.why());
    shop.kubectl(&["delete", "nonhumanidentity", "twin"]);
    let lease = sidecar.next(None);
    shop.kubectl(&["delete", "nonhumanidentity", "report"]);
    assert_eq!(sidecar.refusal(version(&lease)).error(), (403, "unauthorized_client"));
    shop.apply(&identity("report", "default"));
    let lease = sidecar.next(None);
    shop.kubectl(&["delete", "databaseaccesspolicy", "shop"]);
    assert_eq!(sidecar.refusal(version(&lease)).error(), (403, "invalid_target"));
}

fn reports(shop: &Shop) {
    running_pod(shop, "app");
    secrets(shop);
    let sidecar = Sidecar::new(shop, "app").granted();
    let lease = sidecar.next(None);
    let unbound = json!([{"path": "spec.masks[0].columns[0]", "message": "there is no such column"}]);
    assert_eq!(sidecar.reporting(Some(version(&lease)), 0, &json!({"unbound": unbound})).status, 204);
    let condition = shop.condition("dap/shop", "Bound", "False");
    assert!(condition["message"].as_str().unwrap().contains("spec.masks[0].columns[0]: there is no such column"));
    assert_eq!(sidecar.reporting(Some(version(&lease)), 0, &json!({"unbound": []})).status, 204);
    shop.condition("dap/shop", "Bound", "True");
    shop.condition("dap/shop", "Reconciling", "False");
    assert_eq!(shop.get(&["dap/shop"])["status"]["reports"]["postern-0"]["generation"], 1);

    // A change is on its way until the sidecar has it.
    let mut changed = policy("shop");
    changed["spec"]["rules"][0]["allow"] = json!(["Select", "Insert"]);
    shop.apply(&changed);
    let condition = shop.condition("dap/shop", "Reconciling", "True");
    assert_eq!(condition["reason"], "SidecarsBehind");
    let lease = sidecar.next(Some(version(&lease)));
    let stuck = json!({"unusable": "it requires time-travel/v2"});
    assert_eq!(sidecar.reporting(Some(version(&lease)), 0, &stuck).status, 204);
    let condition = shop.condition("dap/shop", "Stalled", "True");
    assert_eq!(condition["reason"], "LeaseUnusable");
    assert!(condition["message"].as_str().unwrap().contains("time-travel/v2"), "{condition}");
    shop.condition("nhi/report", "Stalled", "True");
    assert_eq!(sidecar.poll(Some(version(&lease)), 0).status, 204);
    for object in ["dap/shop", "nhi/report"] {
        shop.condition(object, "Stalled", "False");
        shop.condition(object, "Reconciling", "False");
    }

    // A replica that is gone says nothing any more.
    let ghost = json!({"status": {"reports": {"ghost": {"generation": 1, "unbound": unbound}}}}).to_string();
    shop.kubectl(&["patch", "dap", "shop", "--subresource=status", "--type=merge", "-p", &ghost]);
    let gone = || shop.get(&["dap/shop"])["status"]["reports"]["ghost"].is_null().then_some(());
    eventually(gone).unwrap_or_else(|| panic!("{}", shop.get(&["dap/shop"])["status"]));
    shop.condition("dap/shop", "Reconciling", "False");
}

/// The lease that a poll comes to which waits while something changes.
fn heard(sidecar: &Sidecar, version: &str, what: &str, change: impl FnOnce()) -> Value {
    std::thread::scope(|scope| {
        let polled = scope.spawn(|| (sidecar.next(Some(version)), Instant::now()));
        let start = Instant::now();
        change();
        let (lease, at) = polled.join().unwrap();
        println!("{what} is heard {} ms after kubectl was started", at.saturating_duration_since(start).as_millis());
        lease
    })
}

fn refusals(shop: &Shop) {
    running_pod(shop, "app");
    let good = Sidecar::new(shop, "app").granted();
    let refused = |change: &dyn Fn(&mut Sidecar)| {
        let mut sidecar = Sidecar { access: String::new(), ..Sidecar::new(shop, "app") };
        change(&mut sidecar);
        let answer = sidecar.exchange();
        (answer.status, answer.error().1.to_owned(), answer.why().to_owned())
    };
    type Case<'a> = (&'static str, &'static str, &'a dyn Fn(&mut Sidecar));
    let cases: [Case<'_>; 8] = [
        ("invalid_grant", "audience", &|it| it.token = pod_token(shop, "app", &["--audience=another"])),
        ("invalid_grant", "longer", &|it| {
            it.token = pod_token(shop, "app", &["--audience=postern.dev", "--duration=2h"])
        }),
        ("invalid_grant", "pod", &|it| {
            it.token = token(shop, &["--audience=postern.dev"]);
        }),
        ("invalid_grant", "signature", &|it| it.token = forged(&it.token)),
        ("invalid_grant", "", &|it| it.token = "a.b.c".into()),
        ("invalid_target", "namespace", &|it| it.policy = "postern:elsewhere/shop".into()),
        ("invalid_target", "another policy", &|it| it.policy = format!("postern:{}/other", shop.namespace)),
        ("invalid_request", "", &|it| it.policy = "shop".into()),
    ];
    for (error, word, change) in cases {
        let (status, found, why) = refused(change);
        assert_eq!((status, found.as_str()), (400, error), "{why}");
        assert!(why.contains(word), "{error}: {why}");
    }
    // From where it asks.
    set_address(shop, "app", "10.9.8.7");
    let answer = eventually(|| Some(good.exchange()).filter(|answer| answer.status != 200)).unwrap();
    assert_eq!(answer.error(), (400, "invalid_grant"));
    assert!(answer.why().contains("address"), "{}", answer.why());
    shop.apply(&pod("starting", &asks("shop")));
    let answer = Sidecar::new(shop, "starting").exchange();
    assert_eq!(answer.error(), (503, "temporarily_unavailable"), "an address that is not known yet is no refusal");
    // Another grant.
    let form = form(&[("grant_type", "client_credentials")]);
    let answer = good.post(TOKEN_PATH, &[("Content-Type", "application/x-www-form-urlencoded")], &form);
    assert_eq!(answer.error(), (400, "unsupported_grant_type"));
}

/// A token whose claims say another pod, with the signature that it had.
pub(crate) fn forged(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap().replace("\"app\"", "\"apq\"");
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims), parts[2])
}

fn other_pods(shop: &Shop) {
    running_pod(shop, "app");
    let mut sidecar = Sidecar::new(shop, "app").granted();
    // Without an annotation no webhook sees it, and it is not stopped from running.
    shop.apply(&pod("plain", &json!({})));
    set_address(shop, "plain", "127.0.0.1");
    sidecar.token = pod_token(shop, "plain", &[]);
    let answer = sidecar.exchange();
    assert_eq!(answer.error(), (400, "invalid_grant"));
    assert!(answer.why().contains("asks for no policy"), "{}", answer.why());
}

fn proofs(shop: &Shop) {
    secrets(shop);
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    let other = Sidecar::new(shop, "app");
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", sidecar.port);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = |jti: &str| json!({"jti": jti, "htm": "POST", "htu": url(TOKEN_PATH), "iat": now});
    let mut elsewhere = claims("elsewhere");
    elsewhere["htu"] = json!(format!("https://evil{TOKEN_PATH}"));
    let mut old = claims("old");
    old["iat"] = json!(now - 3600);
    let good = sidecar.signed(&claims("once"));
    assert_eq!(sidecar.exchange_with(&[&good]).status, 200);
    let signed = |jti: &str| sidecar.signed(&claims(jti));
    for proofs in [
        vec![],
        vec![good],
        vec![sidecar.signed(&elsewhere)],
        vec![sidecar.signed(&old)],
        vec![signed("two"), signed("three")],
    ] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        let answer = sidecar.exchange_with(&proofs);
        assert_eq!(answer.error(), (400, "invalid_dpop_proof"), "{}", answer.why());
    }

    let authorization = format!("DPoP {}", sidecar.access);
    let polled = |authorization: &str, proof: &str| {
        sidecar.post(LEASE_PATH, &[("Authorization", authorization), ("DPoP", proof)], "{}")
    };
    let stolen = polled(&authorization, &other.proof(LEASE_PATH, Some(&sidecar.access)));
    assert_eq!(stolen.error(), (401, "invalid_dpop_proof"));
    assert!(stolen.why().contains("another key"), "{}", stolen.why());
    let without = polled(&authorization, &sidecar.proof(LEASE_PATH, None));
    assert_eq!(without.error(), (401, "invalid_dpop_proof"), "a proof has to name the token");
    let of_another_path = polled(&authorization, &sidecar.proof(AUDIT_PATH, Some(&sidecar.access)));
    assert_eq!(of_another_path.error(), (401, "invalid_dpop_proof"));
    let bearer = polled(&format!("Bearer {}", sidecar.access), &sidecar.proof(LEASE_PATH, Some(&sidecar.access)));
    assert_eq!(bearer.error(), (401, "invalid_token"));
    let of_the_cluster = polled(&format!("DPoP {}", sidecar.token), &sidecar.proof(LEASE_PATH, Some(&sidecar.token)));
    assert_eq!(of_the_cluster.error(), (401, "invalid_token"));
    assert_eq!(sidecar.poll(None, 0).status, 200);
}

fn finalizers(list: Value) -> String {
    json!({"metadata": {"finalizers": list}}).to_string()
}

/// The sidecar of a pod that is being deleted, and its lease's version; None where Kubernetes' collector of pods that no node
/// has, which comes every 20 seconds, let it end meanwhile.
fn ending_pod(shop: &Shop) -> Option<(Sidecar, String)> {
    running_pod(shop, "app");
    // In place of a kubelet that waits for its containers.
    shop.kubectl(&["patch", "pod", "app", "--type=merge", "-p", &finalizers(json!(["postern.dev/test"]))]);
    let sidecar = Sidecar::new(shop, "app").granted();
    let lease = sidecar.next(None);
    shop.kubectl(&["delete", "pod", "app", "--wait=false"]);
    // At once: the API server finds the token of a pod good for a minute after it was to be gone.
    let again = sidecar.exchange();
    let unchanged = sidecar.poll(Some(version(&lease)), 1);
    let pod = shop.get(&["pod", "app"]);
    if pod["status"]["phase"] == "Failed" {
        shop.kubectl(&["patch", "pod", "app", "--type=merge", "-p", &finalizers(Value::Null)]);
        return None;
    }
    assert_eq!(again.status, 200, "{}", again.why());
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(unchanged.status, 204, "{}", unchanged.why());
    Some((sidecar, version(&lease).to_owned()))
}

fn ending_pods(shop: &Shop) {
    secrets(shop);
    let (sidecar, version) = (0..3).find_map(|_| ending_pod(shop)).expect("the collector came between each time");
    shop.kubectl(&["patch", "pod", "app", "--type=merge", "-p", &finalizers(Value::Null)]);
    let answer = sidecar.refusal(&version);
    assert_eq!(answer.error(), (403, "invalid_grant"));
    // Its name alone is worth nothing.
    running_pod(shop, "app");
    let answer = sidecar.exchange();
    assert_eq!(answer.error(), (400, "invalid_grant"), "{}", answer.why());
}

fn audit(shop: &Shop) {
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    let stream = format!("s{}", shop.namespace.replace('-', ""));
    let sent = |first: u64, acknowledged: u64, lines: &str| {
        sidecar.with_token(&format!("{AUDIT_PATH}?stream={stream}&first={first}&acknowledged={acknowledged}"), lines)
    };
    let kept = || -> Vec<Value> {
        let log = shop.operator.log();
        let lines = log.lines().filter(|line| line.starts_with('{') && line.contains(&stream));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let answer = sent(1, 0, "{\"event\":\"one\",\"proven\":{\"pod\":\"another\"}}\n{\"event\":\"two\"}\n");
    assert_eq!((answer.status, &answer.body["acknowledged"]), (200, &json!(2)), "{}", answer.body);
    // What is acknowledged is there.
    let lines = kept();
    assert_eq!(lines.len(), 2);
    for (line, number) in lines.iter().zip([1, 2]) {
        let proven = &line["proven"];
        assert_eq!((&proven["pod"], &proven["namespace"]), (&json!("app"), &json!(shop.namespace)));
        assert_eq!(
            (&proven["identity"], &proven["policy"], &proven["number"]),
            (&json!("report"), &json!("shop"), &json!(number))
        );
    }
    // Once more, as after an answer that was lost; and with a gap.
    assert_eq!(sent(1, 0, "{\"event\":\"one\"}\n{\"event\":\"two\"}\n{\"event\":\"three\"}\n").body["acknowledged"], 3);
    assert_eq!(sent(6, 3, "{\"event\":\"six\"}\n").body["acknowledged"], 6);
    let events: Vec<Value> = kept().into_iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["one", "two", "three", "gap", "six"]);
    assert_eq!(kept()[3]["missing"], json!({"first": 4, "last": 5}));
    let (_, metrics) = shop.operator.admin("/metrics").unwrap();
    let missing = metrics.lines().find_map(|line| line.strip_prefix("postern_operator_audit_missing_total "));
    assert!(missing.unwrap().parse::<u64>().unwrap() >= 2);
    // Not without a token.
    let answer = sidecar.post(&format!("{AUDIT_PATH}?stream={stream}&first=7"), &[], "{\"event\":\"seven\"}\n");
    assert_eq!(answer.error(), (401, "invalid_token"));
    assert_eq!(sent(1, 5, "{}\n").error(), (400, "invalid_request"));
    // And no token is in the log.
    let log = shop.operator.log();
    assert!(!log.contains(&sidecar.token) && !log.contains(&sidecar.access));
}
