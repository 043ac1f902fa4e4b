use chrono::{DateTime, Utc};
use countersign_core::person::Persons;
use serde_json::json;

use super::{airline, broken, lines, parse};
use crate::{Configuration, Facts, KeyRefusal, Sources, add_missing_keys, registered_keys};

#[test]
fn a_broker_user_belongs_to_one_agent_or_person() {
    let directory = parse(&airline()).directory;
    let agent = directory.agent_of_user("agent-airline").unwrap();
    assert_eq!(
        (agent.source().as_str(), agent.owner.as_deref()),
        ("/agents/airline-assistant", Some("mara"))
    );
    assert_eq!(directory.sender_of_user("reviewer-sam").unwrap().id(), "sam");
    assert_eq!(directory.auditor_of_user("auditor-ada").unwrap().id, "ada");
    assert!(directory.operator("olga").is_some() && directory.operator("sam").is_none());
    assert_eq!(directory.operator_of_login("operator_olga").unwrap().id, "olga");
    assert!(directory.operator_of_login("olga").is_none());
    for user in ["reviewer-sam", "auditor-ada", "compliance-cora", "unknown", ""] {
        assert!(directory.agent_of_user(user).is_none(), "{user}");
    }
    for user in ["agent-airline", "auditor-ada", "compliance-cora", "unknown"] {
        assert!(directory.sender_of_user(user).is_none(), "{user}");
    }
    assert!(directory.auditor_of_user("reviewer-sam").is_none());
    assert_eq!((directory.agents().len(), directory.reviewers().len()), (1, 4));
    assert_eq!((directory.auditors().len(), directory.compliance().len()), (2, 1));
    assert_eq!(
        directory.groups(),
        ["supervisors", "finance", "duty-managers", "service-audit", "compensation-audit"]
    );
}

#[test]
fn a_bad_directory_is_refused_with_line_and_help() {
    for (from, to, wanted) in [
        ("id: rita", "id: sam", "directory.yaml:9: the id \"sam\" is already used on line 8; give"),
        ("id: ada", "id: sam", "directory.yaml:18: the id \"sam\" is already used on line 8; give"),
        ("id: rita", "id: Rita", "directory.yaml:9: \"Rita\" is not a valid id of a person; use 1 to 64"),
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
        ("reviewer-rita", "'a b'", "directory.yaml:9: \"a b\" is not a valid name of an AMQP user; use"),
        (
            "groups: [supervisors], public_keys: []}",
            "groups: [bosses], public_keys: []}",
            "directory.yaml:8: \"sam\" belongs to the undeclared group \"bosses\"; declare",
        ),
        (
            "public_keys: []",
            "public_keys: [abc]",
            "directory.yaml:8: \"abc\" is not an Ed25519 public key; write",
        ),
        ("groups: [supervisors, finance,", "groups: [supervisors, supervisors, finance,", "declared twice"),
        ("owner: mara", "owners: mara", "directory.yaml:5: unknown field"),
        ("amqp_user: reviewer-dora, ", "", "directory.yaml:11: \"dora\" has no way to send messages; add"),
        (
            "reviewers: [sam, rita, fay]",
            "reviewers: [nobody]",
            "directory.yaml:15: an app speaks for \"nobody\", who is not a reviewer; list",
        ),
        ("id: service-desk", "id: sam", "directory.yaml:15: the id \"sam\" is already used on line 8; give"),
        (
            "owner: mara}",
            "owner: mara, versions: [\"1\", \"1\"]}",
            "directory.yaml:5: the version \"1\" is listed twice; remove",
        ),
    ] {
        let problems = broken("directory.yaml", from, to);
        assert!(problems.contains(wanted), "{to}:\n{problems}");
    }
}

