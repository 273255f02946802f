//! The intake of audit events: batches of a stream, at least once, with gaps made visible.
//!
//! A sidecar numbers its events and sends them again until they are acknowledged, to whichever replica it reaches. It
//! says up to which number they were acknowledged before, by whomever: so a replica that meets a stream for the first
//! time knows whether something is missing.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Access;
use super::rights::Origin;

/// Longest id of a stream; sidecars' have some thirty characters.
const MAX_STREAM: usize = 64;
/// Most streams whose last number is remembered. One that was forgotten costs at most that events are kept twice.
const MAX_STREAMS: usize = 65_536;
/// Longest piece that is kept of a line which is no event.
const MAX_UNREADABLE: usize = 4096;

/// What a batch says of itself, in the query.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Batch {
    /// The stream.
    pub(super) stream: String,
    /// Number of the first event.
    pub(super) first: u64,
    /// Every event up to this number was acknowledged before.
    #[serde(default)]
    pub(super) acknowledged: u64,
}

impl Batch {
    pub(super) fn is_well_formed(&self) -> bool {
        let letters = self.stream.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let length = (1..=MAX_STREAM).contains(&self.stream.len());
        // Numbers far below overflow, whatever is added to them.
        letters && length && (1..1 << 62).contains(&self.first) && self.acknowledged < self.first
    }
}

/// What was kept of which stream, as far as this replica remembers. Streams are of a pod, or of a sidecar outside: none
/// touches another one's.
#[derive(Debug)]
pub(super) struct Streams(quick_cache::sync::Cache<(String, String), u64>);

impl Default for Streams {
    fn default() -> Self {
        Self(quick_cache::sync::Cache::new(MAX_STREAMS))
    }
}

/// What a batch comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Taken {
    /// What the sink has to keep.
    pub(super) lines: Vec<Value>,
    /// Events that never came.
    pub(super) missing: u64,
    /// Events among the lines.
    pub(super) events: u64,
    /// The number of the last one.
    pub(super) last: u64,
}

impl Streams {
    /// The number of the last event that is kept.
    pub(super) fn seen(&self, access: &Access, stream: &str) -> u64 {
        self.0.get(&key(access, stream)).unwrap_or(0)
    }

    /// The sink has them up to this number.
    pub(super) fn kept(&self, access: &Access, stream: &str, last: u64) {
        let last = last.max(self.seen(access, stream));
        self.0.insert(key(access, stream), last);
    }
}

fn key(access: &Access, stream: &str) -> (String, String) {
    (access.holder().to_owned(), stream.to_owned())
}

/// Reads a batch: what of it was not kept before, each event with what the broker knows of its sender, which is not
/// believed from the sender itself.
pub(super) fn take(batch: &Batch, body: &[u8], seen: u64, access: &Access, now: jiff::Timestamp) -> Taken {
    let proven = proven(access, &batch.stream);
    let events = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut taken = Taken { lines: Vec::new(), missing: 0, events: 0, last: batch.first.saturating_sub(1) };
    let expected = seen.max(batch.acknowledged) + 1;
    if batch.first > expected {
        taken.missing = batch.first - expected;
        let mut gap = Map::new();
        gap.insert("event".into(), json!("gap"));
        gap.insert("time".into(), json!(now.to_string()));
        gap.insert("missing".into(), json!({"first": expected, "last": batch.first - 1}));
        taken.lines.push(stamped(gap, &proven, None));
    }
    for (number, line) in (batch.first..).zip(events) {
        taken.last = number;
        if number <= seen {
            continue;
        }
        let event = serde_json::from_slice(line).unwrap_or_else(|_| unreadable(line, now));
        taken.lines.push(stamped(event, &proven, Some(number)));
        taken.events += 1;
    }
    taken
}

/// What is no event is kept as what it is.
fn unreadable(line: &[u8], now: jiff::Timestamp) -> Map<String, Value> {
    let text = String::from_utf8_lossy(line.get(..MAX_UNREADABLE).unwrap_or(line));
    let mut event = Map::new();
    event.insert("event".into(), json!("unreadable"));
    event.insert("time".into(), json!(now.to_string()));
    event.insert("text".into(), json!(text));
    event
}

fn proven(access: &Access, stream: &str) -> Value {
    let bearer = &access.bearer;
    let who = match &bearer.origin {
        Origin::Pod(pod) => json!({
            "namespace": bearer.namespace,
            "pod": pod.pod,
            "podUid": pod.pod_uid,
            "node": pod.node,
            "serviceAccount": pod.service_account,
        }),
        Origin::Outside { .. } => json!({
            "namespace": bearer.namespace,
            "issuer": bearer.issuer,
            "subject": bearer.subject,
            "claims": access.pinned,
        }),
    };
    let what = json!({
        "identity": access.identity,
        "policy": access.policy,
        "tokenId": bearer.token_id,
        "stream": stream,
    });
    Value::Object([who, what].into_iter().filter_map(|it| it.as_object().cloned()).flatten().collect())
}

