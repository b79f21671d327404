//! Model checks the protocol that ships.

fn main() {}
