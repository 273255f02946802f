//! SQL to decision. Any text is decided, twice alike; what is sent instead is SQL in which masked relations are views; and
//! what is remembered of a text's shape is what is decided of it alone.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use postern_fuzz::check::decision::Decisions;
use postern_fuzz::recorded;

static DECISIONS: LazyLock<Decisions> = LazyLock::new(recorded::decisions);

fuzz_target!(|text: &[u8]| {
    // What isn't UTF-8 is refused before it is a text; a NUL byte ends it.
    if let Ok(text) = std::str::from_utf8(text) {
        DECISIONS.check(text);
    }
});
