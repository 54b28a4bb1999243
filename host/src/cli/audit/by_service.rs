//! `wharf audit` through a service: its records, and new ones as they come.

use std::time::Duration;

use super::{ListArgs, print_if};
use crate::cli::{Context, Failure};
use crate::client::{Client, Error, Events, Problem};
use crate::lifecycle::{OutcomeKind, RecordFilter, RecordView};
use crate::store::StoredDecision;
use crate::workspace::url_encoded;

/// Where they are.
const RECORDS: &str = "/v1/decisions";
/// Where new ones come.
const STREAM: &str = "/v1/decisions/stream";
/// Most records that are asked for at once.
const PAGE: usize = 200;
/// Waits before a service that went away is asked again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A list that has not come to its end is given up when nothing came for so long.
const STILL: Duration = Duration::from_secs(60);

type Words = Vec<(&'static str, String)>;

/// One record, by number or id.
pub(super) async fn record(client: &Client, wanted: &str) -> Result<StoredDecision, Failure> {
    Ok(stored(client.get(&format!("{RECORDS}/{}", url_encoded(wanted)), &[]).await?))
}

/// As the store has it.
fn stored(RecordView { number, hash, decision }: RecordView) -> StoredDecision {
    StoredDecision { number, hash, body: decision.to_string() }
}

/// Lists records, and goes on with new ones where that is wanted.
pub(super) async fn list(context: &Context, client: &Client, args: &ListArgs) -> Result<u8, Failure> {
    // What a stream has no words for is looked at here.
    let times = RecordFilter { since: args.since, until: args.until, ..RecordFilter::default() };
    // New ones are listened for first, so that none is lost between them and the others.
    let mut new = Following::new(client, args, None);
    if args.follow {
        new.open().await?;
    }
    let mut seen = 0;
    if args.limit == 0 {
        // The newest says where all of them end; they come in order from the first one on.
        if let Some(newest) = newest(client, args, 1).await?.first().map(|newest| newest.number) {
            let mut all = Following::new(client, args, Some("0".to_owned()));
            all.open().await?;
            while seen < newest {
                let Ok(stored) = tokio::time::timeout(STILL, all.next(context, false)).await else {
                    let text = format!("the service at {} says nothing more before record {newest}", client.server());
                    return Err(Failure::new(
                        "service-answer",
                        text,
                        "it may have been pruned meanwhile: try again",
                        1,
                    ));
                };
                let stored = stored?;
                seen = stored.number;
                if seen <= newest {
                    print_if(context, &stored, &|decision| times.holds(decision))?;
                }
            }
            seen = newest;
        }
    } else {
        for stored in newest(client, args, args.limit).await?.iter().rev() {
            seen = stored.number;
            print_if(context, stored, &|_| true)?;
        }
    }
    if !args.follow {
        return Ok(0);
    }
    loop {
        tokio::select! {
            stored = new.next(context, true) => {
                let stored = stored?;
                if stored.number > seen {
                    print_if(context, &stored, &|decision| times.holds(decision))?;
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(130),
        }
    }
}

/// The newest so many, newest first.
async fn newest(client: &Client, args: &ListArgs, most: usize) -> Result<Vec<StoredDecision>, Failure> {
    let mut words = words(args);
    words.extend(args.since.map(|time| ("since", time.to_string())));
    words.extend(args.until.map(|time| ("until", time.to_string())));
    words.push(("limit", most.min(PAGE).to_string()));
    let query: Vec<(&str, &str)> = words.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (mut all, mut next): (Vec<RecordView>, _) = client.page(RECORDS, &query).await?;
    // A page may be empty and not the last one: the service looks through so many records at once.
    while let Some(link) = next.filter(|_| all.len() < most) {
        let (some, after) = client.page(&link, &[]).await?;
        all.extend(some);
        next = after;
    }
    all.truncate(most);
    Ok(all.into_iter().map(stored).collect())
}

/// What is asked for, but times.
fn words(args: &ListArgs) -> Words {
    let outcome = args.outcome.map(|outcome| match OutcomeKind::from(outcome) {
        OutcomeKind::Allowed => "allowed",
        OutcomeKind::Denied => "denied",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Actions => "actions",
        OutcomeKind::Sweep => "sweep",
    });
    let all = [
        ("workspace", args.workspace.clone()),
        ("hook", args.hook.map(|hook| hook.to_string())),
        ("policy", args.policy.clone()),
        ("outcome", outcome.map(str::to_owned)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A stream of records, which goes on behind the last one that was seen.
struct Following<'a> {
    client: &'a Client,
    words: Words,
    last: Option<String>,
    events: Option<Events>,
    /// How long is waited before the next attempt, while the service does not answer.
    wait: Option<Duration>,
}

impl<'a> Following<'a> {
    fn new(client: &'a Client, args: &ListArgs, last: Option<String>) -> Self {
        Self { client, words: words(args), last, events: None, wait: None }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let query: Vec<(&str, &str)> = self.words.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.events = Some(self.client.events(STREAM, &query, self.last.as_deref()).await?);
        Ok(())
    }

    /// The next record. With `again`, also over ends of the service.
    async fn next(&mut self, context: &Context, again: bool) -> Result<StoredDecision, Failure> {
        loop {
            let Some(events) = &mut self.events else {
                self.reopen(context).await?;
                continue;
            };
            let event = events.next().await;
            self.last = events.last_id().map(str::to_owned).or(self.last.take());
            let cause = match event {
                Ok(Some(event)) => match event.event.as_str() {
                    "" => {
                        let server = self.client.server();
                        let strange = |cause: serde_json::Error| Error::Answer { server, cause: cause.to_string() };
                        return Ok(stored(event.value().map_err(strange)?));
                    }
                    "problem" => {
                        let problem: Problem = event.value().map_err(std::io::Error::other)?;
                        return Err(Error::Problem(Box::new(problem)).into());
                    }
                    "gap" if again => {
                        context.out.notice("some of what was decided meanwhile is not kept any more");
                        continue;
                    }
                    _ => continue,
                },
                Err(error) if !again => return Err(error.into()),
                Ok(None) => "the service ended the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            if !again {
                return Err(Error::Unreachable { server: self.client.server(), cause }.into());
            }
            context.out.notice(&format!("{cause}; trying again"));
            self.events = None;
            self.wait = Some(AGAIN.0);
        }
    }

    async fn reopen(&mut self, context: &Context) -> Result<(), Failure> {
        tokio::time::sleep(self.wait.unwrap_or(AGAIN.0)).await;
        match self.open().await {
            Ok(()) => {
                self.wait = None;
                context.out.notice("connected to the service again; it goes on behind what was seen");
                Ok(())
            }
            Err(error) if error.is_away() => {
                self.wait = Some((self.wait.unwrap_or(AGAIN.0) * 2).min(AGAIN.1));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
