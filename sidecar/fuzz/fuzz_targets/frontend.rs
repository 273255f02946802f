//! What a client sends after its start-up. What is read, written again, is what was read, and takes memory in proportion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::check::frontend::check;
use postern_fuzz::memory;

fuzz_target!(|stream: &[u8]| memory::in_proportion(stream.len(), || check(stream)));
