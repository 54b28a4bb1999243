//! Queues of work, one per workspace: items of a workspace run one after the other, workspaces run concurrently.

use std::collections::{HashMap, VecDeque};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::{Stop, stopped};
use crate::workspace::WorkspaceId;

/// The limit of items that wait in one queue.
const MOST: usize = 64;

/// Processes each incoming item in the queue of its workspace. When a stop is requested, running items are finished
/// and no new ones start. If a queue overflows, its oldest items are dropped and reported to `dropped`.
pub(super) async fn run<T, F: Future<Output = ()>>(
    mut items: mpsc::Receiver<(WorkspaceId, T)>,
    mut stop: Stop,
    work: impl Fn(T) -> F,
    dropped: impl Fn(&WorkspaceId),
) {
    let mut lanes: HashMap<WorkspaceId, VecDeque<T>> = HashMap::new();
    let mut busy = FuturesUnordered::new();
    let begin = |lane: WorkspaceId, item: T| {
        let work = work(item);
        async move {
            work.await;
            lane
        }
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(lane) = busy.next(), if !busy.is_empty() => {
                match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                    Some(item) => busy.push(begin(lane, item)),
                    None => drop(lanes.remove(&lane)),
                }
            }
            item = items.recv() => {
                let Some((lane, item)) = item else { break };
                match lanes.get_mut(&lane) {
                    Some(waiting) => {
                        if waiting.len() == MOST {
                            waiting.pop_front();
                            dropped(&lane);
                        }
                        waiting.push_back(item);
                    }
                    None => {
                        lanes.insert(lane.clone(), VecDeque::new());
                        busy.push(begin(lane, item));
                    }
                }
            }
        }
    }
    while busy.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_slow_workspace_does_not_hold_up_another_and_keeps_its_order() {
        let (to, items) = mpsc::channel(100);
        let (halt, stop) = tokio::sync::watch::channel(false);
        let (slow, quick) = (WorkspaceId::derive("slow", "/"), WorkspaceId::derive("quick", "/"));
        for number in 0..3 {
            to.send((slow.clone(), ("slow", number))).await.unwrap();
        }
        to.send((quick, ("quick", 0))).await.unwrap();
        let done = RefCell::new(Vec::new());
        let work = async |(name, number)| {
            if name == "slow" {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            done.borrow_mut().push((name, number));
        };
        drop(to);
        run(items, stop, work, |_| panic!("nothing is dropped")).await;
        // After the end of the items, running work is completed.
        assert_eq!(done.into_inner()[..2], [("quick", 0), ("slow", 0)]);
        drop(halt);
    }

    #[tokio::test]
    async fn a_lane_is_bounded_and_what_has_begun_is_finished_at_the_end() {
        let (to, items) = mpsc::channel(200);
        let (halt, stop) = tokio::sync::watch::channel(false);
        let lane = WorkspaceId::derive("a", "/");
        for number in 0..(MOST + 11) {
            to.send((lane.clone(), number)).await.unwrap();
        }
        let (done, dropped) = (RefCell::new(Vec::new()), RefCell::new(0));
        let work = async |number| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            done.borrow_mut().push(number);
        };
        tokio::join!(run(items, stop, work, |_| *dropped.borrow_mut() += 1), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            halt.send(true).unwrap();
        });
        assert_eq!((done.into_inner(), dropped.into_inner()), (vec![0], 10));
    }
}
