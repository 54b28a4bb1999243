//! Decision records.
//!
//! Every method fails with [`Error`].

use std::collections::VecDeque;
use std::time::Duration;

use super::{Backend, Error};
use crate::client::{Client, Followed, Follower};
use crate::records::{RecordFilter, RecordView, Target, find_record, newest_records, recorded_workspace};
use crate::store::{DecisionQuery, Store, StoredDecision};

/// The interval of polls for new records in the store of this machine.
const LOOK: Duration = Duration::from_millis(200);
/// The time without progress after which the list of all records of a service is given up.
const STILL: Duration = Duration::from_secs(60);
/// Records per read from the store.
const PAGE: u32 = 256;

/// An item of a stream of records.
#[derive(Debug)]
pub enum RecordItem {
    /// A record.
    Record(StoredDecision),
    /// A message about the stream: a break, or a gap.
    Notice(String),
}

/// Records in order: the existing ones, then new ones.
pub struct RecordStream {
    ready: VecDeque<StoredDecision>,
    filter: RecordFilter,
    source: Source,
    /// The number of the last record that was returned or skipped.
    seen: i64,
    follow: bool,
}

enum Source {
    Here(Box<Store>, DecisionQuery),
    Service {
        new: Box<Follower>,
        /// All records from the first one up to this number.
        all: Option<(Box<Follower>, i64)>,
    },
}

impl Backend {
    /// Returns one record, by number or ID.
    pub async fn record(&self, wanted: &str) -> Result<StoredDecision, Error> {
        match &self.service {
            Some(client) => Ok(stored(client.record(wanted).await?)),
            None => Ok(find_record(&self.store().await?, wanted)?),
        }
    }

    /// Returns the newest records that match a filter, in their order, up to a number (0: all); with `follow`, new
    /// records follow. The workspace may be a removed one.
    pub async fn records(
        &self,
        mut filter: RecordFilter,
        workspace: Option<&str>,
        most: usize,
        follow: bool,
    ) -> Result<RecordStream, Error> {
        if let Some(client) = &self.service {
            return of_service(client, filter, workspace, most, follow).await;
        }
        let store = self.store().await?;
        let about = |name: &str| recorded_workspace(&store, &Target::Named(name.to_owned()));
        filter.workspace = workspace.map(about).transpose()?;
        let query = filter.query();
        // Later records are read after the newest record of this moment.
        let newest = store.decisions_before(&DecisionQuery::default(), i64::MAX, 1)?;
        let newest = newest.first().map_or(0, |newest| newest.number);
        let mut ready = VecDeque::new();
        if most > 0 {
            let page = newest_records(&store, &filter, newest.saturating_add(1), most, usize::MAX)?;
            ready.extend(page.records.into_iter().rev());
        }
        let seen = if most > 0 { newest } else { 0 };
        let source = Source::Here(Box::new(store), query);
        Ok(RecordStream { ready, filter, source, seen, follow })
    }
}

async fn of_service(
    client: &Client,
    filter: RecordFilter,
    workspace: Option<&str>,
    most: usize,
    follow: bool,
) -> Result<RecordStream, Error> {
    // The stream of new records is opened first, so that none is lost between the two.
    let mut new = client.follow_records(&filter, workspace, None);
    if follow {
        new.open().await?;
    }
    let newest = client.newest_records(&filter, workspace, most.max(1)).await?;
    let seen = newest.first().map_or(0, |newest| newest.number);
    let (mut ready, mut all) = (VecDeque::new(), None);
    if most > 0 {
        ready.extend(newest.into_iter().rev().map(stored));
    } else if seen > 0 {
        // They come in order from the first one on.
        let mut follower = client.follow_records(&filter, workspace, Some(0)).once();
        follower.open().await?;
        all = Some((Box::new(follower), seen));
    }
    Ok(RecordStream { ready, filter, source: Source::Service { new: Box::new(new), all }, seen, follow })
}

impl RecordStream {
    /// Returns the next item; `None` at the end. Records that do not decode are returned too.
    pub async fn next(&mut self) -> Result<Option<RecordItem>, Error> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(RecordItem::Record(record)));
            }
            match &mut self.source {
                Source::Here(store, query) => {
                    let some = store.decisions_after(query, self.seen, PAGE)?;
                    let Some(last) = some.last().map(|last| last.number) else {
                        if !self.follow {
                            return Ok(None);
                        }
                        tokio::time::sleep(LOOK).await;
                        continue;
                    };
                    self.seen = last;
                    let filter = &self.filter;
                    let wanted =
                        |stored: &StoredDecision| stored.decision().map_or(true, |decision| filter.holds(&decision));
                    self.ready.extend(some.into_iter().filter(wanted));
                }
                Source::Service { all: Some((follower, newest)), .. } => {
                    let newest = *newest;
                    let Ok(item) = tokio::time::timeout(STILL, follower.next()).await else {
                        let server = follower.client().server();
                        let cause = format!("no data for {} s before record {newest}", STILL.as_secs());
                        return Err(crate::client::Error::Answer { server, cause }.into());
                    };
                    let record = match item? {
                        Followed::Event(event) if event.event.is_empty() => stored(follower.read(&event)?),
                        _ => continue,
                    };
                    let number = record.number;
                    if number >= newest
                        && let Source::Service { all, .. } = &mut self.source
                    {
                        *all = None;
                    }
                    if number <= newest {
                        self.hand_out(record);
                    }
                }
                Source::Service { all: None, .. } if !self.follow => return Ok(None),
                Source::Service { new, all: None } => match new.next().await? {
                    Followed::Event(event) if event.event.is_empty() => {
                        let record = stored(new.read(&event)?);
                        if record.number > self.seen {
                            self.hand_out(record);
                        }
                    }
                    Followed::Event(event) if event.event == "gap" => {
                        let text = "some decisions since then were already pruned";
                        return Ok(Some(RecordItem::Notice(text.to_owned())));
                    }
                    Followed::Event(_) => {}
                    Followed::Lost(cause) => return Ok(Some(RecordItem::Notice(format!("{cause}; trying again")))),
                    Followed::Resumed => {
                        let text = "connected to the service again; continuing after the last record";
                        return Ok(Some(RecordItem::Notice(text.to_owned())));
                    }
                },
            }
        }
    }

    /// Queues a record if the filter's times match: the query of a stream has no times, so they are checked here.
    fn hand_out(&mut self, record: StoredDecision) {
        let times = RecordFilter { since: self.filter.since, until: self.filter.until, ..RecordFilter::default() };
        if record.decision().map_or(true, |decision| times.holds(&decision)) {
            self.ready.push_back(record);
        }
    }
}

/// Converts a record into its stored form.
fn stored(RecordView { number, hash, decision }: RecordView) -> StoredDecision {
    StoredDecision { number, hash, body: decision.to_string() }
}
