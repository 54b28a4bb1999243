//! Images and snapshots through a service (`--server`): the same output, errors and exit codes.

use super::remote::Both;
use crate::support::engine_api::BASE;

#[test]
fn images_are_built_listed_and_removed_by_a_service() {
    let both = Both::new();
    both.sandbox.write("project/Dockerfile", format!("FROM {BASE}\nARG WORD\nRUN echo $WORD > /built\n"));
    let tag = format!("{}:1", both.sandbox.name().to_lowercase());
    let built = both.there(&["image", "build", "--tag", &tag, "--build-arg", "WORD=built-there", "--no-cache"]).ok();
    assert_eq!(built.text(), format!("{tag}\n"));
    assert!(built.stderr.contains("RUN echo"), "{}", built.stderr);
    both.same(&["--json", "image", "ls"]);
    assert!(both.there(&["image", "ls"]).ok().text().contains(&tag.replace(":1", "")));
    both.there(&["up", "--image", &tag, "--pull", "never"]).ok();
    assert_eq!(both.sandbox.sh("cat /built").trim(), "built-there");
    // It is in use.
    assert_eq!(both.same(&["--json", "image", "rm", &tag]).code, 1);
    assert_eq!(both.there(&["--json", "image", "prune"]).ok().text(), "[]\n");
    both.there(&["rm", "--force", &both.sandbox.id()]).ok();
    assert_eq!(both.there(&["image", "prune"]).ok().text(), format!("{tag} removed\n"));
    for args in [
        &["--json", "image", "rm", "wharf-no-such", "../health"][..],
        &["--json", "image", "pull", "127.0.0.1:1/nothing:1"],
        &["--json", "image", "build", "/no/such/folder"],
        &["--json", "image", "build", "--build-arg", "nonsense"],
    ] {
        assert_ne!(both.same(args).code, 0, "{args:?}");
    }
    let none = both.there(&["--json", "image", "build", "--file", "none"]);
    assert_eq!((none.code, none.error()["code"].as_str()), (2, Some("bad-request")), "{}", none.stderr);
    let far = both.sandbox.run(&["--json", "--server", "https://127.0.0.1:1", "image", "build"]);
    assert_eq!((far.code, far.error()["code"].as_str()), (2, Some("bad-request")), "{}", far.stderr);
}

#[test]
fn snapshots_are_kept_restored_and_removed_by_a_service() {
    let both = Both::new();
    let volume = format!("data-{}", both.sandbox.name());
    both.there(&["up", "--image", BASE, "--mount", &format!("{volume}:/data")]).ok();
    both.sandbox.sh("echo layer > /kept; echo volume > /data/file");
    let name = format!("{}/before", both.sandbox.id());
    assert_eq!(both.there(&["snapshot", "create", "--name", "before"]).ok().text(), format!("{name}\n"));
    both.same(&["--json", "snapshot", "ls"]);
    both.same(&["--json", "snapshot", "ls", "project"]);
    let restored = both.there(&["--json", "snapshot", "restore", &name, "--as", "again", "-e", "MORE=1"]).ok().json();
    assert_eq!(restored["name"], "again");
    let again = restored["id"].as_str().unwrap();
    let read = both.there(&["exec", again, "--", "sh", "-c", "cat /kept /data/file; echo $MORE"]).ok();
    assert_eq!(read.text(), "layer\nvolume\n1\n");
    for args in [
        &["--json", "snapshot", "create", "--name", "before"][..],
        &["--json", "snapshot", "create", "nobody"],
        &["--json", "snapshot", "ls", "nobody"],
        &["--json", "snapshot", "restore", "no/such"],
        &["--json", "snapshot", "restore", &name, "-e", "NO_SUCH_VARIABLE"],
        &["--json", "snapshot", "rm", "no/such"],
    ] {
        assert_ne!(both.same(args).code, 0, "{args:?}");
    }
    both.there(&["down", again, "--volumes"]).ok();
    assert_eq!(both.there(&["snapshot", "rm", &name]).ok().text(), format!("{name} removed\n"));
    assert_eq!(both.there(&["--json", "snapshot", "ls"]).ok().text(), "[]\n");
    both.there(&["down", "--volumes"]).ok();
}
