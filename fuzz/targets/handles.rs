#![no_main]

#[allow(dead_code, reason = "each uses one of them")]
#[path = "../../wire/tests/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::handles(data));
