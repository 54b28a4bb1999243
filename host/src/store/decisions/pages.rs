//! Reading many records.

use std::collections::VecDeque;

use super::{DecisionQuery, StoredDecision};
use crate::store::{Error, Store};

/// An iterator over records in the order of the chain, one page at a time: memory use stays flat, and no writer waits
/// for a long read.
pub struct DecisionPages<'a> {
    store: &'a Store,
    query: DecisionQuery,
    after: i64,
    page: VecDeque<StoredDecision>,
    ended: bool,
}

impl Store {
    /// Returns all records of a query, in the order of the chain.
    pub fn decision_pages(&self, query: DecisionQuery) -> DecisionPages<'_> {
        DecisionPages { store: self, query, after: 0, page: VecDeque::new(), ended: false }
    }
}

impl Iterator for DecisionPages<'_> {
    type Item = Result<StoredDecision, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        const PAGE: u32 = 64;
        if self.page.is_empty() && !self.ended {
            match self.store.decisions_after(&self.query, self.after, PAGE) {
                Ok(page) => {
                    self.ended = page.len() < PAGE as usize;
                    self.page = page.into();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let next = self.page.pop_front()?;
        self.after = next.number;
        Some(Ok(next))
    }
}
