//! The packets before the first message. What is read, written again, is what was read, and takes memory in proportion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::check::startup::check;
use postern_fuzz::memory;

fuzz_target!(|stream: &[u8]| memory::in_proportion(stream.len(), || check(stream)));