#[test]
fn the_person_and_the_login_of_an_operator_are_checked() {
    for (from, to, wanted) in [
        (
            "{id: olga, db_user: operator_olga}",
            "{id: olga, person: Sam}",
            "directory.yaml:24: \"Sam\" is not a valid id of a person; use 1 to 64",
        ),
        (
            "{id: olga, db_user: operator_olga}",
            "{id: olga, person: service-desk}",
            "directory.yaml:24: the person \"service-desk\" is an app; name",
        ),
        (
            "db_user: operator_olga",
            "db_user: countersign_router",
            "directory.yaml:24: the database login \"countersign_router\" is reserved for Countersign's own roles; make",
        ),
        (
            "db_user: operator_olga",
            "db_user: operator_omar",
            "directory.yaml:25: the database login \"operator_omar\" is used twice; give",
        ),
        (
            "owner: mara}",
            "owner: mara, versions: [\"\"]}",
            "directory.yaml:5: \"\" is not a version that an agent can state; write",
        ),
        ("db_user: operator_olga", "db_user: \"\"", "directory.yaml:24: \"\" is not a database login; write"),
        (
            "public_keys: []",
            "public_keys: [{x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo, until: never}]",
            "directory.yaml:8: until \"never\" is not a time: ",
        ),
    ] {
        let problems = broken("directory.yaml", from, to);
        assert!(problems.contains(wanted), "{to}:\n{problems}");
    }
}

#[test]
fn an_agent_has_the_versions_that_are_listed_or_any() {
    let agent = |entry: &str| {
        let mut sources = airline();
        sources.directory = sources.directory.replacen("owner: mara}", &format!("owner: mara{entry}}}"), 1);
        parse(&sources).directory.agent("airline-assistant").unwrap().clone()
    };
    assert!(agent("").lists("1") && agent("").lists(""));
    let listed = agent(", versions: [\"1\", 2.10]");
    assert!(listed.lists("1") && listed.lists("2.10") && !listed.lists("3") && !listed.lists(""));
    assert!(!agent(", versions: []").lists("1"));
}

#[test]
fn the_directory_says_which_ids_are_one_person() {
    let with = |operators: &str| {
        let mut sources = airline();
        sources.directory = sources.directory.replacen("{id: olga, db_user: operator_olga}", operators, 1);
        sources
    };
    let directory = parse(&with("{id: olga, person: sam}\n  - {id: otto, person: otto-doe}")).directory;
    assert!(directory.same("olga", "sam") && directory.same("otto", "otto-doe"));
    assert!(!directory.same("olga", "otto") && !directory.same("olga", "rita"));
    assert_eq!(directory.person("olga"), "sam");
    assert_eq!(directory.operator("otto").unwrap().person, "otto-doe");
    // Nobody is in the directory under this name.
    assert!(directory.same("mara", "mara") && !directory.same("mara", "sam"));
    // `olga` would be two people: who has the id, and whose person it is.
    let ambiguous = with("{id: olga, person: sam}\n  - {id: otto, person: olga}");
    let problems = lines(&Configuration::parse(&ambiguous).err().unwrap_or_default());
    assert!(
        problems.contains(
            "the person \"olga\" is also the id of an entry of the person \"sam\"; write person: sam"
        ),
        "{problems}"
    );
}

#[test]
fn one_person_is_not_two_members_of_a_group() {
    let mut sources = airline();
    let two = "require: [{group: supervisors, count: 2}, {group: finance}]";
    sources.policy = sources.policy.replacen("require: [{group: supervisors}, {group: finance}]", two, 1);
    parse(&sources);
    sources.directory = sources.directory.replacen("{id: rita", "{id: rita, person: sam", 1);
    let problems = lines(&Configuration::parse(&sources).err().unwrap_or_default());
    assert!(problems.contains("the group \"supervisors\" needs 2 reviewers and has 1"), "{problems}");
}

const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn with_key_of_sam(entry: &str) -> Sources {
    let mut sources = airline();
    sources.directory = sources.directory.replacen("public_keys: []", &format!("public_keys: [{entry}]"), 1);
    sources
}

