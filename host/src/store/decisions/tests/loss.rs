//! Ends that are cut off, restored or wiped are reported until they are acknowledged; and anchors.

use super::*;

/// Cuts the chain after a record, in every place of the database that names the end.
fn cut(number: i64) -> String {
    format!(
        "delete from decisions where number > {number};
         update sqlite_sequence set seq = {number} where name = 'decisions'; delete from meta where key = 'decisions-head'"
    )
}

/// Deletes everything of the chain in the database.
const WIPED: &str = "delete from decisions; delete from sqlite_sequence where name = 'decisions'; delete from meta where key = 'decisions-head'";

#[test]
fn what_was_cut_off_stays_reported_until_it_is_acknowledged_and_the_acknowledgement_is_a_record() {
    for (index, (sql, without_file, expected)) in [
        (cut(5), false, "record 6 and all up to 8 are missing"),
        (cut(5), true, "its signed end is missing"),
        (WIPED.to_owned(), false, "record 1 and all up to 8 are missing"),
        ("delete from meta where key = 'decisions-head'".to_owned(), false, "its signed end is missing"),
        ("delete from meta where key = 'decisions-head'".to_owned(), true, "its signed end is missing"),
        (String::new(), true, "decisions.head, is missing"),
        ("delete from decisions where number = 4".to_owned(), false, "record 4 is missing"),
    ]
    .into_iter()
    .enumerate()
    {
        let (_dir, store) = store_of(&format!("lost-{index}"), 8);
        let (_copy, copied) = damaged(&store, &format!("lost-copy-{index}"), &sql);
        if without_file {
            std::fs::remove_file(copied.dir().join(outside::FILE)).unwrap();
        }
        assert!(said(&copied).contains(expected), "{sql}: {}", said(&copied));
        // Later decisions do not hide the loss, in this process or another.
        copied.append(&[decision("w", 0)]).unwrap();
        assert_ne!(said(&copied), "", "{sql}");
        let again = Store::open(copied.dir()).unwrap();
        again.append(&[decision("w", 0), decision("w", 0)]).unwrap();
        let before = said(&again);
        assert_ne!(before, "", "{sql}");

        let acknowledged = again.acknowledge("the disk was full", "ada").unwrap();
        let verified = again.verify(None).unwrap();
        assert_eq!(verified.damages, [], "{sql}");
        assert_eq!(verified.acknowledged, std::slice::from_ref(&acknowledged));
        assert_eq!(acknowledged.damages.join("; "), before, "{sql}");
        assert!(matches!(again.acknowledge("again", "ada"), Err(Error::NothingLost { .. })));
        // The chain continues from there, and later damage is found as usual.
        again.append(&[decision("w", 0), decision("w", 0)]).unwrap();
        assert_eq!(said(&again), "");
        let newest = again.newest_decision().unwrap();
        again.connection().execute("delete from decisions where number = ?1", [newest - 1]).unwrap();
        assert!(said(&again).contains(&format!("record {} is missing", newest - 1)), "{}", said(&again));
        // Pruning removes the loss together with its acknowledgement.
        let none = again.prune_decisions(Timestamp::MIN, 3).unwrap();
        assert!(none > 0);
    }
}

#[test]
fn a_loss_can_be_acknowledged_before_anything_else_is_decided() {
    for (index, sql) in [cut(5), WIPED.to_owned(), cut(0)].into_iter().enumerate() {
        let (_dir, store) = store_of(&format!("lost-at-once-{index}"), 8);
        let (_copy, copied) = damaged(&store, &format!("lost-at-once-copy-{index}"), &sql);
        assert!(said(&copied).contains("all up to 8 are missing"));
        let number = copied.acknowledge("a drill", "ada").unwrap().number;
        assert_eq!((number, said(&copied)), (9, String::new()));
        copied.append(&[decision("w", 0)]).unwrap();
        assert_eq!(said(&copied), "");
        // The listed records are decisions.
        let listed = copied.decisions_after(&DecisionQuery::default(), 0, 100).unwrap();
        assert!(listed.iter().all(|one| one.number != number && one.decision().is_ok()));
        assert_eq!(copied.decision(&number.to_string()).unwrap(), None);
    }
}

