//! The history of events, and the state of each container that follows from them.
//!
//! `wharf serve` records them as events arrive. The history is limited by count and age. The state of a container is
//! removed with the container.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{Error, Store, from_json, statement, to_json};
use crate::workspace::{ContainerState, Event, Happening, WorkspaceId};

/// The effect of an event in [`Store::note_event`].
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// Whether it was not known before.
    pub new: bool,
    /// The container's state before it, if one was known.
    pub before: Option<ContainerState>,
    /// The container's state now.
    pub state: ContainerState,
}

/// The selection of events from the history.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only this workspace and its sidecars; none means all.
    pub workspace: Option<WorkspaceId>,
    /// At or after this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

impl Store {
    /// Stores an event and the resulting state, both or none. An event that is already known changes nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn note_event(&self, event: &Event) -> Result<Noted, Error> {
        let what = "save an event";
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        let new = transaction
            .prepare_cached(
                "insert or ignore into events (time_ns, workspace, part_of, container, what, exit_code, detail)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    nanos(event.time),
                    event.workspace.as_str(),
                    event.part_of.as_ref().map(WorkspaceId::as_str),
                    event.container_id,
                    event.what.as_str(),
                    event.exit_code,
                    event.detail
                ])
            })
            .map_err(statement(what))?
            == 1;
        let before = read_state(&transaction, &event.container_id)?;
        let mut state = before.clone().unwrap_or_else(|| ContainerState {
            part_of: event.part_of.clone(),
            ..ContainerState::new(event.container_id.clone(), event.workspace.clone(), event.time)
        });
        if new {
            state.apply(event);
            match event.what {
                Happening::Removed => {
                    transaction
                        .execute("delete from states where container = ?1", [&event.container_id])
                        .map_err(statement(what))?;
                }
                _ => write_state(&transaction, &state)?,
            }
        }
        transaction.commit().map_err(statement(what))?;
        Ok(Noted { new, before, state })
    }

    /// Stores the state of a container from the engine's list of containers.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_state(&self, state: &ContainerState) -> Result<(), Error> {
        write_state(&self.connection(), state)
    }

    /// Returns the state of one container, if it is known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state(&self, container_id: &str) -> Result<Option<ContainerState>, Error> {
        read_state(&self.connection(), container_id)
    }

    /// Returns the states of all containers, by workspace.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn states(&self) -> Result<Vec<ContainerState>, Error> {
        let what = "read the states";
        let connection = self.connection();
        let mut query =
            connection.prepare_cached("select body from states order by workspace").map_err(statement(what))?;
        let rows = query.query_map([], |row| row.get::<_, String>(0)).map_err(statement(what))?;
        rows.map(|text| from_json(&text.map_err(statement(what))?, what)).collect()
    }

    /// Returns the times to live of workspaces that have one, in milliseconds, by container.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn times_to_live(&self) -> Result<HashMap<String, u64>, Error> {
        let what = "read the times to live";
        let connection = self.connection();
        // Records are long and most have no time to live, so they are not decoded.
        let mut query = connection
            .prepare_cached(
                "select body ->> '$.container_id', body ->> '$.draft.spec.time_to_live_ms' as limited
                 from workspaces where limited is not null",
            )
            .map_err(statement(what))?;
        // SQLite's integers are signed; a larger value is returned as a float.
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, f64>(1)? as u64));
        let rows = query.query_map([], row).map_err(statement(what))?;
        rows.map(|row| row.map_err(statement(what))).collect()
    }

    /// Returns the history, oldest first; at most the newest `most` events.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events(&self, query: &EventQuery, most: u32) -> Result<Vec<Event>, Error> {
        let what = "read the history";
        let workspace = query.workspace.as_ref().map(WorkspaceId::as_str);
        let connection = self.connection();
        let mut select = connection
            .prepare_cached(
                "select time_ns, workspace, part_of, container, what, exit_code, detail from events
                 where (?1 is null or workspace = ?1 or part_of = ?1)
                   and time_ns >= ?2 and time_ns < ?3 order by time_ns desc, number desc limit ?4",
            )
            .map_err(statement(what))?;
        let since = query.since.map_or(i64::MIN, nanos);
        let until = query.until.map_or(i64::MAX, nanos);
        let rows = select.query_map(params![workspace, since, until, most], read_event).map_err(statement(what))?;
        let mut events = Vec::new();
        for row in rows {
            events.push(row.map_err(statement(what))?.map_err(|cause| Error::Statement { what, cause })?);
        }
        events.reverse();
        Ok(events)
    }

    /// Returns events after a number, in the order in which they were stored, each with its number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_after(&self, query: &EventQuery, number: i64, most: u32) -> Result<Vec<(i64, Event)>, Error> {
        let what = "read the history";
        let workspace = query.workspace.as_ref().map(WorkspaceId::as_str);
        let connection = self.connection();
        let mut select = connection
            .prepare_cached(
                "select time_ns, workspace, part_of, container, what, exit_code, detail, number from events
                 where number > ?4 and (?1 is null or workspace = ?1 or part_of = ?1)
                   and time_ns >= ?2 and time_ns < ?3 order by number limit ?5",
            )
            .map_err(statement(what))?;
        let since = query.since.map_or(i64::MIN, nanos);
        let until = query.until.map_or(i64::MAX, nanos);
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(7)?, read_event(row)?));
        let rows = select.query_map(params![workspace, since, until, number, most], row).map_err(statement(what))?;
        let mut events = Vec::new();
        for row in rows {
            let (number, event) = row.map_err(statement(what))?;
            events.push((number, event.map_err(|cause| Error::Statement { what, cause })?));
        }
        Ok(events)
    }

    /// Returns the numbers of the oldest and the newest stored event.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn event_range(&self) -> Result<Option<(i64, i64)>, Error> {
        let read = |row: &Row<'_>| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?));
        self.connection()
            .query_row("select (select min(number) from events), (select max(number) from events)", [], read)
            .map_err(statement("read the history"))
    }

    /// Returns how often an event happened to a workspace since a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn count_events(&self, id: &WorkspaceId, what: Happening, since: Timestamp) -> Result<u32, Error> {
        self.connection()
            .query_row(
                "select count(*) from events where workspace = ?1 and what = ?2 and time_ns >= ?3",
                params![id.as_str(), what.as_str(), nanos(since)],
                |row| row.get(0),
            )
            .map_err(statement("count events"))
    }

    /// Returns the time of the newest event from the engine, if there is one: the engine is queried again from this
    /// time on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn last_engine_event(&self) -> Result<Option<Timestamp>, Error> {
        let what = "read the history";
        let own = to_json(&Happening::OWN, what)?;
        let newest: Option<i64> = self
            .connection()
            .query_row(
                "select time_ns from events where what not in (select value from json_each(?1))
                 order by time_ns desc limit 1",
                [own],
                |row| row.get(0),
            )
            .optional()
            .map_err(statement(what))?;
        Ok(newest.and_then(|time| Timestamp::from_nanosecond(time.into()).ok()))
    }

    /// Removes events that are older than `before`, and the oldest beyond `most`. Returns their number.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn trim_events(&self, before: Timestamp, most: u32) -> Result<usize, Error> {
        self.connection()
            .execute(
                "delete from events where time_ns < ?1
                 or number <= (select max(number) from events) - ?2",
                params![nanos(before), most],
            )
            .map_err(statement("trim the history"))
    }
}

