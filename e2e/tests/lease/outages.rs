//! What a sidecar is leased by is away, hangs or has another time: the API server, its store, replicas of the operator, clocks.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::operator::{NAMESPACE, Operator, Options};
use postern_e2e::process::clock;
use postern_e2e::tap::Tap;
use serde_json::{Value, json};

use crate::shop::{Shop, Sidecar, end_of, shop, sqlstate, wait_until};

/// How long what is away stays away: longer than a poll, and than a request to the API server may take.
const AWAY: Duration = Duration::from_secs(15);

/// Queries in a session and in new ones, while something happens: how many there were, and how many failed.
fn queries_during<T>(shop: &Shop, sidecar: &Sidecar, happens: impl FnOnce() -> T) -> (T, u32, u32) {
    let done = AtomicBool::new(false);
    let mut wire = sidecar.connect(&shop.database).unwrap();
    std::thread::scope(|scope| {
        let queries = scope.spawn(|| {
            let (mut all, mut lost) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let new =
                    sidecar.connect(&shop.database).is_ok_and(|mut wire| sqlstate(&mut wire, "TABLE t").is_none());
                let old = sqlstate(&mut wire, "TABLE t").is_none();
                all += 2;
                lost += u32::from(!new) + u32::from(!old);
            }
            (all, lost)
        });
        // Whatever becomes of it, the queries end.
        let happened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(happens));
        done.store(true, Ordering::Relaxed);
        let (all, lost) = queries.join().unwrap();
        (happened.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), all, lost)
    })
}

/// A change of the policy is in force, and its status says so: how long that took.
fn a_change_acts(shop: &Shop, sidecar: &Sidecar) -> Duration {
    let began = Instant::now();
    shop.policy(&["public.t", "public.u"], &shop.database);
    let mut wire = sidecar.connect(&shop.database).unwrap();
    wait_until("the change", || sqlstate(&mut wire, "TABLE u").is_none());
    wait_until("its status", || {
        let policy = shop.namespace.json(&["get", "dap", "orders"]).unwrap();
        policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
    });
    began.elapsed()
}

fn leads(operator: &Operator) -> bool {
    operator.admin("/metrics").is_ok_and(|(_, text)| text.contains("\npostern_operator_leading 1\n"))
}

