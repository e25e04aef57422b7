//! Random bits from the system, by the system call itself.
//!
//! The usual crates look `getrandom` up in the C library, do not find it in a static program, and then want
//! `/dev/urandom`, which an empty image does not have.

use rustix::rand::{GetRandomFlags, getrandom};
use std::hash::{BuildHasher, RandomState};

/// 64 random bits.
pub fn bits() -> u64 {
    let mut bytes = [0; 8];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(8) => u64::from_le_bytes(bytes),
        // The standard library seeds its hashes from the same source, and has a way out of its own.
        _ => RandomState::new().hash_one(bytes),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_alike() {
        assert_ne!(super::bits(), super::bits());
    }
}
