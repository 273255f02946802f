//! What somebody tries who may make pods in a namespace, and reach the operator's ports: to get leases that are not the
//! sidecar's, or to be in the way of those that are.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use postern_crds::lease::{GRANT_TYPE, JWT_TYPE, LEASE_PATH, TOKEN_PATH};
use postern_e2e::kubernetes::NEWEST;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use crate::broker::{Sidecar, forged, form, running_pod, secrets, version};
use crate::{Shop, asks, eventually, identity, on_both, pod, policy, shop};

on_both! {
    a_sidecar_made_by_hand_asks_the_broker_and_nobody_else_or_has_no_lease => made_by_hand;
    a_policy_that_no_longer_verifies_its_server_leaves_pods_that_could_pose_as_it => unverified;
    a_copy_of_a_pod_to_debug_is_what_the_webhook_makes_of_it => copies;
    a_pod_that_has_ended_has_no_lease => ended;
}

/// A pod with a sidecar as the webhook makes it, where no webhook looks: in a namespace that is left out.
fn by_hand(shop: &Shop, made: &Value, name: &str, change: impl FnOnce(&mut Value)) {
    let mut by_hand = pod(name, &asks("shop"));
    let mut sidecar = made["spec"]["initContainers"][0].clone();
    sidecar["args"][2] = json!(format!("--resource=postern:{}/shop", shop.namespace));
    change(&mut sidecar);
    by_hand["metadata"]["labels"]["postern.dev/injected"] = json!("true");
    by_hand["spec"]["initContainers"] = json!([sidecar]);
    let ours = |volume: &&Value| volume["name"].as_str().unwrap().starts_with("postern-");
    by_hand["spec"]["volumes"] = made["spec"]["volumes"].as_array().unwrap().iter().filter(ours).cloned().collect();
    shop.apply(&by_hand);
    crate::broker::set_address(shop, name, "127.0.0.1");
}

fn made_by_hand(seen: &Shop) {
    seen.apply(&pod("app", &asks("shop")));
    let made = seen.get(&["pod", "app"]);
    let shop = Shop { admin: seen.admin, operator: seen.operator, namespace: "kube-system".into() };
    shop.apply(&identity("report", "default"));
    shop.apply(&policy("shop"));
    by_hand(&shop, &made, "copy", |_| {});
    Sidecar::new(&shop, "copy").granted();

    by_hand(&shop, &made, "misled", |sidecar| sidecar["args"][1] = json!("--broker=https://127.0.0.1:1"));
    let answer = Sidecar::new(&shop, "misled").exchange();
    assert_eq!(answer.error(), (400, "invalid_grant"));
    assert!(answer.why().contains("another broker"), "{}", answer.why());

    // That takes another server for the broker, too. It might be an authority that a replica does not know yet.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    by_hand(&shop, &made, "credulous", |sidecar| {
        let ours = sidecar["env"][0]["value"].as_str().unwrap().to_owned();
        sidecar["env"][0]["value"] = json!(format!("{ours}{authority}"));
    });
    let answer = Sidecar::new(&shop, "credulous").exchange();
    assert_eq!(answer.error(), (503, "temporarily_unavailable"));
    assert!(answer.why().contains("not known here"), "{}", answer.why());
}

fn unverified(shop: &Shop) {
    secrets(shop);
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    let lease = sidecar.next(None);
    let mut unverified = policy("shop");
    unverified["spec"]["database"]["tls"] = json!({"mode": "Require"});
    shop.apply(&unverified);
    let answer = sidecar.refusal(version(&lease));
    assert_eq!(answer.error(), (403, "invalid_target"));
    assert!(answer.why().contains("NET_RAW"), "{}", answer.why());
    // Whose author accepts it has it so.
    unverified["spec"]["database"]["tls"]["allowUnverified"] = json!(true);
    shop.apply(&unverified);
    sidecar.next(None);
}

