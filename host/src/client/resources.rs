//! All methods besides the verbs on workspaces: images, snapshots, volumes, secrets, files, leases, cleanup, policies,
//! records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::verbs::{Report, path};
use super::{Client, Download, Error};
use crate::app::PolicyView;
use crate::config::Span;
use crate::lifecycle::{IdleView, Idleness, ImageView, PathView, StatsView, SweepReport, VolumeView, WorkspaceView};
use crate::records::{HistoryRow, RecordFilter, RecordView, Replayed, ShadowSummary};
use crate::store::{ChainStatus, LedgerEntry, Snapshot};
use crate::wire::{
    BuildRequest, CleanupTarget, Empty, Lease, LeaseRequest, PrunedImages, PullRequest, ReplayRequest, RestoreRequest,
    SecretBytes, SecretNames, SnapshotRequest, SweepRequest,
};
use crate::workspace::{Event, url_encoded};

/// The limit of records per page.
const RECORDS: usize = 200;
/// The limit of requested entries of the ledger.
const LEDGER: &str = "1000";

/// Names and values of a query that is built here.
pub(super) type Words = Vec<(&'static str, String)>;

pub(super) fn pairs(words: &Words) -> Vec<(&str, &str)> {
    words.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Returns the query for a filter of records, except for its times.
pub(super) fn record_words(filter: &RecordFilter, workspace: Option<&str>) -> Words {
    let all = [
        ("workspace", workspace.map(str::to_owned)),
        ("hook", filter.hook.map(|hook| hook.to_string())),
        ("policy", filter.policy.clone()),
        ("outcome", filter.outcome.map(|outcome| outcome.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Each method answers as the command of its name does; see [`Error`] for its errors.
#[allow(missing_docs, clippy::missing_errors_doc)]
impl Client {
    pub async fn images(&self) -> Result<Vec<ImageView>, Error> {
        self.get("/v1/images", &[]).await
    }

    pub async fn pull_image(&self, reference: &str, report: Report<'_>) -> Result<(), Error> {
        let body = PullRequest { reference: reference.to_owned() };
        self.long::<PullRequest>("/v1/images/pull", &[], &body, report).await.map(drop)
    }

    pub async fn build_image(&self, request: &BuildRequest, report: Report<'_>) -> Result<ImageView, Error> {
        self.long("/v1/images/build", &[], request, report).await
    }

    pub async fn remove_image(&self, image: &str) -> Result<(), Error> {
        self.delete::<Vec<String>>(&format!("/v1/images/{}", url_encoded(image)), &[]).await.map(drop)
    }

    pub async fn prune_images(&self) -> Result<PrunedImages, Error> {
        self.post("/v1/images/prune", &Empty {}).await
    }

    pub async fn create_snapshot(
        &self,
        workspace: &str,
        name: Option<&str>,
        report: Report<'_>,
    ) -> Result<Snapshot, Error> {
        let body = SnapshotRequest { name: name.map(str::to_owned) };
        self.long(&path(workspace, "snapshots"), &[], &body, report).await
    }

    /// Lists the snapshots of one workspace, or of all.
    pub async fn snapshots(&self, workspace: Option<&str>) -> Result<Vec<Snapshot>, Error> {
        let query: Vec<_> = workspace.map(|name| ("workspace", name)).into_iter().collect();
        self.get("/v1/snapshots", &query).await
    }

    pub async fn restore_snapshot(
        &self,
        snapshot: &str,
        request: &RestoreRequest,
        report: Report<'_>,
    ) -> Result<WorkspaceView, Error> {
        self.long(&format!("/v1/snapshots/{}/restore", url_encoded(snapshot)), &[], request, report).await
    }

    pub async fn remove_snapshot(&self, snapshot: &str) -> Result<Snapshot, Error> {
        self.delete(&format!("/v1/snapshots/{}", url_encoded(snapshot)), &[]).await
    }

    pub async fn volumes(&self) -> Result<Vec<VolumeView>, Error> {
        self.get("/v1/volumes", &[]).await
    }

    pub async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        self.delete::<Empty>(&format!("/v1/volumes/{}", url_encoded(name)), &[]).await.map(drop)
    }

    pub async fn secrets(&self, workspace: &str) -> Result<SecretNames, Error> {
        self.get(&path(workspace, "secrets"), &[]).await
    }

    pub async fn set_secret(&self, workspace: &str, name: &str, value: SecretBytes) -> Result<SecretNames, Error> {
        self.put(&path(workspace, &format!("secrets/{}", url_encoded(name))), value.0).await
    }

    pub async fn remove_secret(&self, workspace: &str, name: &str) -> Result<SecretNames, Error> {
        self.delete(&path(workspace, &format!("secrets/{}", url_encoded(name))), &[]).await
    }

    /// Reads a file or folder as an archive.
    pub async fn copy_out(&self, workspace: &str, file: &str) -> Result<Download, Error> {
        self.download(&path(workspace, "files"), &[("path", file)]).await
    }

    /// Returns the kind of a path that is the target of a copy.
    pub async fn path_kind(&self, workspace: &str, file: &str) -> Result<PathView, Error> {
        self.get(&path(workspace, "files/kind"), &[("path", file)]).await
    }

    /// Unpacks an archive into a folder.
    pub async fn unpack(
        &self,
        workspace: &str,
        folder: &str,
        pieces: mpsc::Receiver<std::io::Result<bytes::Bytes>>,
    ) -> Result<(), Error> {
        self.upload::<Empty>(&path(workspace, "files"), &[("path", folder)], pieces).await.map(drop)
    }

    pub async fn all_idleness(&self) -> Result<Vec<Idleness>, Error> {
        self.get("/v1/idle", &[]).await
    }

    pub async fn idleness(&self, workspace: &str) -> Result<IdleView, Error> {
        self.get(&path(workspace, "idle"), &[]).await
    }

    pub async fn leased(&self, workspace: &str) -> Result<Lease, Error> {
        self.get(&path(workspace, "lease"), &[]).await
    }

    /// Takes a lease from now on, by the clock of the service.
    pub async fn lease(&self, workspace: &str, time: Span) -> Result<Lease, Error> {
        self.post(&path(workspace, "lease"), &LeaseRequest { time }).await
    }

    pub async fn release(&self, workspace: &str) -> Result<Lease, Error> {
        self.delete(&path(workspace, "lease"), &[]).await
    }

    pub async fn sweep(&self, request: &SweepRequest) -> Result<SweepReport, Error> {
        self.post("/v1/cleanup/sweep", request).await
    }

    pub async fn ledger(&self, all: bool) -> Result<Vec<LedgerEntry>, Error> {
        let mut query = vec![("limit", LEDGER)];
        query.extend(all.then_some(("all", "true")));
        self.get("/v1/cleanup", &query).await
    }

    pub async fn undo_cleanup(&self, which: &str) -> Result<LedgerEntry, Error> {
        self.post("/v1/cleanup/undo", &CleanupTarget { which: which.to_owned() }).await
    }

    pub async fn allow_cleanup(&self, which: &str) -> Result<LedgerEntry, Error> {
        self.post("/v1/cleanup/allow", &CleanupTarget { which: which.to_owned() }).await
    }

    /// Returns a reading of all workspaces.
    pub async fn stats(&self) -> Result<Vec<StatsView>, Error> {
        self.get("/v1/stats", &[]).await
    }

    /// Returns a reading of a workspace and its sidecars.
    pub async fn stats_of(&self, workspace: &str) -> Result<Vec<StatsView>, Error> {
        self.get(&path(workspace, "stats"), &[]).await
    }

    /// Returns the readings of a period in steps.
    pub async fn history(
        &self,
        workspace: &str,
        (since, until): (Timestamp, Timestamp),
        step_ms: i64,
    ) -> Result<Vec<HistoryRow>, Error> {
        let words = vec![("since", since.to_string()), ("until", until.to_string()), ("step", format!("{step_ms}ms"))];
        self.get(&path(workspace, "metrics"), &pairs(&words)).await
    }

    /// Returns the events of a past period.
    pub async fn past_events(
        &self,
        workspace: Option<&str>,
        since: Option<Timestamp>,
        until: Timestamp,
    ) -> Result<Vec<Event>, Error> {
        let mut words: Words = Vec::new();
        words.extend(workspace.map(|name| ("workspace", name.to_owned())));
        words.extend(since.map(|since| ("since", since.to_string())));
        words.extend([("until", until.to_string()), ("limit", "1000".to_owned())]);
        self.pages("/v1/events", &pairs(&words)).await
    }

    pub async fn policies(&self) -> Result<Vec<PolicyView>, Error> {
        self.get("/v1/policies", &[]).await
    }

    pub async fn reload_policies(&self) -> Result<ChainStatus, Error> {
        self.post("/v1/policies/reload", &Empty {}).await
    }

    pub async fn shadows(
        &self,
        policy: Option<&str>,
        since: Timestamp,
    ) -> Result<BTreeMap<String, ShadowSummary>, Error> {
        let since = since.to_string();
        let mut query = vec![("since", since.as_str())];
        query.extend(policy.map(|policy| ("policy", policy)));
        self.get("/v1/policies/shadows", &query).await
    }

    pub async fn replay(&self, request: &ReplayRequest) -> Result<Replayed, Error> {
        self.post("/v1/decisions/replay", request).await
    }

    /// Returns one record, by number or ID.
    pub async fn record(&self, wanted: &str) -> Result<RecordView, Error> {
        self.get(&format!("/v1/decisions/{}", url_encoded(wanted)), &[]).await
    }

    /// Returns the newest records that match a filter, newest first, up to a number. `workspace` is the filter's
    /// workspace.
    pub async fn newest_records(
        &self,
        filter: &RecordFilter,
        workspace: Option<&str>,
        most: usize,
    ) -> Result<Vec<RecordView>, Error> {
        let mut words = record_words(filter, workspace);
        words.extend(filter.since.map(|time| ("since", time.to_string())));
        words.extend(filter.until.map(|time| ("until", time.to_string())));
        words.push(("limit", most.min(RECORDS).to_string()));
        let (mut all, mut next): (Vec<RecordView>, _) = self.page("/v1/decisions", &pairs(&words)).await?;
        // An empty page need not be the last one: the service examines a limited number of records per request.
        while let Some(link) = next.filter(|_| all.len() < most) {
            let (some, after) = self.page(&link, &[]).await?;
            all.extend(some);
            next = after;
        }
        all.truncate(most);
        Ok(all)
    }
}
