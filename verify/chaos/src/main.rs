//! Kills, freezes and cuts off real processes on real stores.

fn main() {}
