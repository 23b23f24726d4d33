//! Proofs across crates: preload suites, differential tests, benches against peers.