#[test]
fn an_acknowledgement_covers_what_it_names_and_nothing_else() {
    let (_dir, store) = store_of("covers", 8);
    let (_copy, copied) = damaged(&store, "covers-copy", &cut(5));
    copied.acknowledge("known", "ada").unwrap();
    copied.append(&[decision("w", 0)]).unwrap();
    for (index, (sql, expected)) in [
        // More records are cut off in the same place.
        ("delete from decisions where number = 5", "record 5 and all up to 8 are missing"),
        // The record before it is changed.
        ("update decisions set body = replace(body, '\"w\"', '\"v\"') where number = 5", "record 5 was changed"),
        // The acknowledgement itself is removed, edited, or forged.
        ("delete from decisions where number = 9", "record 6 and all up to 9 are missing"),
        ("update decisions set body = replace(body, 'known', 'fine') where number = 9", "record 9 was changed"),
        (
            "delete from decisions where number = 2;
             insert into decisions (number, id, time, hook, workspace, body, previous, hash)
             select 2, 'x', time, hook, workspace, body, previous, hash from decisions where number = 9",
            "record 2",
        ),
    ]
    .iter()
    .enumerate()
    {
        let (_again, again) = damaged(&copied, &format!("covers-{index}"), sql);
        assert!(said(&again).contains(expected), "{sql}: {}", said(&again));
    }
    // An acknowledgement that another key has signed does not count.
    let (_other, other) = store_of("covers-other", 8);
    let (_forged, forged) = damaged(&other, "covers-forged", &cut(5));
    forged.append(&[decision("w", 0)]).unwrap();
    let body: String =
        copied.connection().query_row("select body from decisions where number = 9", [], |row| row.get(0)).unwrap();
    forged
        .connection()
        .execute("update decisions set hook = 'acknowledgement', body = ?1 where number = 9", [body])
        .unwrap();
    assert!(said(&forged).contains("record 6 and all up to 8 are missing"), "{}", said(&forged));
}

#[test]
fn what_was_edited_cannot_be_acknowledged() {
    let (_dir, store) = store_of("edited", 4);
    let error = store.acknowledge("nothing", "ada").unwrap_err();
    assert_eq!(error.to_string(), "no decision records are lost");
    let (_copy, copied) = damaged(&store, "edited-copy", "update decisions set body = body || ' ' where number = 2");
    let error = copied.acknowledge("it is fine", "ada").unwrap_err();
    assert!(error.to_string().contains("but record 2 was changed"), "{error}");
    assert!(said(&copied).contains("record 2 was changed"));
}