fn copies(shop: &Shop) {
    running_pod(shop, "app");
    let debug = |copy: &str, more: &[&str]| {
        let to = format!("--copy-to={copy}");
        let arguments = ["debug", "app", "-n", &shop.namespace, &to, "--profile=baseline", "--attach=false"];
        [&arguments[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let refused = |copy: &str, more: &[&str], part: &str| {
        let arguments = debug(copy, more);
        let said = shop.admin.refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "").unwrap();
        assert!(said.contains(part), "{more:?}: {said}");
    };
    // kubectl itself swaps no init container's image.
    let mut swapped = shop.get(&["pod", "app"]);
    let annotations = swapped["metadata"]["annotations"].clone();
    swapped["metadata"] = json!({"name": "swapped", "annotations": annotations});
    swapped["spec"]["initContainers"][0]["image"] = json!("busybox");
    let said = shop.refused(&swapped);
    assert!(said.contains("its image is another one"), "{said}");
    // A copy without annotations has the token's volume still, and with them all processes together.
    refused("bare", &["--image=busybox"], "--keep-annotations --share-processes=false --profile=baseline");
    refused("shared", &["--image=busybox", "--keep-annotations"], "spec.shareProcessNamespace");
    // A copy of the application with the sidecar that it would have is as good as the application.
    let arguments = debug("copy", &["--image=busybox", "--keep-annotations", "--share-processes=false"]);
    shop.admin.kubectl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    crate::broker::set_address(shop, "copy", "127.0.0.1");
    Sidecar::new(shop, "copy").granted();
}

fn ended(shop: &Shop) {
    secrets(shop);
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    let lease = sidecar.next(None);
    let status = json!({"status": {"phase": "Succeeded"}}).to_string();
    shop.kubectl(&["patch", "pod", "app", "--subresource=status", "--type=merge", "-p", &status]);
    let answer = sidecar.refusal(version(&lease));
    assert_eq!(answer.error(), (403, "invalid_grant"));
    assert!(answer.why().contains("has ended"), "{}", answer.why());
    assert_eq!(sidecar.exchange().error(), (400, "invalid_grant"));
}

/// A connection from an address of this machine's own.
fn connected(address: Ipv4Addr, port: u16) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(address), 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The same, over TLS.
struct Client(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Client {
    fn from(address: Ipv4Addr, port: u16, tls: &Arc<rustls::ClientConfig>) -> Self {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(tls), name).unwrap();
        Self(rustls::StreamOwned::new(connection, connected(address, port)))
    }

    fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        self.0.flush()
    }

    /// Status and body of the next answer.
    fn answer(&mut self) -> (u16, String) {
        self.try_answer().unwrap()
    }

    /// The same, if the connection lasts.
    fn try_answer(&mut self) -> std::io::Result<(u16, String)> {
        let mut read = Vec::new();
        let mut byte = [0];
        while !read.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            read.push(byte[0]);
        }
        let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.trim().parse().unwrap()];
        self.0.read_exact(&mut body)?;
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap()))
    }
}

