//! Long verbs: the answer is their progress as events, or their result at the end.

use axum::body::Bytes;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::error::Problem;
use crate::api::http::idempotency::{Begun, Once};
use crate::api::http::stream::{self, Source, Wants};
use crate::api::routes::health::answer;
use crate::lifecycle::{Error, for_this_caller};
use crate::wire::Progress;

/// Steps that wait for a slow client; further steps are dropped.
const WAITING: usize = 256;

/// The callback for the progress of a verb.
pub(in crate::api) type Report = Box<dyn FnMut(Progress) + Send>;

/// Carries out a verb to its end, whether its client waits or not. Metrics count it by its name.
pub(in crate::api) async fn carry_out<T, F, Verb>(
    (api, caller): (&Api, &Caller),
    name: &'static str,
    (wants, once): (&Wants, Option<Once>),
    verb: F,
) -> Result<Response, Problem>
where
    T: Serialize,
    Verb: Future<Output = Result<T, Error>> + Send + 'static,
    F: FnOnce(Report) -> Verb + Send + 'static,
{
    if api.stopping() {
        return Err(Problem::stopping());
    }
    let turn = api.verbs.take(caller)?;
    if let Some(once) = &once
        && let Begun::Answered(answer) = once.begin(api, wants)?
    {
        return Ok(answer);
    }
    let (handle, caller) = (api.handle.clone(), caller.clone());
    let (to, steps) = mpsc::channel(WAITING);
    let once = once.map(|once| once.run(api.handle.clone()));
    let task = async move {
        // The client may be gone or slow.
        let report = move |progress: Progress| drop(to.try_send(progress));
        let result = handle.metrics().verb(name, verb(Box::new(report))).await;
        let result = result.map_err(|error| Problem::told(error, &caller)).and_then(|made| {
            // Serialized here, so that the recorded and the sent answer are the same.
            serde_json::to_value(&made).map_err(Problem::internal)
        });
        if let Some(once) = once {
            once.end(&result);
        }
        drop(turn);
        result
    };
    let task = tokio::spawn(for_this_caller(task).in_current_span());
    if wants.events {
        return Ok(stream::verb(Telling { steps, task: Some(task) }));
    }
    answer(&task.await.map_err(Problem::internal)??)
}

struct Telling {
    steps: mpsc::Receiver<Progress>,
    task: Option<JoinHandle<Result<Value, Problem>>>,
}

impl Source for Telling {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if let Some(step) = self.steps.recv().await {
            return Ok(Some(stream::event(Some("progress"), None, &step)?));
        }
        match self.task.take() {
            Some(task) => {
                let value = task.await.map_err(Problem::internal)??;
                Ok(Some(stream::event(Some("result"), None, &value)?))
            }
            None => Ok(None),
        }
    }
}
