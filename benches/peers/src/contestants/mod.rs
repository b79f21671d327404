//! One file for each whose locks are measured.

pub mod etcd;
pub mod floor;
pub mod leaselock;
pub mod naive;
pub mod postgres;
pub mod redis;
pub mod redlock;
pub mod zookeeper;
