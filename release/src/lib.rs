//! The road of a signature: every proof of I1, in I1's order. Each step consumes the one before,
//! and only this crate makes them, so that skipping a step does not compile.
//!
//! ```text
//! Permit --announce--> SigningOrder --prove--> Proven --record--> Recorded --committed--> Committed --release--> Release
//! ```
//!
//! Whoever signs, an upstream or the emergency signer, sees an [`Order`] and answers bytes that
//! nobody believes yet. The whole road:
//!
//! ```
//! use audit::Journal;
//! use release::{Context, Provenance, Release, RequiredSink, Signs, announce};
//! use signing_core::evidence::Evidence;
//! use signing_core::gate::{Permit, Snapshot};
//! use signing_core::{AttemptsId, Moment, Refusal, ToBeSigned};
//!
//! async fn road(
//!     (journal, permit, input): (&Journal, Permit, ToBeSigned),
//!     (context, provenance): (Context<'_>, Provenance<'_>),
//!     (attempts, signs): (AttemptsId, Option<Signs>),
//!     answer: Result<Vec<u8>, Evidence>,
//!     (gates, now, wall): (&Snapshot, Moment, time::OffsetDateTime),
//!     sink: &RequiredSink,
//! ) -> Result<Release, Refusal> {
//!     let order = announce(journal, permit, input, context, (attempts, signs))?;
//!     let proven = order.prove(answer).map_err(|failed| failed.record(journal))?;
//!     let recorded = proven.record(journal, provenance).await?;
//!     let committed = recorded.committed(sink).map_err(|late| late.not_committed().record(journal))?;
//!     committed.release(gates, now, wall).map_err(|withheld| withheld.record(journal))
//! }
//! ```
//!
//! None of these compiles. A durable record of something else stands for a signature's:
//!
//! ```compile_fail
//! fn forge(proven: release::Proven, durable: audit::Durable) -> release::Recorded {
//!     let release::Proven { permit, intent, signature, .. } = proven;
//!     release::Recorded { permit, about: intent.about, signature, durable, witnessed: None }
//! }
//! ```
//!
//! A signature is released of which the required sink of the trail was not asked:
//!
//! ```compile_fail
//! use signing_core::{Moment, gate::Snapshot};
//! fn forge(
//!     recorded: release::Recorded,
//!     gates: &Snapshot,
//!     (now, wall): (Moment, time::OffsetDateTime),
//! ) -> Result<release::Release, release::Withheld> {
//!     recorded.release(gates, now, wall)
//! }
//! ```
//!
//! ```compile_fail
//! fn forge(recorded: release::Recorded) -> release::Committed {
//!     release::Committed(recorded)
//! }
//! ```
//!
//! An intent that announced something else stands for an order's:
//!
//! ```compile_fail
//! use signing_core::{ToBeSigned, gate::Permit};
//! fn forge(
//!     (permit, intent, input): (Permit, audit::IntentSeq, ToBeSigned),
//!     attempts: release::Attempts,
//! ) -> release::SigningOrder {
//!     release::SigningOrder { permit, intent, input, attempts }
//! }
//! ```
//!
//! An answer that nobody verified is recorded as signed:
//!
//! ```compile_fail
//! async fn forge(
//!     order: release::SigningOrder,
//!     journal: &audit::Journal,
//!     provenance: release::Provenance<'_>,
//! ) -> Result<release::Recorded, signing_core::Refusal> {
//!     order.record(journal, provenance).await
//! }
//! ```
//!
//! A signature without a record is released:
//!
//! ```compile_fail
//! use signing_core::{Moment, gate::Snapshot};
//! fn forge(
//!     proven: release::Proven,
//!     gates: &Snapshot,
//!     (now, wall): (Moment, time::OffsetDateTime),
//! ) -> Result<release::Release, release::Withheld> {
//!     proven.release(gates, now, wall)
//! }
//! ```
//!
//! What a session admitted goes to an upstream, or the reverse:
//!
//! ```compile_fail
//! use signing_core::gate::{Permit, Session, Upstream};
//! fn forge(order: release::SigningOrder<Permit<Session>>) -> release::SigningOrder<Permit<Upstream>> {
//!     order
//! }
//! ```
//!
//! ```compile_fail
//! use signing_core::gate::{Permit, Session, Upstream};
//! fn forge(order: release::SigningOrder<Permit<Upstream>>) -> release::SigningOrder<Permit<Session>> {
//!     order
//! }
//! ```
//!
//! A canary is released:
//!
//! ```compile_fail
//! use signing_core::evidence::Evidence;
//! fn forge(canary: release::CanaryOrder, answer: Result<Vec<u8>, Evidence>) -> Option<release::Proven> {
//!     canary.prove(answer).ok()
//! }
//! ```

mod attempts;
mod batch;
mod intent;
mod order;
mod probes;
mod record;
mod release;
mod required;

pub use attempts::{Attempts, Signs};
pub use batch::{AnnouncedLeaf, BatchOrder, BatchOutcome};
pub use intent::Context;
pub use order::{CanaryOrder, Failed, Order, Proven, SigningOrder, announce};
pub use probes::{Operation, ProbeCalls, Probes, Purpose};
pub use record::{Provenance, Recorded};
pub use release::{Committed, Release, Withheld};
pub use required::{FalseCommit, RequiredSink, SinkError, Stated, Unknown};
