#![no_main]

#[allow(dead_code, unused_imports, reason = "each uses one of them")]
#[path = "../../tests/random/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::typed(data));
