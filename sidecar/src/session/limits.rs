//! What may leave: rows and bytes of one result, and of all results of an identity over a window of time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postern_crds::{Limits, Window};

use crate::decide::{Denial, Reason};

/// A window is counted in so many slots: what left is forgotten one sixtieth at a time, so that a window's edge never
/// lets twice the budget pass at once.
const SLOTS: usize = 60;

/// The budgets over time of one identity in this sidecar, shared by its sessions.
#[derive(Debug)]
pub struct WindowBudget {
    began: Instant,
    /// By length of the window: there are as many as the policy's rules have.
    rings: Mutex<Vec<(Duration, Ring)>>,
}

#[derive(Debug)]
struct Ring {
    slots: [(u64, u64); SLOTS],
    /// Number of the slot that is filled now, since the beginning.
    at: u64,
    rows: u64,
    bytes: u64,
}

impl Ring {
    const fn new() -> Self {
        Self { slots: [(0, 0); SLOTS], at: 0, rows: 0, bytes: 0 }
    }

    fn advance(&mut self, to: u64) {
        let steps = to.saturating_sub(self.at).min(SLOTS as u64);
        for step in 1..=steps {
            let index = usize::try_from((to - steps + step) % SLOTS as u64).unwrap_or(0);
            if let Some(slot) = self.slots.get_mut(index) {
                self.rows -= slot.0;
                self.bytes -= slot.1;
                *slot = (0, 0);
            }
        }
        self.at = self.at.max(to);
    }

    fn add(&mut self, rows: u64, bytes: u64) {
        let index = usize::try_from(self.at % SLOTS as u64).unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.0 += rows;
            slot.1 += bytes;
            self.rows += rows;
            self.bytes += bytes;
        }
    }
}

impl Default for WindowBudget {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl WindowBudget {
    /// Budgets that nothing was taken from.
    pub const fn new(began: Instant) -> Self {
        Self { began, rings: Mutex::new(Vec::new()) }
    }

    /// Takes from the window's budget; what is over it is not taken, and named.
    pub(super) fn take(&self, window: &Window, rows: u64, bytes: u64, now: Instant) -> Result<(), Over> {
        self.with(window.every, now, |ring| {
            if let Some(limit) = window.rows.filter(|limit| ring.rows + rows > *limit) {
                return Err(Over::WindowRows(limit, window.every));
            }
            if let Some(limit) = window.bytes.filter(|limit| ring.bytes + bytes > *limit) {
                return Err(Over::WindowBytes(limit, window.every));
            }
            ring.add(rows, bytes);
            Ok(())
        })
    }

    /// Takes from the window's budget, whatever is left of it.
    fn take_all(&self, window: &Window, rows: u64, bytes: u64, now: Instant) {
        self.with(window.every, now, |ring| ring.add(rows, bytes));
    }

    /// What is left of the window's budget: rows and bytes.
    pub fn left(&self, window: &Window, now: Instant) -> (Option<u64>, Option<u64>) {
        self.with(window.every, now, |ring| {
            (
                window.rows.map(|limit| limit.saturating_sub(ring.rows)),
                window.bytes.map(|limit| limit.saturating_sub(ring.bytes)),
            )
        })
    }

    fn with<T>(&self, every: Duration, now: Instant, act: impl FnOnce(&mut Ring) -> T) -> T {
        let mut rings = self.rings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !rings.iter().any(|(length, _)| *length == every) {
            rings.push((every, Ring::new()));
        }
        let slot_length = (every.as_nanos() / SLOTS as u128).max(1);
        let slot =
            u64::try_from(now.saturating_duration_since(self.began).as_nanos() / slot_length).unwrap_or(u64::MAX);
        let mut spare = Ring::new();
        let ring = rings.iter_mut().find(|(length, _)| *length == every).map_or(&mut spare, |(_, ring)| ring);
        ring.advance(slot);
        act(ring)
    }
}

/// The limit that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Rows(u64),
    Bytes(u64),
    WindowRows(u64, Duration),
    WindowBytes(u64, Duration),
}

