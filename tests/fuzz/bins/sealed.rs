#![no_main]

#[path = "../targets/sealed.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
