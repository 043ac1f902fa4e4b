use super::{airline, broken, parse};

#[test]
fn a_brokers_user_is_one_agent_or_person() {
    let directory = parse(&airline()).directory;
    let agent = directory.agent_of_user("agent-airline").unwrap();
    assert_eq!(
        (agent.source().as_str(), agent.owner.as_deref()),
        ("/agents/airline-assistant", Some("mara"))
    );
    assert_eq!(directory.reviewer_of_user("reviewer-sam").unwrap().id, "sam");
    assert_eq!(directory.auditor_of_user("auditor-ada").unwrap().id, "ada");
    assert!(directory.operator("olga").is_some() && directory.operator("sam").is_none());
    for user in ["reviewer-sam", "auditor-ada", "compliance-cora", "unknown", ""] {
        assert!(directory.agent_of_user(user).is_none(), "{user}");
    }
    for user in ["agent-airline", "auditor-ada", "compliance-cora", "unknown"] {
        assert!(directory.reviewer_of_user(user).is_none(), "{user}");
    }
    assert!(directory.auditor_of_user("reviewer-sam").is_none());
    assert_eq!((directory.agents().len(), directory.reviewers().len()), (1, 2));
    assert_eq!((directory.auditors().len(), directory.compliance().len()), (1, 1));
    assert_eq!(directory.groups(), ["supervisors", "service-audit"]);
}

#[test]
fn a_bad_directory_is_refused_with_line_and_help() {
    for (from, to, wanted) in [
        ("id: rita", "id: sam", "directory.yaml:9: the id \"sam\" is already used in line 8; give"),
        ("id: ada", "id: sam", "directory.yaml:12: the id \"sam\" is already used in line 8; give"),
        ("id: rita", "id: Rita", "directory.yaml:9: \"Rita\" is not the id of a person; use 1 to 64"),
        (
            "reviewer-rita",
            "agent-airline",
            "directory.yaml:9: the AMQP user \"agent-airline\" is used twice; give",
        ),
        (
            "reviewer-rita",
            "countersign-router",
            "directory.yaml:9: the AMQP user \"countersign-router\" is reserved for Countersign's own processes; choose",
        ),
        ("reviewer-rita", "'a b'", "directory.yaml:9: \"a b\" is not the name of an AMQP user; use"),
        (
            "groups: [supervisors], public_keys: []}",
            "groups: [bosses], public_keys: []}",
            "directory.yaml:8: \"sam\" serves the unknown group \"bosses\"; declare",
        ),
        (
            "public_keys: []",
            "public_keys: [abc]",
            "directory.yaml:8: \"abc\" is not an Ed25519 public key; write",
        ),
        (
            "groups: [supervisors, service-audit]",
            "groups: [supervisors, supervisors, service-audit]",
            "declared twice",
        ),
        ("owner: mara", "owners: mara", "directory.yaml:5: unknown field"),
    ] {
        let problems = broken("directory.yaml", from, to);
        assert!(problems.contains(wanted), "{to}:\n{problems}");
    }
}

#[test]
fn a_registered_key_is_a_point_on_the_curve() {
    let key = "public_keys: [\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"]";
    assert_eq!(broken("directory.yaml", "public_keys: []", key), "");
}
