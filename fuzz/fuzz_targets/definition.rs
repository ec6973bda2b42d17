#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bgfiles_fuzz::definition(input));
