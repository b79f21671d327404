#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leaselock_fuzz::store_url(input));
