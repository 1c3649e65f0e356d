//! Benchmarks only: see `benches/hot_path.rs`. Run them with `cargo bench -p benches`.
