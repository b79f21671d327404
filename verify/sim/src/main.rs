//! Simulates the whole library in virtual time, under faults.

fn main() {}