#[test]
fn no_query_is_lost_while_the_api_server_is_away_and_changes_act_once_it_is_back() {
    let Some(shop) = shop("1m") else { return };
    let sidecar = shop.sidecar().started();
    let (took, queries, lost) = queries_during(&shop, &sidecar, || {
        // It is renewed meanwhile: of a token that was reviewed within a minute the API server is not asked again.
        let renewals = || sidecar.metric(r#"postern_lease_exchanges_total{outcome="granted"}"#).unwrap();
        shop.server.without(|| wait_until("a renewal", || renewals() > 1.0)).unwrap();
        a_change_acts(&shop, &sidecar)
    });
    println!(
        "{lost} of {queries} queries were lost while the API server was away, a change acted {took:?} after its return"
    );
    assert_eq!(lost, 0);
    wait_until("a leader", || leads(shop.operator()));
}

#[test]
#[ignore = "waits as long as requests to the API server may take; one that is away is always tried"]
fn no_query_is_lost_while_the_api_servers_store_hangs_and_changes_act_once_it_goes_on() {
    let Some(shop) = shop("1h") else { return };
    let sidecar = shop.sidecar().started();
    let (took, queries, lost) = queries_during(&shop, &sidecar, || {
        let store = shop.server.store().unwrap();
        store.signal("STOP").unwrap();
        std::thread::sleep(AWAY);
        store.signal("CONT").unwrap();
        a_change_acts(&shop, &sidecar)
    });
    println!("{lost} of {queries} queries were lost while the store hung, a change acted {took:?} after it went on");
    assert_eq!(lost, 0);
    wait_until("a leader", || leads(shop.operator()));
}

#[test]
fn a_leader_that_can_not_reach_the_api_server_gives_up_before_another_one_leads() {
    let Some(mut shop) = shop("1h") else { return };
    // In place of the shop's own.
    let broker = Some(shop.operator().broker());
    shop.operator = None;
    let tap = Tap::start(shop.server.url().rsplit_once(':').unwrap().1.parse().unwrap()).unwrap();
    let by = Options { broker, by: Some(tap.port()), ..Options::default() };
    shop.operator = Some(Operator::start_with(shop.server, "postern-cut", &by).unwrap());
    wait_until("the first leads", || leads(shop.operator()));
    let sidecar = shop.sidecar().started();
    let second = Operator::start(shop.server, "postern-next").unwrap();
    let transitions = || lease(&shop)["spec"]["leaseTransitions"].as_u64().unwrap();
    let before = transitions();

    let (took, queries, lost) = queries_during(&shop, &sidecar, || {
        tap.hold();
        let began = Instant::now();
        wait_until("the other one leads", || {
            // In this order: who still led when it was asked may not lead any more when the other one is.
            let next = leads(&second);
            let both = leads(shop.operator()) && next;
            assert!(!both, "two lead");
            next
        });
        began.elapsed()
    });
    println!("another one led after {took:?}, {lost} of {queries} queries were lost");
    assert_eq!(lost, 0);
    shop.policy(&["public.t", "public.u"], &shop.database);
    wait_until("the work of the other one", || {
        let policy = shop.namespace.json(&["get", "dap", "orders"]).unwrap();
        policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
    });

    tap.release();
    // What it sees late it does not write.
    wait_until("the first one knows", || {
        let mut wire = sidecar.connect(&shop.database).unwrap();
        sqlstate(&mut wire, "TABLE u").is_none()
    });
    assert!(!leads(shop.operator()));
    assert_eq!((transitions(), lease(&shop)["spec"]["holderIdentity"].clone()), (before + 1, json!("postern-next")));
}

fn lease(shop: &Shop) -> Value {
    shop.server.admin().json(&["get", "lease", "postern-leader", "-n", NAMESPACE]).unwrap()
}

#[test]
#[ignore = "waits for the lead to be free; one that is cut off is always tried"]
fn a_leader_that_hung_leads_no_more_when_it_goes_on() {
    let Some(shop) = shop("1h") else { return };
    wait_until("the first leads", || leads(shop.operator()));
    let sidecar = shop.sidecar().started();
    let second = Operator::start(shop.server, "postern-next").unwrap();
    let hung = shop.operator().process().unwrap();
    let (took, queries, lost) = queries_during(&shop, &sidecar, || {
        hung.signal("STOP").unwrap();
        let began = Instant::now();
        wait_until("the other one leads", || leads(&second));
        began.elapsed()
    });
    println!("another one led after {took:?}, {lost} of {queries} queries were lost");
    assert_eq!(lost, 0);
    hung.signal("CONT").unwrap();
    wait_until("it knows", || !leads(shop.operator()));
    assert_eq!(lease(&shop)["spec"]["holderIdentity"], "postern-next");
    // Its sidecar is served by it as before.
    a_change_acts(&shop, &sidecar);
    assert!(leads(&second) && !leads(shop.operator()));
}

#[test]
fn a_token_that_the_kubelet_did_not_replace_ends_nothing_and_the_next_one_is_taken() {
    let Some(shop) = shop("1m") else { return };
    let mut sidecar = shop.sidecar().started();
    let file = shop.folder.join("token");
    let good = fs::read_to_string(&file).unwrap();
    let log = || fs::read_to_string(shop.folder.join("log")).unwrap();
    let (_, queries, lost) = queries_during(&shop, &sidecar, || {
        for (seconds, why) in [(7200, "the token has expired"), (-600, "the token is not good yet")] {
            fs::write(&file, shop.server.aged(good.trim(), seconds).unwrap()).unwrap();
            wait_until(why, || log().contains(why));
        }
        fs::write(&file, &good).unwrap();
        wait_until("a renewal", || sidecar.metric("postern_lease_seconds_left").unwrap() > 45.0);
    });
    println!("{lost} of {queries} queries were lost");
    assert_eq!(lost, 0);

    // As after a node's restart: there is no lease yet, and the token is of before.
    assert_eq!(sidecar.guard.stop().unwrap(), Some(0));
    let expired = shop.server.aged(good.trim(), 7200).unwrap();
    let sidecar = shop.sidecar_by(&expired, Vec::new(), &[]);
    wait_until("the reason", || log().contains("the token has expired"));
    fs::write(&file, &good).unwrap();
    let sidecar = sidecar.started();
    assert_eq!(sqlstate(&mut sidecar.connect(&shop.database).unwrap(), "TABLE t"), None);
}

#[test]
#[ignore = "starts many sidecars and replicas"]
fn clocks_may_be_apart_by_most_of_a_minute_and_what_is_wrong_beyond_is_said() {
    let Some(mut shop) = shop("1h") else { return };
    for off in ["+50s", "-50s"] {
        let sidecar = shop.sidecar_in(clock(off).unwrap(), &[]).started();
        assert_eq!(sqlstate(&mut sidecar.connect(&shop.database).unwrap(), "TABLE t"), None, "{off}");
        // By a clock that does not jump.
        assert!(sidecar.metric("postern_lease_seconds_left").unwrap() > 3500.0, "{off}");
    }
    for off in ["+5m", "-5m"] {
        let sidecar = shop.sidecar_in(clock(off).unwrap(), &[]);
        let log = || fs::read_to_string(shop.folder.join("log")).unwrap();
        wait_until("the reason", || log().contains("do the clocks agree?"));
        let (status, state) = postern_e2e::gate::http_get(sidecar.admin, "/startup").unwrap();
        assert_ne!(status, 200, "{state}");
    }
    // One that has a lease goes on by it, however wrong the broker's clock becomes.
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    let broker = Some(shop.operator().broker());
    for off in ["+5m", "-5m"] {
        shop.operator = None;
        let options = Options { broker, environment: clock(off).unwrap(), ..Options::default() };
        shop.operator = Some(Operator::start_with(shop.server, "postern-0", &options).unwrap());
        // By its clock the proofs are from another time, and the pod's token of the future: neither takes the right away.
        wait_until("what the broker answers", || {
            let (_, metrics) = shop.operator().admin("/metrics").unwrap();
            ["invalid_dpop_proof", "invalid_token"].iter().any(|code| metrics.contains(&format!("outcome=\"{code}\"")))
        });
        assert_eq!(sqlstate(&mut wire, "TABLE t"), None, "{off}");
        assert_eq!(sqlstate(&mut sidecar.connect(&shop.database).unwrap(), "TABLE t"), None, "{off}");
    }
    shop.operator = None;
    let options = Options { broker, ..Options::default() };
    shop.operator = Some(Operator::start_with(shop.server, "postern-0", &options).unwrap());
    a_change_acts(&shop, &sidecar);
}

#[test]
#[ignore = "waits for the end of the shortest lease and of a minute of grace"]
fn with_grace_it_serves_so_much_longer_without_an_operator_and_no_more() {
    let Some(mut shop) = shop("1m") else { return };
    shop.namespace
        .kubectl(&["patch", "nhi", "report", "--type=merge", "-p", r#"{"spec": {"outageGrace": "1m"}}"#])
        .unwrap();
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    shop.operator = None;
    let began = Instant::now();
    let left = sidecar.metric("postern_lease_seconds_left").unwrap();
    let end = end_of(&mut wire);
    println!("{left} s before its lease ended the operator went, and it served for {:?}", began.elapsed());
    assert_eq!(end.as_deref(), Some("57P01"));
    let served = began.elapsed().as_secs_f64();
    assert!(served > left + 50.0 && served < left + 75.0, "{served} s");
    let refusal = sidecar.refusal(&shop.database);
    assert!(refusal.contains("lease has expired"), "{refusal}");
}

#[test]
fn a_sidecar_that_starts_again_after_its_broker_had_two_other_authorities_still_believes_it() {
    let Some(shop) = shop("1h") else { return };
    let mut sidecar = shop.sidecar().started();
    let authority = || {
        let secret = shop.server.admin().json(&["get", "secret", "postern-broker-ca", "-n", NAMESPACE]).unwrap();
        (secret["data"]["ca.crt"].clone(), secret["metadata"]["annotations"]["postern.dev/rotate"].is_string())
    };
    let (_, queries, lost) = queries_during(&shop, &sidecar, || {
        for _ in 0..2 {
            let (before, _) = authority();
            let arguments = ["annotate", "secret", "postern-broker-ca", "-n", NAMESPACE, "postern.dev/rotate=now"];
            shop.server.admin().kubectl(&arguments).unwrap();
            wait_until("another authority", || authority().0 != before && !authority().1);
        }
    });
    println!("{lost} of {queries} queries were lost");
    assert_eq!(lost, 0);
    // What the pod was made with says the first one.
    assert_eq!(sidecar.guard.stop().unwrap(), Some(0));
    let began = Instant::now();
    let sidecar = shop.sidecar().started();
    println!("it served {:?} after its start", began.elapsed());
    a_change_acts(&shop, &sidecar);
}
