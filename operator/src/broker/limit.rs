//! How often an address may ask for an exchange.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::network;

/// Exchanges at once: a node's worth of pods behind one address, each with several sidecars.
const BURST: f64 = 200.0;
/// And per second from then on.
const RATE: f64 = 20.0;
/// Most addresses that are told apart; further ones share what one may.
const MAX_ADDRESSES: usize = 16_384;
/// Who shares.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How often a full table is looked through, which takes a while.
const SWEEP: Duration = Duration::from_secs(1);

/// A bucket per address.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<IpAddr, Bucket>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn left(&self, now: Instant) -> f64 {
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() * RATE).min(BURST)
    }
}

impl Limit {
    /// Whether an address may ask once more.
    pub(super) fn allows(&self, address: IpAddr, now: Instant) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { buckets, swept } = &mut *table;
        let mut who = network(address);
        if !buckets.contains_key(&who) && buckets.len() >= MAX_ADDRESSES {
            if swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP) {
                // One that is full again is as good as none.
                buckets.retain(|_, bucket| bucket.left(now) < BURST);
                *swept = Some(now);
            }
            if buckets.len() >= MAX_ADDRESSES {
                who = OTHERS;
            }
        }
        let bucket = buckets.entry(who).or_insert(Bucket { left: BURST, at: now });
        let left = bucket.left(now);
        let allowed = left >= 1.0;
        *bucket = Bucket { left: if allowed { left - 1.0 } else { left }, at: now };
        allowed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_nobody_else_does() {
        let (limit, now) = (Limit::default(), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let granted = (0..1000).filter(|_| limit.allows(one, now)).count();
        assert_eq!(granted, BURST as usize);
        assert!(limit.allows(other, now) && !limit.allows("::ffff:10.0.0.1".parse().unwrap(), now));
        assert!(limit.allows(one, now + Duration::from_secs(1)));
    }

    #[test]
    fn a_network_of_ipv6_addresses_counts_as_one() {
        let (limit, now) = (Limit::default(), Instant::now());
        let granted =
            (0..1000_u32).filter(|at| limit.allows(format!("2001:db8::{at:x}").parse().unwrap(), now)).count();
        assert_eq!(granted, BURST as usize);
        assert!(limit.allows("2001:db8:0:1::1".parse().unwrap(), now));
    }

    #[test]
    fn the_table_is_bounded_and_others_share_a_bucket() {
        let (limit, now) = (Limit::default(), Instant::now());
        let granted = (0..60_000_u32).filter(|at| limit.allows(IpAddr::V4(Ipv4Addr::from_bits(at + 1)), now)).count();
        assert_eq!(granted, MAX_ADDRESSES + BURST as usize);
        assert!(limit.0.lock().unwrap().buckets.len() <= MAX_ADDRESSES + 1);
        // Later there is room again.
        assert!(limit.allows("10.0.0.1".parse().unwrap(), now + Duration::from_secs(1)));
    }
}
