//! Until when a lease holds, and when it is renewed. Pure: the time is given.

use std::time::Duration;

use tokio::time::Instant;

/// First wait after a failure; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// See [`FIRST_PAUSE`].
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The lease that is held, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Its end.
    pub(super) until: Instant,
    /// How much longer it holds while no broker can be reached.
    pub(super) grace: Duration,
}

/// What the broker last did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// It answered.
    Reached,
    /// It could not be reached, or what it needs could not.
    Away,
    /// It refused: there is no right to a lease any more.
    Refused,
}

/// Whether sessions are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There was no lease yet.
    None,
    /// Under a lease.
    Serving,
    /// Under one that has ended, since no broker can be reached.
    Grace,
    /// The lease has ended.
    Expired,
    /// The broker refused.
    Refused,
}

/// How it stands at a moment, and when that changes if nothing happens.
pub(super) fn state(held: Option<Held>, contact: Contact, now: Instant) -> (State, Option<Instant>) {
    // Asked first: a refusal ends a lease at once, however long it would hold.
    if contact == Contact::Refused {
        return (State::Refused, None);
    }
    let Some(Held { until, grace }) = held else { return (State::None, None) };
    if now < until {
        return (State::Serving, Some(until));
    }
    match until.checked_add(grace) {
        Some(end) if contact == Contact::Away && now < end => (State::Grace, Some(end)),
        _ => (State::Expired, None),
    }
}

/// How long after it was granted a lease is renewed: a third of its life, so that two more attempts fit; not all
/// sidecars at once. `chance` is from 0 to 1.
pub(super) fn renewal(life: Duration, chance: f64) -> Duration {
    (life / 3).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

/// How long to wait after so many failures in a row.
pub(super) fn pause(failures: u32, chance: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(MAX_PAUSE);
    longest.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_lease_serves_to_its_end_and_longer_only_while_no_broker_can_be_reached() {
        let start = Instant::now();
        let held = |grace| Some(Held { until: start + HOUR, grace });
        let none = Duration::ZERO;
        let cases = [
            // held, contact, time since the grant → state, when it changes
            (None, Contact::Reached, none, State::None, None),
            (None, Contact::Away, none, State::None, None),
            (None, Contact::Refused, none, State::Refused, None),
            (held(none), Contact::Reached, MINUTE, State::Serving, Some(HOUR)),
            (held(none), Contact::Away, MINUTE, State::Serving, Some(HOUR)),
            (held(none), Contact::Refused, MINUTE, State::Refused, None),
            (held(none), Contact::Reached, HOUR, State::Expired, None),
            (held(none), Contact::Away, HOUR, State::Expired, None),
            (held(MINUTE), Contact::Away, HOUR, State::Grace, Some(HOUR + MINUTE)),
            (held(MINUTE), Contact::Reached, HOUR, State::Expired, None),
            (held(MINUTE), Contact::Refused, HOUR, State::Refused, None),
            (held(MINUTE), Contact::Away, HOUR + MINUTE, State::Expired, None),
            (held(Duration::MAX), Contact::Away, HOUR, State::Expired, None),
        ];
        for (held, contact, since, wanted, change) in cases {
            let change = change.map(|after| start + after);
            assert_eq!(state(held, contact, start + since), (wanted, change), "{contact:?} after {since:?}");
        }
    }

    #[test]
    fn a_renewal_leaves_time_for_two_more_and_not_all_come_at_once() {
        let (first, last) = (renewal(HOUR, 0.0), renewal(HOUR, 1.0));
        assert!(first < HOUR / 3 && HOUR / 3 < last && last * 2 < HOUR, "{first:?} {last:?}");
    }

    #[test]
    fn the_wait_after_failures_grows_to_a_bound() {
        assert_eq!(pause(1, 1.0), FIRST_PAUSE);
        assert_eq!(pause(3, 1.0), FIRST_PAUSE * 4);
        assert_eq!(pause(u32::MAX, 1.0), MAX_PAUSE);
        assert_eq!(pause(u32::MAX, 0.0), MAX_PAUSE / 2);
    }
}
