//! Identities from outside of the cluster: by tokens of a real OpenID provider, at a real broker, to a query on a real
//! database.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postern_e2e::issuer::{Client, Issuer, Issuers, Key};
use postern_e2e::kubernetes::operator::{NAMESPACE, Operator, Options};
use serde_json::{Value, json};

use crate::roles::{ask, roles, shop_with_roles, thief};
use crate::shop::{PATIENCE, Shop, Sidecar, end_of, sqlstate, wait_until};

/// A shop with an operator that takes tokens of an issuer, and is reached by another name than in the cluster.
struct Outside {
    shop: Shop,
    issuers: Issuers,
    issuer: Option<Issuer>,
    url: String,
    port: u16,
    key: Key,
    broker: String,
    ca: PathBuf,
}

fn spec() -> Value {
    json!({
        "masks": [{"columns": ["app.customers.email"], "mask": {"email": {}}}],
        "rules": [{
            "name": "reads", "to": {"groups": ["reporting"]}, "allow": ["Select"], "relations": ["app.customers"],
            "hideColumns": ["app.customers.ssn"],
        }],
    })
}

/// What a token for the namespace says, of a repository.
fn client(namespace: &str, repository: &str) -> Client {
    let claims = json!({"repository_id": repository, "ref": "refs/heads/main", "groups": ["reporting", "everybody"]});
    Client { audience: format!("postern/{namespace}"), claims, life: 600 }
}

fn clients(namespace: &str) -> BTreeMap<&'static str, Client> {
    BTreeMap::from([("ci", client(namespace, "4711")), ("other", client(namespace, "4712"))])
}

fn outside() -> Option<Outside> {
    let issuers = Issuers::prepare().unwrap()?;
    let mut shop = shop_with_roles("1h", json!({}), &spec())?;
    let key = Key::new("first").unwrap();
    let namespace = shop.namespace.name().to_owned();
    let issuer_port = postern_e2e::free_port().unwrap();
    let issuer = issuers.start(&shop.folder, issuer_port, &[&key], &clients(&namespace)).unwrap();
    let url = issuer.url.clone();
    let list = shop.folder.join("issuers.json");
    let listed = json!([{"url": url, "ca": issuers.authority().pem(), "allowPrivateAddresses": true}]);
    fs::write(&list, listed.to_string()).unwrap();
    let port = postern_e2e::free_port().unwrap();
    let broker = format!("https://localhost:{port}");
    let more = [format!("--issuers={}", list.display()), format!("--broker-external-url={broker}")];
    let options = Options { broker: Some(port), more: &more, ..Options::default() };
    shop.operator = None;
    shop.operator = Some(Operator::start_with(shop.server, "postern-0", &options).unwrap());
    let secret = shop.server.admin().json(&["get", "secret", "postern-broker-ca", "-n", NAMESPACE]).unwrap();
    let broker_ca = STANDARD.decode(secret["data"]["ca.crt"].as_str().unwrap()).unwrap();
    let ca = shop.folder.join("ca.pem");
    fs::write(&ca, broker_ca).unwrap();
    let outside = Outside { shop, issuers, issuer: Some(issuer), url, port: issuer_port, key, broker, ca };
    outside.identity("ci", &json!({"repository_id": "4711", "ref": "refs/heads/main"}));
    Some(outside)
}

impl Outside {
    fn issuer(&self) -> &Issuer {
        self.issuer.as_ref().unwrap()
    }

    fn stop_issuer(&mut self) {
        self.issuer = None;
    }

    /// Starts it where it was, with these keys.
    fn start_issuer(&mut self, keys: &[&Key]) {
        let clients = clients(self.shop.namespace.name());
        self.issuer = Some(self.issuers.start(&self.shop.folder, self.port, keys, &clients).unwrap());
    }

