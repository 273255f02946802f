//! What `make bench-cluster` measures, with few objects: what must hold whatever the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use postern_e2e::scale::{Sizes, measure};

#[test]
fn everybody_gets_a_lease_and_each_change_and_a_second_start_writes_nothing() {
    let Some(figures) = measure(&Sizes::SMALL, |_| ()).unwrap() else { return };
    let value = |name: &str| figures.iter().find(|figure| figure.name == name).expect(name).value;
    assert_eq!(value("writes in that"), 0.0);
    for figure in &figures {
        let never = figure.name == "writes in that";
        assert!(figure.value.is_finite() && (never || figure.value >= 0.0), "{figure:?}");
    }
    assert!(value("events a second that are taken in and kept, beside those polls") > 0.0);
}
