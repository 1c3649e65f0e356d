//! How large the stacks of threads are that do one thing. A process that locks its memory holds each stack whole,
//! so the 2 MiB that a thread gets by itself are 2 MiB of memory.

/// Ten times what any of them was seen to use: 25 KiB, by the thread that writes a journal. The rest is for a
/// panic's words.
pub const PLAIN_BYTES: usize = 256 << 10;
