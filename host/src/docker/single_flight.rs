//! Shares one answer of the engine among all callers that asked before the request started.
//!
//! A list of a hundred containers costs the engine 9 ms, and a service with many clients needs it for most requests.
//! A caller that arrives during a request waits for the next request, which all waiting callers share. No caller gets
//! an answer that is older than its question.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::error::Result;

/// The shared answers to one question.
#[derive(Debug)]
pub(super) struct SingleFlight<T> {
    /// The number of requests started.
    asked: AtomicU64,
    /// The number of the last completed request and its answer; none if it failed.
    last: Mutex<(u64, Option<T>)>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), last: Mutex::new((0, None)) }
    }
}

impl<T: Clone> SingleFlight<T> {
    /// Asks the question, or returns the answer to a request that started after this call.
    ///
    /// # Errors
    /// The errors of the question. No caller gets another caller's error: after a failure, each waiting caller asks
    /// by itself at once.
    pub(super) async fn ask(&self, question: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        let before = self.asked.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.0 > before {
            if let Some(answer) = &last.1 {
                return Ok(answer.clone());
            }
            drop(last);
            return question().await;
        }
        // If the future is dropped here, the request is not recorded as completed, and the next caller asks.
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = question().await;
        *last = (number, answer.as_ref().ok().cloned());
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::error::Error;
    use super::*;

    /// Returns a number that increases with each request, after a while.
    async fn count(shared: Arc<SingleFlight<u64>>, times: Arc<AtomicU64>, fail: bool) -> Result<u64> {
        let question = async || {
            let number = times.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            match fail {
                true => Err(Error::Protocol { operation: "count", cause: "no".into() }),
                false => Ok(number),
            }
        };
        shared.ask(question).await
    }

    #[tokio::test]
    async fn all_who_come_while_it_is_asked_share_the_next_answer_and_none_is_older_than_its_question() {
        let (shared, times) = (Arc::new(SingleFlight::default()), Arc::new(AtomicU64::new(0)));
        let first = tokio::spawn(count(shared.clone(), times.clone(), false));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let others: Vec<_> = (0..10).map(|_| tokio::spawn(count(shared.clone(), times.clone(), false))).collect();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), 2, "the first one was asked before it came");
        }
        assert_eq!(count(shared.clone(), times.clone(), false).await.unwrap(), 3, "it came after all of them");
    }

    #[tokio::test]
    async fn an_error_is_nobody_elses_and_who_gives_up_keeps_nobody_waiting() {
        let (shared, times) = (Arc::new(SingleFlight::default()), Arc::new(AtomicU64::new(0)));
        let first = tokio::spawn(count(shared.clone(), times.clone(), true));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let failing = tokio::spawn(count(shared.clone(), times.clone(), true));
        let fine = tokio::spawn(count(shared.clone(), times.clone(), false));
        assert!(first.await.unwrap().is_err());
        assert!(failing.await.unwrap().is_err());
        assert!(fine.await.unwrap().is_ok());
        let gone = tokio::spawn(count(shared.clone(), times.clone(), false));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let waiting = tokio::spawn(count(shared.clone(), times.clone(), false));
        tokio::time::sleep(Duration::from_millis(5)).await;
        gone.abort();
        assert!(waiting.await.unwrap().is_ok());
    }
}
