//! After create, the engine's report is compared with the decision; a difference removes the container.

use crate::support::fake_daemon::lying;
use crate::support::sandbox::Sandbox;

#[test]
fn an_engine_that_made_something_else_than_was_decided_keeps_no_container() {
    let sandbox = Sandbox::new();
    sandbox.config("[workspace]\nuser = \"1000\"\n");
    for (number, (truth, lie, field)) in [
        ("\"Privileged\":false", "\"Privileged\":true ", "security.capabilities"),
        ("CHOWN", "BPFFS", "security.capabilities"),
        ("\"ReadonlyRootfs\":false", "\"ReadonlyRootfs\":true ", "security.read_only_root"),
        ("no-new-privileges", "no-old-privileges", "security.no_new_privileges"),
        ("\"PidsLimit\":512", "\"PidsLimit\":999", "resources.pids"),
        ("\"Memory\":2147483648", "\"Memory\":9147483648", "resources.memory"),
        ("\"NanoCpus\":2000000000", "\"NanoCpus\":9000000000", "resources.cpus"),
        ("\"User\":\"1000\"", "\"User\":\"root\"", "user"),
        ("\"Target\":\"/workspace\"", "\"Target\":\"/elsewhere\"", "mounts./workspace"),
        ("WHARF_MANAGED=true", "WHARF_MANAGED=else", "env.WHARF_MANAGED"),
    ]
    .into_iter()
    .enumerate()
    {
        let endpoint = lying(&sandbox.path(&format!("lie-{number}.sock")), truth, lie);
        let refused = sandbox.refused(&["--engine", &endpoint, "up"], 1, "not-as-decided", &[field]);
        assert!(refused.stderr.contains("removed"), "{}", refused.stderr);
        assert!(sandbox.own_containers().is_empty(), "{field}");
    }
}