    fn identity(&self, name: &str, claims: &Value) {
        let subject = json!({"issuer": self.url, "claims": claims, "groupsClaim": "groups"});
        let identity = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "NonHumanIdentity",
            "metadata": {"name": name},
            "spec": {"subjects": [{"oidc": subject}], "postgresRole": "reporting"},
        });
        self.shop.namespace.apply(&identity.to_string()).unwrap();
    }

    fn now() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    /// What a good token says, but for this.
    fn claims(&self, other: &Value) -> Value {
        let mut claims = json!({
            "iss": self.url, "sub": "ci", "aud": format!("postern/{}", self.shop.namespace.name()),
            "iat": Self::now(), "exp": Self::now() + 600, "repository_id": "4711", "ref": "refs/heads/main",
        });
        claims.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        claims
    }

    /// Why a sidecar with this token gets no lease, once it is this.
    fn refusal(&self, token: &str, told: &str) -> String {
        let sidecar = self.sidecar(token);
        let mut lines = Vec::new();
        let patience = Instant::now() + PATIENCE;
        while !lines.iter().any(|line: &String| line.contains(told)) {
            assert!(Instant::now() < patience, "{told}: {}", sidecar.guard.log());
            std::thread::sleep(Duration::from_millis(20));
            let log = sidecar.guard.log();
            lines = log.lines().filter(|line| line.contains("no lease could be got")).map(str::to_owned).collect();
        }
        lines.concat()
    }

    /// A sidecar with this token.
    fn sidecar(&self, token: &str) -> Sidecar {
        let file = self.shop.folder.join("token");
        fs::write(&file, token).unwrap();
        self.sidecar_by(&format!("--token-file={}", file.display()))
    }

    /// A sidecar with the token that this option gives.
    fn sidecar_by(&self, token: &str) -> Sidecar {
        let resource = format!("postern:{}/orders", self.shop.namespace.name());
        Sidecar::outside(&resource, &self.broker, &self.ca, token, &self.shop.folder)
    }
}

#[test]
fn a_job_outside_of_the_cluster_works_as_the_identity_that_its_token_proves() {
    let Some(outside) = outside() else { return };
    let shop = &outside.shop;
    let sidecar = outside.sidecar(&outside.issuer().token("ci").unwrap()).started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    // It is in the group by its token alone.
    assert_eq!(sqlstate(&mut wire, "SELECT id, email FROM app.customers"), None);
    assert_eq!(sqlstate(&mut wire, "SELECT key FROM app.secrets").as_deref(), Some("42501"));
    let (own, _) = roles(shop);
    let [role] = own.as_slice() else { panic!("{own:?}") };
    let comment = ask(shop, &format!("SELECT shobj_description('{role}'::regrole, 'pg_authid')"));
    assert!(comment.contains("\"subject\":\"ci\"") && !comment.contains("\"pod\""), "{comment}");

    // What is recorded says who it was, by what is proven.
    wait_until("the audit", || shop.kept().iter().any(|event| event["event"] == "statement"));
    let kept = shop.kept();
    let event = kept.iter().find(|event| event["event"] == "session_start").unwrap();
    for claims in [&event["proven"]["claims"], &event["subject"]["claims"]] {
        assert_eq!(claims, &json!({"repository_id": "4711", "ref": "refs/heads/main"}));
    }
    assert_eq!((&event["proven"]["issuer"], &event["proven"]["subject"]), (&json!(outside.url), &json!("ci")));
    assert!(event["proven"].get("pod").is_none() && event["subject"]["pod"].is_null(), "{event}");

    // A right that ends ends the session, and its role.
    shop.namespace.kubectl(&["delete", "nhi", "ci", "--wait=false"]).unwrap();
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
    wait_until("the role's end", || roles(shop).1 == 0);
}

