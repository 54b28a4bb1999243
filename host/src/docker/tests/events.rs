//! The event stream with broken connections.

use super::*;
use crate::docker::{EventItem, EventOptions, EventStream};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Returns an event at the given number of seconds after 1,000,000,000, as the engine writes it.
fn line(second: u64, action: &str) -> String {
    format!(
        "{{\"Type\":\"container\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"c\",\"Attributes\":{{\"exitCode\":\"3\"}}}},\"timeNano\":{}}}\n",
        (1_000_000_000 + second) * 1_000_000_000 + 7
    )
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Returns a stream that sends these lines and stays open.
fn open(lines: &[String]) -> Answer {
    Answer::Hold(format!("{HEAD}{}", lines.iter().map(|line| chunk(line)).collect::<String>()).into_bytes())
}

/// Returns a stream that sends these lines and is closed by the engine.
fn closed(lines: &[String]) -> Answer {
    let body: String = lines.iter().map(|line| chunk(line)).collect();
    Answer::Raw(format!("{HEAD}{body}0\r\n\r\n").into_bytes())
}

async fn listen(fake: &Fake) -> EventStream {
    fake.connect().await.unwrap().events(EventOptions::default()).await.unwrap()
}

/// Returns the next item as a word: the action, `lost`, `back` or `gap`.
async fn next(stream: &mut EventStream) -> String {
    let item = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("an item in time");
    match item {
        Some(EventItem::Event(event)) => event.action,
        Some(EventItem::Lost(_)) => "lost".into(),
        Some(EventItem::Resumed { gap }) => if gap { "gap" } else { "back" }.into(),
        None => "end".into(),
    }
}

async fn words(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(next(stream).await);
    }
    words
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_without_loss_or_duplicate() {
    // Request 0 is the ping.
    let fake = Fake::engine(|_, count| match count {
        1 => closed(&[line(1, "create"), line(2, "start")]),
        _ => open(&[line(1, "create"), line(2, "start"), line(3, "die"), line(4, "destroy")]),
    });
    let mut stream = listen(&fake).await;
    assert_eq!(words(&mut stream, 6).await, ["create", "start", "lost", "back", "die", "destroy"]);
    let seen = fake.seen();
    assert!(!seen[1].contains("since="), "{}", seen[1]);
    // One second before the last event seen.
    assert!(seen[2].ends_with("&since=1000000001.000000007"), "{}", seen[2]);
}

#[tokio::test]
async fn an_engine_that_has_forgotten_the_last_event_is_a_gap() {
    let fake = Fake::engine(|_, count| match count {
        1 => closed(&[line(1, "start")]),
        2 => closed(&[line(9, "die")]),
        _ => open(&[]),
    });
    let mut stream = listen(&fake).await;
    assert_eq!(words(&mut stream, 5).await, ["start", "lost", "gap", "die", "lost"]);
    // Silence proves nothing either.
    assert_eq!(next(&mut stream).await, "gap");
}

#[tokio::test]
async fn an_engine_that_is_away_for_a_while_is_said_to_be_lost_once() {
    let fake = Fake::engine(|_, count| match count {
        1 => closed(&[line(1, "start")]),
        2..6 => Answer::Close,
        _ => open(&[line(1, "start"), line(2, "die")]),
    });
    let mut stream = listen(&fake).await;
    assert_eq!(words(&mut stream, 4).await, ["start", "lost", "back", "die"]);
    assert_eq!(fake.seen().len(), 7);
}

#[tokio::test]
async fn an_event_that_is_cut_into_pieces_is_one_and_one_that_cannot_be_read_is_a_gap() {
    let whole = line(1, "health_status: healthy");
    let (a, b) = whole.split_at(30);
    let lines = [a.to_owned(), b.to_owned(), "{\"no\": \"event\"}\n".to_owned(), line(2, "die")];
    let fake = Fake::engine(move |_, _| open(&lines));
    let mut stream = listen(&fake).await;
    assert_eq!(words(&mut stream, 3).await, ["health_status: healthy", "gap", "die"]);
}

#[tokio::test]
async fn an_event_tells_time_object_and_attributes_and_a_line_without_end_is_bounded() {
    let endless = "x".repeat(2 << 20);
    let fake = Fake::engine(move |_, count| match count {
        1 => open(&[line(5, "die"), endless.clone()]),
        _ => open(&[line(5, "die"), line(6, "start")]),
    });
    let mut stream = listen(&fake).await;
    let Some(EventItem::Event(event)) = stream.next().await else { panic!("an event") };
    assert_eq!((event.kind.as_str(), event.actor.as_str()), ("container", "c"));
    assert_eq!(event.time.as_nanosecond(), 1_000_000_005_000_000_007);
    assert_eq!(event.attributes["exitCode"], "3");
    assert_eq!(words(&mut stream, 3).await, ["lost", "back", "start"]);
}

#[tokio::test]
async fn a_stream_with_an_end_ends_and_the_engine_filters() {
    let fake = Fake::engine(|_, _| closed(&[line(1, "start")]));
    let options = EventOptions {
        labels: vec![("wharf.host".to_owned(), "h".to_owned())],
        kinds: vec!["container"],
        actions: vec!["die"],
        since: Some(jiff::Timestamp::from_second(5).unwrap()),
        until: Some(jiff::Timestamp::from_second(2_000_000_000).unwrap()),
    };
    let past = EventOptions { until: Some(jiff::Timestamp::from_second(1_000_000_002).unwrap()), ..options.clone() };
    let docker = fake.connect().await.unwrap();
    let mut stream = docker.events(past).await.unwrap();
    assert_eq!(words(&mut stream, 3).await, ["start", "end", "end"]);
    let path = fake.seen()[1].replace("%22", "\"").replace("%5B", "[").replace("%5D", "]").replace("%3D", "=");
    for part in [
        "\"label\":[\"wharf.host=h\"]",
        "\"type\":[\"container\"]",
        "\"event\":[\"die\"]",
        "since=5.000000000",
        "until=1000000002.000000000",
    ] {
        assert!(path.contains(part), "{part} in {path}");
    }
    // A stream that is closed before `until` counts as broken.
    let mut stream = docker.events(options).await.unwrap();
    assert_eq!(words(&mut stream, 3).await, ["start", "lost", "back"]);
}
