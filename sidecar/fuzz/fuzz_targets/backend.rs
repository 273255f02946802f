//! What the server sends. What is read, written and read again, is the same, and takes memory in proportion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::check::backend::check;
use postern_fuzz::memory;

fuzz_target!(|stream: &[u8]| memory::in_proportion(stream.len(), || check(stream)));