#[test]
fn who_is_in_other_groups_has_no_session_by_the_grants_of_the_former_ones() {
    let Some(outside) = outside() else { return };
    let shop = &outside.shop;
    let sidecar = outside.sidecar(&outside.issuer().token("ci").unwrap()).started();
    assert_eq!(sqlstate(&mut sidecar.connect(&shop.database).unwrap(), "SELECT id FROM app.customers"), None);
    let (own, _) = roles(shop);
    let [role] = own.as_slice() else { panic!("{own:?}") };
    let groups = || ask(shop, &format!("SELECT roleid::regrole FROM pg_auth_members WHERE member = '{role}'::regrole"));
    let holder = groups();
    // The job has its role's password.
    let mut session = thief(shop, role);
    assert_eq!(sqlstate(&mut session, &format!("SET ROLE {holder}; SELECT id FROM app.customers")), None);
    let patch = json!({"spec": {"groups": ["audit"]}}).to_string();
    shop.namespace.kubectl(&["patch", "nhi", "ci", "--type=merge", "-p", &patch]).unwrap();
    assert_eq!(end_of(&mut session).as_deref(), Some("57P01"));
    assert_ne!(groups(), holder);
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "SELECT id FROM app.customers"), None, "the lease goes on");
}

#[test]
fn a_token_that_proves_no_identity_has_no_lease_and_hears_which_part_does_not_fit() {
    let Some(outside) = outside() else { return };
    let (shop, key, url) = (&outside.shop, &outside.key, &outside.url);
    let now = Outside::now();
    let signed = |other: Value| key.sign(&outside.claims(&other)).unwrap();
    let (imposter, unknown) = (Key::new("first").unwrap(), Key::new("second").unwrap());
    let good = outside.claims(&json!({}));
    let with_header = |header: &str| {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(header), part(&good.to_string()))
    };
    // The oldest trick: the public key as a shared secret.
    let shared = EncodingKey::from_secret(key.public().as_bytes());
    let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::HS256) };
    let shared = jsonwebtoken::encode(&header, &good, &shared).unwrap();
    for (token, told) in [
        (outside.issuer().token("other").unwrap(), "pins these claims: sub=other"),
        (signed(json!({"repository_id": "4712"})), "pins these claims: sub=ci"),
        (signed(json!({"repository_id": 4711, "ref": "refs/heads/other"})), "pins these claims"),
        (signed(json!({"aud": "postern/elsewhere"})), "the token is for the audience postern/elsewhere"),
        (signed(json!({"aud": ["https://kubernetes.default.svc"]})), "the token is for the audience"),
        (signed(json!({"exp": now - 60, "iat": now - 600})), "the token has expired"),
        (signed(json!({"iat": now + 600, "exp": now + 900})), "not good yet"),
        (signed(json!({"exp": now + 30 * 86400})), "lives longer"),
        (signed(json!({"iss": "https://elsewhere.example"})), "neither this cluster nor on the list"),
        (signed(json!({"iss": format!("{url}/")})), "neither this cluster nor on the list"),
        (signed(json!({"groups": [1, 2]})), "groups are neither"),
        (imposter.sign(&good).unwrap(), "signature is wrong"),
        (unknown.sign(&good).unwrap(), "not signed by a key of its issuer"),
        (shared, "algorithm that is not accepted"),
        (with_header("{\"alg\":\"none\",\"kid\":\"first\"}"), "no JWT"),
        (with_header("{\"alg\":\"ES256\",\"kid\":\"first\",\"typ\":\"logout+jwt\"}"), "kind"),
        ("nonsense".to_owned(), "no JWT"),
    ] {
        let why = outside.refusal(&token, told);
        // Whatever does not fit: what the identity pins is not told.
        assert!(!why.contains("4711") && !why.contains("heads/main"), "{why}");
    }
    // A number is pinned by its digits, who is in very many groups is in each, and a command gives a token as a file does.
    let groups: Vec<_> =
        (0..199).map(|at| format!("group-{at}-with-a-name-as-long-as-an-id")).chain(["reporting".into()]).collect();
    let good = signed(json!({"repository_id": 4711, "groups": groups}));
    outside.sidecar_by(&format!("--token-command=echo {good}")).started();

    // More than one identity is none.
    outside.identity("twin", &json!({"repository_id": "4711"}));
    outside.refusal(&signed(json!({})), "several identities pin claims of this token: ci, twin");
    shop.namespace.kubectl(&["delete", "nhi", "twin"]).unwrap();

    // What must not leave the cluster does not.
    let mut hash = spec();
    hash["masks"][0]["mask"] = json!({"hash": {"keySecret": {"name": "db", "key": "password"}}});
    let maker = json!({"ephemeralRole": {"adminSecret": {"name": "maker"}}});
    for (credentials, spec, told) in [
        (json!({"secret": {"name": "db"}}), spec(), "has a password that others have too"),
        (json!({"ephemeralRole": {"adminSecret": {"name": "maker"}, "memberOf": "reporting"}}), spec(), "has memberOf"),
        (maker, hash, "has a hash mask, whose key must not leave the cluster"),
    ] {
        shop.policy_of(&shop.database, &credentials, &spec);
        outside.refusal(&signed(json!({})), told);
    }
    // Who proved an identity is told of beside it; who did not is not.
    wait_until("the Event", || {
        let events = shop.namespace.json(&["get", "events.events.k8s.io"]).unwrap();
        events["items"].as_array().unwrap().iter().any(|event| {
            let note = event["note"].as_str().unwrap_or_default();
            event["reason"] == "LeaseRefused"
                && event["regarding"]["name"] == "ci"
                && note.starts_with("ci of https://localhost")
        })
    });
}