fn stamped(mut event: Map<String, Value>, proven: &Value, number: Option<u64>) -> Value {
    let mut proven = proven.clone();
    if let (Some(number), Some(fields)) = (number, proven.as_object_mut()) {
        fields.insert("number".into(), json!(number));
    }
    // Whatever the sender wrote there.
    event.insert("proven".into(), proven);
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::broker::access::tests::{access, outside_access};
    use crate::broker::rights::PodOrigin;

    fn batch(first: u64, acknowledged: u64) -> Batch {
        Batch { stream: "s1".into(), first, acknowledged }
    }

    fn taken(batch: &Batch, body: &str, seen: u64) -> Taken {
        take(batch, body.as_bytes(), seen, &access(), jiff::Timestamp::UNIX_EPOCH)
    }

    fn numbers(taken: &Taken) -> Vec<Option<u64>> {
        taken.lines.iter().map(|line| line["proven"]["number"].as_u64()).collect()
    }

    #[test]
    fn events_are_kept_with_who_sent_them_whatever_they_say_themselves() {
        let taken = taken(&batch(1, 0), "{\"event\":\"a\",\"proven\":{\"pod\":\"another\"}}\n{\"event\":\"b\"}\n", 0);
        assert_eq!((taken.events, taken.last, taken.missing), (2, 2, 0));
        assert_eq!(numbers(&taken), [Some(1), Some(2)]);
        for line in &taken.lines {
            assert_eq!((&line["proven"]["pod"], &line["proven"]["policy"]), (&json!("report-1"), &json!("orders")));
            assert_eq!(line.to_string().matches("\"proven\"").count(), 1);
        }
    }

    #[test]
    fn events_of_somebody_outside_say_issuer_subject_and_the_claims_that_prove_him() {
        let line = &take(&batch(1, 0), b"{}\n", 0, &outside_access(), jiff::Timestamp::UNIX_EPOCH).lines[0];
        let proven = &line["proven"];
        assert_eq!((&proven["issuer"], &proven["subject"]), (&json!("https://idp.example"), &json!("ci")));
        assert_eq!(proven["claims"], json!({"ref": "main"}));
        assert_eq!((proven.get("pod"), &proven["identity"]), (None, &json!("report")));
    }

    #[test]
    fn what_was_kept_is_not_kept_again() {
        let again = taken(&batch(1, 0), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n", 2);
        assert_eq!((numbers(&again), again.last, again.events), (vec![Some(3)], 3, 1));
        let all = taken(&batch(1, 0), "{}\n", 7);
        assert_eq!((all.lines.len(), all.last), (0, 1));
    }

    #[test]
    fn a_gap_is_seen_and_none_is_seen_where_another_replica_took_them() {
        let gap = taken(&batch(5, 2), "{}\n", 0);
        assert_eq!((gap.missing, numbers(&gap)), (2, vec![None, Some(5)]));
        assert_eq!(gap.lines[0]["missing"], json!({"first": 3, "last": 4}));
        for (first, acknowledged, seen) in [(5, 4, 0), (5, 0, 4), (5, 2, 9), (1, 0, 0)] {
            assert_eq!(taken(&batch(first, acknowledged), "{}\n", seen).missing, 0, "{first} {acknowledged} {seen}");
        }
    }

    #[test]
    fn a_line_that_is_no_event_is_kept_as_that_and_counts() {
        let taken = taken(&batch(1, 0), "{\"n\":1}\nnonsense\n[]\n{\"n\":4}", 0);
        assert_eq!((taken.events, taken.last), (4, 4));
        assert_eq!((&taken.lines[1]["event"], &taken.lines[1]["text"]), (&json!("unreadable"), &json!("nonsense")));
        assert_eq!(taken.lines[2]["event"], "unreadable");
    }

    #[test]
    fn only_a_well_formed_batch_is_taken() {
        assert!(batch(1, 0).is_well_formed() && batch(10, 9).is_well_formed());
        assert!(!batch(0, 0).is_well_formed() && !batch(1, 1).is_well_formed() && !batch(u64::MAX, 0).is_well_formed());
        for stream in ["", "a/b", "a b", &"x".repeat(MAX_STREAM + 1)] {
            assert!(!Batch { stream: stream.into(), ..batch(1, 0) }.is_well_formed(), "{stream}");
        }
    }

    #[test]
    fn streams_are_of_one_pod() {
        let streams = Streams::default();
        let mut other = access();
        other.bearer.origin =
            Origin::Pod(PodOrigin { pod_uid: "other".into(), ..access().bearer.pod().unwrap().clone() });
        streams.kept(&access(), "s1", 5);
        streams.kept(&access(), "s1", 3);
        assert_eq!(
            (streams.seen(&access(), "s1"), streams.seen(&access(), "s2"), streams.seen(&other, "s1")),
            (5, 0, 0)
        );
    }
}
