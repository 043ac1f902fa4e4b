//! Permissions on the broker: exactly what each user needs, from the directory.

use countersign_policy::Directory;

use crate::topology::{
    ANSWERS, APPROVALS, AUDIT_STREAM, AUDITS, COMMANDS, DECISIONS, EXECUTION, FEEDBACK, FINDINGS, OUTCOMES,
    QUARANTINE, SETTLED, actions_exchange, answers_queue, approvals_queue, audits_queue, commands_queue,
    feedback_queue, outcomes_queue,
};

/// A broker user's permissions: the exchanges it may write to and the queues it may read. Only the operator's own user may
/// configure anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The AMQP user.
    pub user: String,
    /// Exchanges it may publish to.
    pub write: Vec<String>,
    /// Queues it may consume. An asterisk at the end stands for any id.
    pub read: Vec<String>,
}

impl Access {
    fn new(user: &str, write: &[&str], read: Vec<String>) -> Self {
        Self { user: user.into(), write: write.iter().map(|&name| name.to_owned()).collect(), read }
    }

    /// Whether it may consume this queue.
    pub fn reads(&self, queue: &str) -> bool {
        self.read.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => queue.starts_with(start),
            None => name == queue,
        })
    }

    /// The write permission as RabbitMQ takes it: an anchored regular expression.
    pub fn write_pattern(&self) -> String {
        pattern(&self.write)
    }

    /// The read permission as RabbitMQ takes it.
    pub fn read_pattern(&self) -> String {
        pattern(&self.read)
    }
}

/// A pattern that matches exactly these names; an empty one matches nothing.
fn pattern(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let escaped = |name: &String| name.replace('.', "\\.").replace('*', "[a-z0-9._-]+");
    let escaped: Vec<String> = names.iter().map(escaped).collect();
    format!("^({})$", escaped.join("|"))
}

/// The AMQP user of one of our own processes.
pub fn role_user(role: &str) -> String {
    format!("countersign-{role}")
}

/// Our own processes. The executor may also write to the exchanges of tool services; the empty name is the
/// default exchange, which RabbitMQ's permissions call `amq.default`.
pub fn roles(tool_exchanges: impl IntoIterator<Item = String>) -> Vec<Access> {
    let tools = tool_exchanges.into_iter().map(|name| match name.as_str() {
        "" => "amq.default".to_owned(),
        _ => name,
    });
    let tools: std::collections::BTreeSet<String> = tools.collect();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    // Also of agents who have left the directory: what they sent before must not lie there for ever.
    let actions = actions_exchange("*");
    let mut roles = vec![
        Access::new(
            &role_user("router"),
            &[OUTCOMES, APPROVALS, ANSWERS, FEEDBACK, EXECUTION, SETTLED, COMMANDS],
            [names(&[DECISIONS, QUARANTINE]), vec![actions, commands_queue("router")]].concat(),
        ),
        Access::new(
            &role_user("executor"),
            &[OUTCOMES, SETTLED, COMMANDS],
            [names(&[EXECUTION]), vec![commands_queue("executor")]].concat(),
        ),
        Access::new(
            &role_user("sampler"),
            &[OUTCOMES, SETTLED, AUDITS, FEEDBACK, COMMANDS],
            [names(&[SETTLED, FINDINGS]), vec![commands_queue("sampler")]].concat(),
        ),
        Access::new(&role_user("recorder"), &[AUDIT_STREAM], names(&[AUDIT_STREAM])),
    ];
    roles[1].write.extend(tools);
    roles
}

/// Everyone in the directory.
pub fn people(directory: &Directory) -> Vec<Access> {
    let mut all = Vec::new();
    for agent in directory.agents() {
        let queues = vec![outcomes_queue(&agent.id), feedback_queue(&agent.id)];
        all.push(Access::new(&agent.amqp_user, &[&actions_exchange(&agent.id)], queues));
    }
    for sender in directory.senders() {
        let groups = directory.groups_of(sender).into_iter().map(|group| approvals_queue(&group));
        let queues = groups.chain([answers_queue(sender.id())]).collect();
        all.extend(sender.amqp_user().map(|user| Access::new(user, &[DECISIONS], queues)));
    }
    for auditor in directory.auditors() {
        let queues = auditor.groups.iter().map(|group| audits_queue(group)).collect();
        all.extend(auditor.amqp_user.as_ref().map(|user| Access::new(user, &[FINDINGS], queues)));
    }
    for reader in directory.compliance() {
        all.push(Access::new(&reader.amqp_user, &[], vec![AUDIT_STREAM.into()]));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::ACTIONS;

    #[test]
    fn a_pattern_matches_exactly_the_names() {
        let access = Access::new("a", &[], vec!["countersign.outcomes.a".into()]);
        assert_eq!(access.read_pattern(), r"^(countersign\.outcomes\.a)$");
        assert_eq!(access.write_pattern(), "");
        let access = Access::new("b", &[], vec![actions_exchange("*"), "countersign.decisions".into()]);
        assert_eq!(access.read_pattern(), r"^(countersign\.actions\.[a-z0-9._-]+|countersign\.decisions)$");
        assert!(access.reads("countersign.actions.a") && !access.reads("countersign.action"));
    }

    #[test]
    fn the_router_alone_writes_permits_and_no_process_writes_actions_or_decisions() {
        for access in roles([]) {
            let may = |exchange: &str| access.write.iter().any(|name| name == exchange);
            assert_eq!(may(EXECUTION), access.user == role_user("router"));
            assert!(!access.write.iter().any(|name| name.starts_with(ACTIONS)));
            assert!(!may(DECISIONS) && !may(FINDINGS));
        }
    }
}