#[test]
fn keys_that_are_rotated_are_asked_for_and_an_issuer_that_is_away_refuses_nobody() {
    let Some(mut outside) = outside() else { return };
    let database = outside.shop.database.clone();
    let works = |outside: &Outside, token: &str| {
        let sidecar = outside.sidecar(token).started();
        let mut wire = sidecar.connect(&database).unwrap();
        assert_eq!(sqlstate(&mut wire, "SELECT id FROM app.customers"), None);
    };
    let first = outside.issuer().token("ci").unwrap();
    works(&outside, &first);
    // Away: by what is known of it goes on what was good, and of the rest nothing is said.
    outside.stop_issuer();
    works(&outside, &first);
    let second = Key::new("second").unwrap();
    let by_second = second.sign(&outside.claims(&json!({"groups": ["reporting"]}))).unwrap();
    outside.refusal(&by_second, "can't be had right now");
    // Back, with another key beside the first, and then alone.
    outside.start_issuer(&[&second]);
    works(&outside, &by_second);
    works(&outside, &outside.issuer().token("ci").unwrap());
    outside.refusal(&first, "not signed by a key of its issuer");
}

#[test]
#[ignore = "waits for the end of a token, half a minute"]
fn a_token_that_ends_takes_back_no_lease_that_it_was_good_for() {
    let Some(outside) = outside() else { return };
    let now = Outside::now();
    let brief = outside.claims(&json!({"iat": now, "exp": now + 30, "groups": ["reporting"]}));
    let sidecar = outside.sidecar(&outside.key.sign(&brief).unwrap()).started();
    let mut wire = sidecar.connect(&outside.shop.database).unwrap();
    wait_until("the token's end", || sidecar.guard.log().contains("the token has expired"));
    assert_eq!(sqlstate(&mut wire, "SELECT id FROM app.customers"), None);
    assert!(sidecar.metric("postern_lease_seconds_left").unwrap() > 1000.0);
    // With another one it is renewed, and hears of changes again.
    let longer = outside.key.sign(&outside.claims(&json!({"groups": ["reporting"]}))).unwrap();
    fs::write(outside.shop.folder.join("token"), longer).unwrap();
    outside.shop.namespace.kubectl(&["delete", "nhi", "ci", "--wait=false"]).unwrap();
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
}
