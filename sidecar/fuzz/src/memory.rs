//! Counts what is allocated.

use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// Runs `work` on so many bytes of input, and holds that it takes memory for what is there, not for what is claimed.
pub fn in_proportion(input: usize, work: impl FnOnce()) {
    let before = COUNTED.current_usage();
    COUNTED.reset_peak_usage();
    work();
    let taken = COUNTED.peak_usage().saturating_sub(before);
    assert!(taken <= (64 << 10) + 64 * input, "{taken} bytes were taken for {input} bytes of input");
}