fn read_state(connection: &Connection, container: &str) -> Result<Option<ContainerState>, Error> {
    let what = "read a state";
    let text: Option<String> = connection
        .prepare_cached("select body from states where container = ?1")
        .and_then(|mut query| query.query_row([container], |row| row.get(0)).optional())
        .map_err(statement(what))?;
    text.map(|text| from_json(&text, what)).transpose()
}

fn write_state(connection: &Connection, state: &ContainerState) -> Result<(), Error> {
    let what = "save a state";
    let body = to_json(state, what)?;
    connection
        .prepare_cached(
            "insert into states (container, workspace, body) values (?1, ?2, ?3)
             on conflict (container) do update set workspace = ?2, body = ?3",
        )
        .and_then(|mut insert| insert.execute(params![state.container_id, state.workspace.as_str(), body]))
        .map_err(statement(what))?;
    Ok(())
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Result<Event, String>> {
    let (time, workspace, what): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
    let (part_of, container_id): (Option<String>, String) = (row.get(2)?, row.get(3)?);
    let (exit_code, detail) = (row.get(5)?, row.get(6)?);
    Ok((|| {
        Ok(Event {
            time: Timestamp::from_nanosecond(time.into()).map_err(|error| error.to_string())?,
            workspace: workspace.parse()?,
            part_of: part_of.map(|id| id.parse()).transpose()?,
            container_id,
            what: what.parse()?,
            exit_code,
            detail,
        })
    })())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Dir;
    use super::*;
    use crate::workspace::State;

    fn event(second: i64, name: &str, what: Happening) -> Event {
        Event {
            time: Timestamp::from_second(second).unwrap(),
            workspace: WorkspaceId::derive(name, "/p"),
            part_of: (name == "side").then(|| WorkspaceId::derive("even", "/p")),
            container_id: format!("container-{name}"),
            what,
            exit_code: (what == Happening::Exited).then_some(3),
            detail: None,
        }
    }

    #[test]
    fn an_event_and_its_state_are_kept_once_however_often_it_is_told() {
        let dir = Dir::new("states");
        let store = Store::open(&dir.0).unwrap();
        let started = event(2, "a", Happening::Started);
        assert!(store.note_event(&event(1, "a", Happening::Created)).unwrap().new);
        let first = store.note_event(&started).unwrap();
        assert!(first.new && first.before.unwrap().state == State::Created && first.state.state == State::Running);
        store.note_event(&event(3, "a", Happening::Exited)).unwrap();
        // The event is repeated after a break of the stream.
        let again = store.note_event(&started).unwrap();
        assert!(!again.new && again.state.state == State::Exited);
        let states = store.states().unwrap();
        assert_eq!((states.len(), states[0].state, states[0].exit_code), (1, State::Exited, Some(3)));
        let whats: Vec<_> = store.events(&EventQuery::default(), 10).unwrap().iter().map(|event| event.what).collect();
        assert_eq!(whats, [Happening::Created, Happening::Started, Happening::Exited]);
        store.note_event(&event(4, "a", Happening::Removed)).unwrap();
        assert_eq!(store.states().unwrap(), []);
        assert_eq!(store.events(&EventQuery::default(), 10).unwrap().len(), 4);
    }

    #[test]
    fn the_history_is_read_by_workspace_and_time_and_the_newest_are_kept() {
        let dir = Dir::new("history");
        let store = Store::open(&dir.0).unwrap();
        for second in 1..=9 {
            store.note_event(&event(second, if second % 2 == 0 { "even" } else { "odd" }, Happening::Started)).unwrap();
        }
        store.note_event(&event(20, "odd", Happening::Recovered)).unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(store.last_engine_event().unwrap(), at(9), "what Wharf did itself is no event of the engine");
        let id = |name| Some(WorkspaceId::derive(name, "/p"));
        let seconds = |workspace, since, until, most| -> Vec<i64> {
            let query = EventQuery { workspace, since, until };
            store.events(&query, most).unwrap().iter().map(|event| event.time.as_second()).collect()
        };
        assert_eq!(seconds(id("even"), None, None, 9), [2, 4, 6, 8]);
        assert_eq!(seconds(id("odd"), at(3), at(9), 9), [3, 5, 7]);
        assert_eq!(seconds(None, None, at(20), 3), [7, 8, 9]);
        assert_eq!(store.count_events(&id("odd").unwrap(), Happening::Started, at(5).unwrap()).unwrap(), 3);
        store.note_event(&event(21, "side", Happening::Started)).unwrap();
        assert_eq!(seconds(id("even"), at(7), None, 9), [8, 21], "a sidecar belongs to its workspace");
        let numbers = |workspace, since, after, most| -> Vec<i64> {
            let query = EventQuery { workspace, since, until: None };
            store.events_after(&query, after, most).unwrap().iter().map(|(number, _)| *number).collect()
        };
        assert_eq!(numbers(None, None, 3, 2), [4, 5]);
        assert_eq!((numbers(id("even"), at(6), 2, 9), store.event_range().unwrap()), (vec![6, 8, 11], Some((1, 11))));
        assert_eq!(store.trim_events(at(3).unwrap(), 5).unwrap(), 6);
        assert_eq!(store.event_range().unwrap(), Some((7, 11)));
        assert_eq!(seconds(None, None, None, 9), [7, 8, 9, 20, 21]);
    }
}