impl Over {
    /// The word in the audit.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Over::Rows(_) => "rows",
            Over::Bytes(_) => "bytes",
            Over::WindowRows(..) => "window_rows",
            Over::WindowBytes(..) => "window_bytes",
        }
    }

    /// As the client is told.
    pub(super) fn denial(self, rule: Option<&str>) -> Denial {
        let (what, field) = match self {
            Over::Rows(limit) => (format!("limit of {limit} rows of one result reached"), "limits.rows"),
            Over::Bytes(limit) => (format!("limit of {limit} bytes of one result reached"), "limits.bytes"),
            Over::WindowRows(limit, every) => {
                (format!("limit of {limit} rows in {} reached", readable(every)), "limits.window.rows")
            }
            Over::WindowBytes(limit, every) => {
                (format!("limit of {limit} bytes in {} reached", readable(every)), "limits.window.bytes")
            }
        };
        let mut denial = Denial::new(Reason::Limit, what).sqlstate("54000").object(field).hint(match self {
            Over::Rows(_) | Over::Bytes(_) => "Ask for fewer rows or columns, for example by a condition or LIMIT.",
            Over::WindowRows(..) | Over::WindowBytes(..) => "The budget fills up again as the window moves on.",
        });
        denial.rule = rule.map(str::to_owned);
        denial
    }
}

fn readable(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What of one result left so far; lives as long as its portal or cursor.
#[derive(Debug, Default)]
pub(super) struct Usage {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Usage {
    /// Counts one row before it passes; what is over a limit must not.
    pub(super) fn count(&self, bytes: u64, limits: &Limits, budget: &WindowBudget) -> Result<(), Over> {
        // Only the session's own task counts here.
        let rows_now = self.rows.load(Ordering::Relaxed) + 1;
        let bytes_now = self.bytes.load(Ordering::Relaxed) + bytes;
        if let Some(limit) = limits.rows.filter(|limit| rows_now > *limit) {
            return Err(Over::Rows(limit));
        }
        if let Some(limit) = limits.bytes.filter(|limit| bytes_now > *limit) {
            return Err(Over::Bytes(limit));
        }
        if let Some(window) = &limits.window {
            budget.take(window, 1, bytes, Instant::now())?;
        }
        self.rows.store(rows_now, Ordering::Relaxed);
        self.bytes.store(bytes_now, Ordering::Relaxed);
        Ok(())
    }
}

impl Usage {
    /// Counts the row of a result that has one at most: it may be the one that is over the window's budget, for nobody
    /// waits for its end; the next statement finds nothing left.
    pub(super) fn count_single(&self, bytes: u64, limits: &Limits, budget: &WindowBudget) -> Result<(), Over> {
        let own = Limits { window: None, ..*limits };
        self.count(bytes, &own, budget)?;
        if let Some(window) = &limits.window {
            budget.take_all(window, 1, bytes, Instant::now());
        }
        Ok(())
    }
}

/// Whether anything of a result has to be counted against a limit.
pub(super) const fn counts(limits: &Limits) -> bool {
    limits.rows.is_some() || limits.bytes.is_some() || limits.window.is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const HOUR: Window = Window { every: Duration::from_secs(3600), rows: Some(100), bytes: Some(1000) };

    #[test]
    fn a_window_is_a_budget_that_comes_back_as_time_passes() {
        let began = Instant::now();
        let budget = WindowBudget::new(began);
        budget.take(&HOUR, 60, 10, began).unwrap();
        let later = began + Duration::from_secs(1800);
        budget.take(&HOUR, 40, 10, later).unwrap();
        assert_eq!(budget.take(&HOUR, 1, 0, later), Err(Over::WindowRows(100, HOUR.every)));
        assert_eq!(budget.left(&HOUR, later), (Some(0), Some(980)));
        let after = began + Duration::from_secs(3660);
        assert_eq!(budget.left(&HOUR, after), (Some(60), Some(990)));
        budget.take(&HOUR, 60, 0, after).unwrap();
        assert_eq!(budget.left(&HOUR, began + Duration::from_secs(100_000)), (Some(100), Some(1000)));
    }

    #[test]
    fn at_no_time_more_than_the_budget_leaves_within_a_window() {
        let began = Instant::now();
        let budget = WindowBudget::new(began);
        let mut taken: Vec<u64> = Vec::new();
        for minute in 0..300_u64 {
            let now = began + Duration::from_secs(minute * 60);
            while budget.take(&HOUR, 1, 0, now).is_ok() {
                taken.push(minute);
            }
            let within = taken.iter().filter(|at| **at + 59 >= minute).count();
            assert!(within <= 100, "{within} at {minute}");
        }
        assert!(taken.len() >= 400);
    }

    #[test]
    fn a_result_is_counted_over_the_life_of_its_portal() {
        let usage = Usage::default();
        let budget = WindowBudget::default();
        let limits = Limits { rows: Some(2), bytes: Some(100), ..Limits::default() };
        usage.count(10, &limits, &budget).unwrap();
        assert_eq!(usage.count(91, &limits, &budget), Err(Over::Bytes(100)));
        usage.count(90, &limits, &budget).unwrap();
        assert_eq!(usage.count(0, &limits, &budget), Err(Over::Rows(2)));
    }
}