#[test]
fn a_key_is_accepted_within_its_validity_and_until_it_is_revoked() {
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let validity = |entry: &str, now: &str| {
        let directory = parse(&with_key_of_sam(entry)).directory;
        directory.reviewer("sam").unwrap().public_keys[0].check_validity(at(now))
    };
    let now = "2026-06-01T00:00:00Z";
    assert_eq!(validity(X, now), Ok(()));
    let dated = |times: &str| format!("{{x: {X}, {times}}}");
    assert_eq!(validity(&dated("from: '2026-06-01T00:00:00Z'"), now), Ok(()));
    assert_eq!(validity(&dated("from: '2026-06-01T00:00:01Z'"), now), Err(KeyRefusal::NotValid));
    assert_eq!(validity(&dated("until: '2026-06-01T00:00:01Z'"), now), Ok(()));
    assert_eq!(validity(&dated("until: '2026-06-01T00:00:00Z'"), now), Err(KeyRefusal::NotValid));
    assert_eq!(validity(&dated("revoked_at: '2026-06-01T00:00:00Z'"), now), Err(KeyRefusal::Revoked));
    assert_eq!(validity(&dated("revoked_at: '2026-06-01T00:00:01Z'"), now), Ok(()));
}

#[test]
fn authority_covers_its_conditions_and_its_period() {
    let entry = "authority: [{when: 'decimal(action.arguments.amount) <= decimal(\"50\")', from: '2026-01-01T00:00:00Z', \
                 until: '2027-01-01T00:00:00Z'}], public_keys: []";
    let mut sources = airline();
    sources.directory = sources.directory.replacen("public_keys: []", entry, 1);
    let configuration = parse(&sources);
    let tool = configuration.tools.get("send_certificate").unwrap();
    let may = |amount: &str, now: &str| {
        let action = json!({"tool": "send_certificate", "arguments": {"amount": amount}});
        let facts = Facts { action: &action, agent: &json!({}), tool, now: now.parse().unwrap() };
        configuration.directory.reviewer("sam").unwrap().within_authority(&facts)
    };
    assert_eq!(may("50", "2026-06-01T00:00:00Z"), Ok(()));
    assert!(may("50.01", "2026-06-01T00:00:00Z").unwrap_err().contains("covers only"));
    assert!(
        may("many", "2026-06-01T00:00:00Z").is_err(),
        "a condition that cannot be evaluated counts as false"
    );
    for outside in ["2025-12-31T23:59:59Z", "2027-01-01T00:00:00Z"] {
        assert!(may("50", outside).unwrap_err().contains("not in force"), "{outside}");
    }
    assert!(configuration.directory.reviewer("rita").unwrap().authority.is_empty());
}

#[test]
fn a_key_has_one_owner() {
    let mut sources = airline();
    sources.directory = sources.directory.replace("public_keys: []", &format!("public_keys: [{X}]"));
    let problems = lines(&Configuration::parse(&sources).err().unwrap_or_default());
    assert!(problems.contains("\"sam\" and \"rita\" share the public key"), "{problems}");
}

#[test]
fn an_app_speaks_for_its_reviewers_who_need_no_own_user() {
    let mut sources = airline();
    sources.directory = sources
        .directory
        .replace("amqp_user: reviewer-fay, ", "")
        .replace("[sam, rita, fay], public_keys: []", &format!("[sam, rita, fay], public_keys: [{X}]"));
    let directory = parse(&sources).directory;
    let app = directory.sender_of_user("app-service-desk").unwrap();
    assert!(app.id() == "service-desk" && app.speaks_for("fay") && !app.speaks_for("dora"));
    assert_eq!(app.keys().len(), 1);
    let groups = directory.groups_of(app);
    assert_eq!(groups.iter().map(String::as_str).collect::<Vec<_>>(), ["finance", "supervisors"]);
    let rita = directory.sender_of_user("reviewer-rita").unwrap();
    assert!(rita.speaks_for("rita") && !rita.speaks_for("sam") && rita.keys().is_empty());
    assert_eq!(directory.senders().count(), 4, "fay has no user, the app has");
}

#[test]
fn keys_are_added_to_members_without_any() {
    let (with, without) = (with_key_of_sam(X).directory, airline().directory);
    let keys = registered_keys(&with).unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["sam"]);
    let (text, given) = add_missing_keys(&without, &keys).unwrap();
    assert_eq!(given, ["sam"]);
    let given = parse(&Sources { directory: text, ..airline() }).directory;
    assert_eq!(given.reviewer("sam").unwrap().public_keys.len(), 1);
    assert_eq!(add_missing_keys(&with, &keys).unwrap(), (with, vec![]));
}
