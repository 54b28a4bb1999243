//! Records: look-up of the store's decisions and readings by users and programs. It needs no engine.
//!
//! Lists and single records, explanations of fields, replays, reports of shadows, and past readings. `lifecycle` is
//! the layer above.

mod error;
mod explain;
mod find;
mod history;
mod list;
mod replay;
mod shadows;
mod why;

pub use error::Error;
pub use explain::{Bound, Explained, Link, explain, place};
pub use find::{Target, find_among, find_stored};
pub(crate) use find::{one, pick};
pub use history::{History, HistoryPoint, HistoryRow, history};
pub use list::{OutcomeKind, RecordFilter, RecordPage, RecordView, find_record, newest_records, recorded_workspace};
pub use replay::{Example, FlipGroup, Replayed, replay_decisions};
pub use shadows::{ShadowDifference, ShadowSummary, shadow_report};
pub use why::{RecordNumber, Why, why};