/// How often the operator asked the API server about a token.
fn reviews(shop: &Shop) -> u64 {
    let (_, metrics) = shop.operator.admin("/metrics").unwrap();
    let asked = metrics
        .lines()
        .filter(|line| line.starts_with("postern_operator_token_reviews_total") && !line.contains("\"remembered\""));
    asked.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn garbage_by_the_thousand_is_refused_without_the_api_server() {
    let Some(shop) = shop(NEWEST) else { return };
    let shop = &shop;
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    let header = |kid: &str| URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": kid}).to_string());
    let (_, rest) = sidecar.token.split_once('.').unwrap();
    let tokens = [
        "x".repeat(8 << 10),
        forged(&sidecar.token),
        format!("{}.{rest}", header("of-nobody")),
        format!("{}.{rest}", header(&"k".repeat(4 << 10))),
        sidecar.token[..sidecar.token.len() - 8].to_owned(),
    ];
    let request = |token: &str| {
        let form = form(&[
            ("grant_type", GRANT_TYPE),
            ("subject_token_type", JWT_TYPE),
            ("subject_token", token),
            ("resource", "postern:shop/shop"),
        ]);
        let head =
            format!("POST {TOKEN_PATH} HTTP/1.1\r\nHost: broker\r\nContent-Type: application/x-www-form-urlencoded");
        format!("{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len())
    };
    let before = reviews(shop);
    // Within what each address may: all of it is looked at.
    for address in 2..=16 {
        let mut client = Client::from(Ipv4Addr::new(127, 0, 0, address), sidecar.port, &sidecar.tls);
        for token in tokens.iter().cycle().take(70) {
            client.send(&request(token)).unwrap();
            let (status, body) = client.answer();
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")), "{body}");
        }
    }
    // Beyond it, nothing.
    let mut client = Client::from(Ipv4Addr::new(127, 0, 0, 2), sidecar.port, &sidecar.tls);
    let slowed = (0..600).filter(|_| {
        client.send(&request("x")).unwrap();
        client.answer().0 == 429
    });
    assert!(slowed.count() > 100);
    // Those of the tests beside this one.
    let asked = reviews(shop) - before;
    assert!(asked < 200, "{asked} questions to the API server");
    let answer = eventually(|| Some(sidecar.exchange()).filter(|answer| answer.status == 200));
    assert!(answer.is_some(), "others are served");
}

/// The authority of the webhooks.
fn webhooks_tls(shop: &Shop) -> Arc<rustls::ClientConfig> {
    let secret = shop.admin.json(&["get", "secret", "postern-webhook-ca", "-n", "postern-system"]).unwrap();
    let bundle = STANDARD.decode(secret["data"]["ca.crt"].as_str().unwrap()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn who_is_silent_slow_or_large_is_in_nobodys_way() {
    let Some(shop) = shop(NEWEST) else { return };
    let shop = &shop;
    running_pod(shop, "app");
    let sidecar = Sidecar::new(shop, "app").granted();
    let (broker, webhooks) = (sidecar.port, shop.operator.webhooks());
    let webhooks_tls = webhooks_tls(shop);
    let served = |name: &str| {
        let answer = eventually(|| Some(sidecar.exchange()).filter(|answer| answer.status == 200));
        assert!(answer.is_some(), "the broker serves others");
        shop.apply(&pod(name, &asks("shop")));
    };

    // Connections on which nothing comes, more than one address may have, and heads that never end.
    let of_one = Ipv4Addr::new(127, 0, 0, 40);
    let mut silent: Vec<TcpStream> = (0..300).map(|_| connected(of_one, webhooks)).collect();
    silent.extend((0..300).map(|_| connected(of_one, broker)));
    let mut slow: Vec<Client> =
        (0..50).map(|_| Client::from(Ipv4Addr::new(127, 0, 0, 41), broker, &sidecar.tls)).collect();
    for client in &mut slow {
        client.send(&format!("POST {TOKEN_PATH} HTTP/1.1\r\nHost: bro")).unwrap();
    }
    served("beside-the-silent");
    let mut one_more = connected(of_one, webhooks);
    let closed = one_more.read(&mut [0]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}: one address has all connections");
    assert!(connected(Ipv4Addr::new(127, 0, 0, 42), webhooks).write(b"x").is_ok());
    drop((silent, slow, one_more));

    // Bodies that do not come.
    let form = "Content-Type: application/x-www-form-urlencoded";
    let mut client = Client::from(Ipv4Addr::new(127, 0, 0, 43), broker, &sidecar.tls);
    client.send(&format!("POST {TOKEN_PATH} HTTP/1.1\r\nHost: b\r\n{form}\r\nContent-Length: 100\r\n\r\nx")).unwrap();
    let (status, body) = client.answer();
    assert!(status == 400 && body.contains("did not come in"), "{status}: {body}");
    // Bodies that are too large, and one that nobody without a token may send: refused before they come.
    for (port, tls, head, expected) in [
        (broker, &sidecar.tls, format!("POST {TOKEN_PATH} HTTP/1.1\r\nHost: b\r\n{form}"), 400),
        (broker, &sidecar.tls, format!("POST {LEASE_PATH} HTTP/1.1\r\nHost: b"), 401),
        (webhooks, &webhooks_tls, "POST /mutate/pods HTTP/1.1\r\nHost: b".to_owned(), 413),
    ] {
        let mut client = Client::from(Ipv4Addr::new(127, 0, 0, 44), port, tls);
        client.send(&format!("{head}\r\nContent-Length: {}\r\n\r\n", 64 << 20)).unwrap();
        let (status, body) = client.answer();
        assert_eq!(status, expected, "{head}: {body}");
    }

    // Reviews that take up many times their size when they are read.
    let review = format!("[{}{{}}]", "[],".repeat((7 << 20) / 3));
    let head = format!("POST /mutate/pods HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n", review.len());
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (review, head, tls) = (&review, &head, &webhooks_tls);
            scope.spawn(move || {
                let mut client = Client::from(Ipv4Addr::new(127, 0, 0, 50 + number / 4), webhooks, tls);
                // Where there is no room it is refused before all of it was sent, and the answer may be lost with the rest.
                let answered = client.send(head).and_then(|()| client.send(review)).and_then(|()| client.try_answer());
                if let Ok((status, _)) = answered {
                    assert!(status == 400 || status == 503, "{status}");
                }
            });
        }
    });
    served("beside-the-large");
    let most = shop.operator.process().unwrap().peak().unwrap();
    println!("the operator had {} MiB at most", most >> 20);
    // Of the 512 that the chart gives it.
    assert!(most < 400 << 20, "{} MiB", most >> 20);
}