#[test]
fn an_old_end_that_is_put_back_is_found() {
    let (_dir, store) = store_of("replayed", 5);
    let head = |store: &Store| -> String {
        store
            .connection()
            .query_row("select value from meta where key = 'decisions-head'", [], |row| row.get(0))
            .unwrap()
    };
    let (old, old_file) = (head(&store), std::fs::read(store.dir().join(outside::FILE)).unwrap());
    store.append(&[decision("w", 0), decision("w", 0)]).unwrap();
    let put_back = |store: &Store| {
        store.connection().execute_batch(&cut(5)).unwrap();
        store.connection().execute("insert into meta (key, value) values ('decisions-head', ?1)", [&old]).unwrap();
    };
    let (_one, one) = damaged(&store, "replayed-1", "");
    put_back(&one);
    assert!(said(&one).contains("record 6 and all up to 7 are missing"), "{}", said(&one));
    one.append(&[decision("w", 0)]).unwrap();
    assert!(said(&one).contains("record 6 and all up to 7 are missing"), "{}", said(&one));
    // The file is missing, or another file is in its place.
    for (index, with) in [None, Some(&b"{}"[..]), Some(b"")].into_iter().enumerate() {
        let (_two, two) = damaged(&store, &format!("replayed-2-{index}"), "");
        put_back(&two);
        let file = two.dir().join(outside::FILE);
        match with {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        assert!(said(&two).contains("decisions.head"), "{}", said(&two));
        two.append(&[decision("w", 0)]).unwrap();
        assert!(said(&two).contains("does not follow"), "{}", said(&two));
    }
    // If the file is restored too, only a witness elsewhere reveals it.
    let anchors = Anchor::read_all("a".as_ref(), &store.anchor().unwrap().to_string()).unwrap();
    let (_three, three) = damaged(&store, "replayed-3", "");
    put_back(&three);
    std::fs::write(three.dir().join(outside::FILE), &old_file).unwrap();
    assert_eq!(said(&three), "");
    let damages = three.verify_against(None, &anchors, true).unwrap().damages;
    assert!(damages[0].to_string().contains("the chain ends with record 5, but the anchor of"), "{damages:?}");
}

#[test]
fn a_process_that_dies_before_it_wrote_the_file_has_done_no_harm() {
    let (_dir, store) = store_of("behind", 4);
    let file = store.dir().join(outside::FILE);
    let before = std::fs::read(&file).unwrap();
    store.append(&[decision("w", 0), decision("w", 0)]).unwrap();
    std::fs::write(&file, &before).unwrap();
    assert_eq!(said(&store), "");
    store.append(&[decision("w", 0)]).unwrap();
    assert_eq!(said(&store), "");
    assert_ne!(std::fs::read(&file).unwrap(), before);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // The process died while it wrote.
    std::fs::write(store.dir().join(".decisions.head.new"), "{").unwrap();
    store.append(&[decision("w", 0)]).unwrap();
    assert_eq!(said(&store), "");
}

#[test]
fn a_store_of_an_older_wharf_which_kept_no_file_goes_on() {
    let (_dir, store) = store_of("older", 3);
    std::fs::remove_file(store.dir().join(outside::FILE)).unwrap();
    let key = store.key().unwrap();
    {
        let mut connection = store.connection();
        let hash: String =
            connection.query_row("select hash from decisions where number = 3", [], |row| row.get(0)).unwrap();
        let transaction = connection.transaction().unwrap();
        let head = serde_json::json!({ "host": store.host_id(), "number": 3, "hash": hash });
        put_signed(&transaction, HEAD, key, &head).unwrap();
        transaction.commit().unwrap();
    }
    assert_eq!(said(&store), "");
    store.append(&[decision("w", 0)]).unwrap();
    assert_eq!(said(&store), "");
    assert!(store.dir().join(outside::FILE).exists());
}

#[test]
fn an_anchor_holds_against_the_chain_that_it_was_taken_of_and_no_other() {
    let (_dir, store) = store_of("anchor", 4);
    let anchor = store.anchor().unwrap();
    let all = Anchor::read_all("a".as_ref(), &format!("{anchor}\n\n{anchor}\n")).unwrap();
    assert_eq!(all, [anchor.clone(), anchor.clone()]);
    let against = |store: &Store| -> Vec<String> {
        store.verify_against(None, &all[..1], true).unwrap().damages.iter().map(ToString::to_string).collect()
    };
    store.append(&[decision("w", 0)]).unwrap();
    assert_eq!(against(&store), Vec::<String>::new());
    let (_other, other) = store_of("anchor-other", 6);
    assert!(against(&other)[0].contains("was signed with another key"), "{:?}", against(&other));
    let (_copy, wiped) = damaged(&store, "anchor-wiped", WIPED);
    std::fs::remove_file(wiped.dir().join(outside::FILE)).unwrap();
    assert!(against(&wiped)[0].contains("there are no records, but the anchor of"), "{:?}", against(&wiped));
    // Other records with the same numbers, signed by the same key.
    wiped.append(&[decision("v", 0), decision("v", 0), decision("v", 0), decision("v", 0)]).unwrap();
    assert!(
        against(&wiped).iter().any(|what| what.contains("record 4 differs from the one in the anchor")),
        "{:?}",
        against(&wiped)
    );
    assert!(wiped.anchor().is_err() || said(&wiped).is_empty());
    // Pruned records, and acknowledged losses, are no damage.
    let (_pruned, pruned) = damaged(&store, "anchor-pruned", "");
    pruned.prune_decisions(Timestamp::MIN, 1).unwrap();
    assert_eq!(against(&pruned), Vec::<String>::new());
    let (_lost, lost) = damaged(&store, "anchor-lost", &cut(2));
    assert!(!against(&lost).is_empty());
    lost.acknowledge("known", "ada").unwrap();
    assert_eq!(against(&lost), Vec::<String>::new());
    for text in ["", "\n", "nonsense", "{}"] {
        assert!(matches!(Anchor::read_all("a".as_ref(), text), Err(Error::BadAnchor { .. })), "{text}");
    }
    let forged = anchor.to_string().replace("\\\"number\\\":4", "\\\"number\\\":3");
    assert_ne!(forged, anchor.to_string());
    let forged = Anchor::read_all("a".as_ref(), &forged).unwrap();
    let damages = store.verify_against(None, &forged, true).unwrap().damages;
    assert!(damages[0].to_string().contains("its signature does not match"), "{damages:?}");
}
