//! The forms of docker's flags, for users who type them from habit.

use crate::service::remote::both_ways;

#[test]
fn logs_takes_the_times_and_the_tail_of_docker() {
    both_ways(|sandbox| {
        sandbox.run(&["up", "-q", "--", "sh", "-c", "echo once; exec sleep 600"]).ok();
        crate::support::process::until("it is written", || sandbox.run(&["logs"]).text() == "once\n");
        let now = jiff::Timestamp::now();
        let (past, later) = ((now.as_second() - 60).to_string(), (now.as_second() + 60).to_string());
        let day = now.to_zoned(jiff::tz::TimeZone::UTC).yesterday().unwrap().date().to_string();
        for (args, shown) in [
            (["--since", &past], "once\n"),
            (["--since", &format!("{past}.5")], "once\n"),
            (["--since", &later], ""),
            (["--until", &past], ""),
            (["--since", &day], "once\n"),
            (["--since", &format!("{day}T00:00:00")], "once\n"),
            (["--tail", "all"], "once\n"),
            (["--tail", "0"], ""),
        ] {
            assert_eq!(sandbox.run(&[&["logs"], &args[..]].concat()).ok().text(), shown, "{args:?}");
        }
        let wrong = sandbox.run(&["logs", "--tail", "some"]);
        assert!(wrong.code == 2 && wrong.stderr.contains("nor 'all'"), "{}", wrong.stderr);
    });
}
